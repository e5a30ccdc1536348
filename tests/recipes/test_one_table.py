"""Models of every kind stand in one table, over the same scans: the claim of docs/other_models.md."""

import json

import pytest
from datasets import load_dataset
from helpers.loopback_endpoint import LoopbackEndpoint

from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.recipes import evaluate_reports, table1, train_matcher
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
    (tmp_path / "theirs.json").write_text(json.dumps(dict(zip(volumes, references, strict=True))))
    theirs = ("--predictions", str(tmp_path / "theirs.json"), "--made_by", "RadFM@0a1b2c3")
    evaluate_reports.main([*theirs, *data, "--output_dir", str(tmp_path / "radfm")])
    with LoopbackEndpoint() as server:
        served = (
            "--model_name_or_path",
            "openai:some/model",
            "--endpoint",
            server.url,
            "--i_have_deidentified",
            "true",
        )
        evaluate_reports.main([*served, *data, *slices, "--output_dir", str(tmp_path / "served")])

    names = ("qwen", "own", "matcher", "radfm", "served")
    table1.main([*(f"{name}={tmp_path / name}" for name in names), "--output_file", str(tmp_path / "table.md")])
    lines = (tmp_path / "table.md").read_text().splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert all(cells[name][0] == "24" for name in names)
    assert cells["radfm"][1].startswith("1.000") and cells["own"][1] != "-"  # references, as reports; Coverage
    assert cells["matcher"][1] == "-" and cells["matcher"][-1] != "-" and cells["qwen"][-1] == "-"
    assert {"all_negative", "most_common", "all_positive"} <= cells.keys()
