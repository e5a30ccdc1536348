"""
Models of every kind stand in one table, over the same scans, also if one of them has no report of some scan: the claim
of docs/other_models.md.
"""

import csv

import pytest
from datasets import load_dataset
from helpers.loopback_endpoint import LoopbackEndpoint, answer

from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.recipes import evaluate_matcher, evaluate_reports, export, table1, train_matcher
from ct_rate_pairs.trainer.encoder_decoder import make_encoder_decoder
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.mark.slow
def test_one_table_over_a_vlm_an_encoder_decoder_a_dual_encoder_a_file_and_an_endpoint(tmp_path, phantom):
    data, slices = ("--data_dir", str(phantom)), ("--spacing", "4.5", "4.5", "6.5", "--max_new_tokens", "4")
    test = load_dataset("ct_rate_pairs", data_dir=str(phantom), split="test")
    volumes, references, _ = references_of(test)
    texts, size = [*references, "Write the report."], (56, 84)
    own = make_encoder_decoder("vit", "biogpt", texts, size, 10)
    for name, parts in {
        "qwen": make_tiny_qwen(texts, hidden_size=32, num_layers=1, vision_depth=1),
        "own": own,
    }.items():
        for part in parts:
            part.save_pretrained(tmp_path / name)
        measured = ("--model_name_or_path", str(tmp_path / name), "--looking_scans", "0", "--max_eval_samples", "24")
        evaluate_reports.main([*measured, *data, *slices])
    batch = ("--per_device_train_batch_size", "4", "--max_steps", "1", "--save_strategy", "no")
    train_matcher.main(["--config", "matcher", *data, *batch, "--output_dir", str(tmp_path / "matcher")])
    with (tmp_path / "eval_caption.csv").open("w") as file:  # as M3D-LaMed's script writes it
        rows = (
            {"Question": "?", "Ground Truth": name, "pred": text}
            for name, text in zip(volumes, references, strict=True)
        )
        writer = csv.DictWriter(file, ["Question", "Ground Truth", "pred"])
        writer.writeheader()
        writer.writerows(rows)
    theirs = ("--predictions", str(tmp_path / "eval_caption.csv"), "--made_by", "M3D-LaMed@0a1b2c3")
    evaluate_reports.main([*theirs, *data, "--output_dir", str(tmp_path / "m3d")])
    with LoopbackEndpoint(answer("", refusal="I will not.")) as server:
        at = ("--endpoint", server.url, "--i_have_deidentified", "true", "--output_dir", str(tmp_path / "served"))
        evaluate_reports.main(["--model_name_or_path", "openai:some/model", *at, *data, *slices])

    names, written = ("qwen", "own", "matcher", "m3d", "served"), ("--output_file", str(tmp_path / "table.md"))
    with pytest.raises(ValueError, match="differ in `n` .*served: 23.*--scans_of RUN"):
        table1.main([*(f"{name}={tmp_path / name}" for name in names), *written])
    shared = (*data, "--scans_of", str(tmp_path / "served"))
    runs = {"qwen": tmp_path / "qwen/evaluation", "own": tmp_path / "own/evaluation", "m3d": tmp_path / "m3d"}
    for name, run in runs.items():
        measured = ("--predictions", str(run / "predictions.jsonl"), "--output_dir", str(tmp_path / "shared" / name))
        evaluate_reports.main([*measured, *shared])
    vectors = str(tmp_path / "vectors")
    export.main(["--embeddings", str(tmp_path / "matcher"), *data, "--output_dir", vectors])
    of_matcher = ("--embeddings", vectors, "--made_by", "own@1", "--output_dir", str(tmp_path / "shared/matcher"))
    evaluate_matcher.main([*of_matcher, *shared])
    places = {name: tmp_path / "shared" / name for name in names} | {"served": tmp_path / "served"}
    table1.main([*(f"{name}={place}" for name, place in places.items()), *written])
    lines = (tmp_path / "table.md").read_text().splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert all(cells[name][0] == "23" for name in names)
    assert cells["m3d"][1].startswith("1.000") and cells["own"][1] != "-"  # references, as reports; Coverage
    assert cells["matcher"][1] == "-" and cells["matcher"][-1] != "-" and cells["qwen"][-1] == "-"
    assert {"all_negative", "most_common", "all_positive"} <= cells.keys()
