"""A model that opens its reports with a findings line: the line is kept, scored on its own, and never as text."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from helpers.eval_rows import REPORTS, make_row
from helpers.tree import SPACING

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.looking.report_matching import report_matching
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.predictions.store import (
    append_predictions,
    read_line_logits,
    read_lines,
    read_predictions,
    write_predictions,
)
from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.eval.scoring.operating_points import LineCalibration
from ct_rate_pairs.eval.tasks.report import evaluate_model, measure_looking, score_predictions
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS as NAMES
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.trainer import PairCollator, generation
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


LABELS = [label_report(report) for report in REPORTS]
LINES = [write_line(labels, "names") for labels in LABELS]
TRAINING = {"train_reports": REPORTS, "train_labels": np.array(LABELS)}


def make_scans(lines=LINES):
    """Rows of three scans whose reports open with these lines."""
    texts = [f"{line}\n{report}" if line else report for line, report in zip(lines, REPORTS, strict=True)]
    rows = [make_row(seed, text) | {"labels": LABELS[seed]} for seed, text in enumerate(texts)]

    def read(batch):
        chosen = [next(row for row in rows if row["volume"] == volume) for volume in batch["volume"]]
        return {name: [row[name] for row in chosen] for name in rows[0]}

    index = {name: [row[name] for row in rows] for name in ("volume", "prompt", "completion", "labels")}
    return Dataset.from_dict(index).with_transform(read)


@pytest.fixture(scope="module")
def model_and_collator():
    """A tiny model that has learnt the three lines and reports by heart, each by its own scan."""
    model, processor = make_tiny_qwen([*REPORTS, *LINES, "\n"], seed=0)
    collator = PairCollator(processor)
    batch = collator(list(make_scans()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(80):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), collator


@pytest.mark.slow
def test_line_and_report_are_kept_apart(tmp_path, model_and_collator):
    path, scans = tmp_path / "predictions.jsonl", make_scans()
    reports = dict(zip(scans.with_format(None)["volume"], REPORTS, strict=True))
    written = write_predictions(*model_and_collator, scans.select([0]), path, max_new_tokens=60)
    written = write_predictions(*model_and_collator, scans, path, max_new_tokens=60)
    assert written == read_predictions(path) == reports
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["line"], row["report"]) for row in rows] == list(zip(LINES, REPORTS, strict=True))
    assert read_lines(path) == dict(zip(reports, LINES, strict=True))
    assert generate_reports(*model_and_collator, scans, max_new_tokens=60, progress=False) == REPORTS


def test_the_line_of_the_reference_reaches_neither_prompt_nor_prediction(tmp_path, model_and_collator):
    turned = make_scans([LINES[1], None, "Abnormalities: none."])
    written = write_predictions(*model_and_collator, turned, tmp_path / "predictions.jsonl", max_new_tokens=60)
    assert list(written.values()) == REPORTS
    assert list(read_lines(tmp_path / "predictions.jsonl").values()) == LINES
    _, collator = model_and_collator
    prompts, others = (collator.prompts(list(scans)) for scans in (turned, make_scans([None] * 3)))
    assert prompts.keys() == others.keys() and all(torch.equal(prompts[name], others[name]) for name in prompts)


def test_a_line_in_the_report_of_another_program_is_taken_off_too(tmp_path):
    path = tmp_path / "theirs.jsonl"
    rows = [{"volume": f"train_{i}_a_1.nii.gz", "report": f"{LINES[i]}\n{REPORTS[i]}"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_predictions(path).values()) == REPORTS and list(read_lines(path).values()) == LINES


def test_the_words_of_another_program_that_only_look_like_a_line_are_kept(tmp_path):
    path, report = tmp_path / "theirs.jsonl", "异常：右肺结节。\n左侧胸腔积液。"
    path.write_text(json.dumps({"volume": "train_0_a_1.nii.gz", "report": report}) + "\n")
    assert list(read_predictions(path).values()) == [report] and read_lines(path) == {}


def test_a_report_that_is_kept_apart_from_its_line_is_read_as_it_stands(tmp_path):
    """So a damaged line is no part of it, and neither is a second line taken off."""
    path, written = tmp_path / "predictions.jsonl", f"{LINES[1]}\n{REPORTS[1]}"
    append_predictions(path, {"train_0_a_1.nii.gz": Written(f"Abnormality: hernia.\n{written}", False, True)})
    assert list(read_lines(path).values()) == ["Abnormality: hernia."]
    assert list(read_predictions(path).values()) == [written]


@pytest.mark.parametrize("kind", ["names", "none"])
def test_the_rows_say_whether_the_first_line_of_the_model_is_text(tmp_path, tree, kind, monkeypatch):
    written = "Abnormality: Emphysema.\nThe heart is large."
    monkeypatch.setattr(generation, "decode_with_marks", lambda tokenizer, tokens: written)
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    collator, path = PairCollator(processor), tmp_path / "predictions.jsonl"
    options = {"data_dir": str(tree), "split": "test", "spacing": SPACING, "findings_line": kind}
    scans = load_dataset("ct_rate_pairs", **options).select([0, 1])
    reports = ["The heart is large." if kind == "names" else written] * 2
    assert list(write_predictions(model, collator, scans, path, max_new_tokens=4).values()) == reports
    assert list(read_predictions(path).values()) == reports
    assert list(read_lines(path).values()) == (["Abnormality: Emphysema."] * 2 if kind == "names" else [])
    assert generate_reports(model, collator, scans, max_new_tokens=4, progress=False) == reports


def test_references_and_their_fingerprint_are_those_of_rows_without_lines():
    with_lines, without = make_scans(), make_scans([None] * 3)
    assert references_of(with_lines)[1] == references_of(without)[1] == REPORTS
    assert fingerprint(with_lines) == fingerprint(without)
    lookalikes = ["异常：右肺结节。", "Abnormalities: see below.", "Abnormality: none."]
    kept = references_of(make_scans(lookalikes))[1]
    assert kept == [f"{line}\n{report}" for line, report in zip(lookalikes, REPORTS, strict=True)]


@pytest.mark.slow
def test_lines_are_scored_on_their_own_and_never_as_text(tmp_path, capsys, model_and_collator):
    scans = make_scans()
    predictions = write_predictions(*model_and_collator, scans, tmp_path / "predictions.jsonl", max_new_tokens=60)
    lines = read_lines(tmp_path / "predictions.jsonl")
    results = evaluate_model(
        *model_and_collator, predictions, scans, tmp_path, lines=lines, looking_scans=0, max_new_tokens=60, **TRAINING
    )
    plain = score_predictions(predictions, make_scans([None] * 3), **TRAINING)
    own = {name for name in results["model"] if name.startswith("line_")}
    assert {name: value for name, value in results["model"].items() if name in plain["model"]} == plain["model"]
    assert results["model"]["bleu4"] > 0.999 and results["model"]["line_f1_micro"] == 1
    assert results["model"]["line_agreement"] == 1 and results["model"]["line_malformed"] == 0
    assert own and not any(name in row for row in (plain["model"], results["all_positive"]) for name in own)
    assert "findings lines: Coverage 1.000, Precision 1.000" in capsys.readouterr().out
    challenge = json.loads((tmp_path / "generated_reports.json").read_text())
    assert [entry["report"] for entry in challenge["generated_reports"]] == REPORTS


@pytest.mark.slow
def test_lines_are_set_by_their_probabilities_and_what_is_made_of_it_is_measured(tmp_path, capsys, model_and_collator):
    """The calibration is that of a model that is sure of a hernia, and of nothing else."""
    scans, path = make_scans(), tmp_path / "predictions.jsonl"
    sure = {label: 99.0 if label == "Hiatal hernia" else -99.0 for label in NAMES}
    calibration = LineCalibration(dict.fromkeys(NAMES, 1.0), sure, {label: [0.01, 0.5, 0.9] for label in NAMES})
    sizes = {"max_new_tokens": 60, "operating_point": calibration.at("f1")}
    predictions = write_predictions(*model_and_collator, scans, path, **sizes)
    hernia = write_line([int(label == "Hiatal hernia") for label in NAMES], "names")
    assert list(read_lines(path).values()) == [hernia] * 3
    logits = read_line_logits(path)
    for row, labels in zip(logits.values(), LABELS, strict=True):  # of the lines that the model itself writes
        assert (np.array(row) > 0).tolist() == [bool(value) for value in labels]
    seen = {"lines": read_lines(path), "line_logits": logits, "line_calibration": calibration}
    options = {"looking_scans": 0, **sizes, **TRAINING}
    model = evaluate_model(*model_and_collator, predictions, scans, tmp_path, **seen, **options)["model"]
    assert model["operating_point"] == "f1" and model["line_followed"] == model["line_agreement"]
    # The logits of the three scans tell apart who has a label and who has not.
    assert model["line_auroc"] == 1 and model["line_unknown"] == 0 and model["line_calibrated"]
    assert model["operating_curve"]["f1"]["coverage"] == model["line_coverage"]
    assert (tmp_path / "figures" / "operating_curve.png").stat().st_size
    printed = capsys.readouterr().out
    assert "set at the operating point f1; reports that follow their line" in printed
    assert "lines at sensitivity 0.95: Coverage" in printed


@pytest.mark.slow
def test_on_other_patients_volumes_lines_are_set_at_the_same_point(model_and_collator):
    """Otherwise `shuffled` would be another model than `model`, and its loss of Coverage no matter of the volumes."""
    sure = {label: 99.0 if label == "Hiatal hernia" else -99.0 for label in NAMES}
    calibration = LineCalibration(dict.fromkeys(NAMES, 1.0), sure, {label: [0.01, 0.5, 0.9] for label in NAMES})
    at_point = {"max_new_tokens": 60, "operating_point": calibration.at("f1")}
    _, swapped = measure_looking(*model_and_collator, make_scans(), **at_point)
    hernia = write_line([int(label == "Hiatal hernia") for label in NAMES], "names")
    assert [written.line for written in swapped.values()] == [hernia] * 3


def test_a_report_that_is_matched_is_read_with_its_line(model_and_collator):
    matching = report_matching(*model_and_collator, make_scans(), num_false=1, progress=False)
    assert matching["top1"] == 1
