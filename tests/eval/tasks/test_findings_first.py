"""A model that opens its reports with a findings line: the line is kept, scored on its own, and never as text."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.eval_rows import REPORTS, make_row

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.looking.report_matching import report_matching
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.predictions.store import (
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
from ct_rate_pairs.trainer import PairCollator
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


def test_a_line_in_the_report_of_another_program_is_taken_off_too(tmp_path):
    path = tmp_path / "theirs.jsonl"
    rows = [{"volume": f"train_{i}_a_1.nii.gz", "report": f"{LINES[i]}\n{REPORTS[i]}"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_predictions(path).values()) == REPORTS and list(read_lines(path).values()) == LINES


def test_references_and_their_fingerprint_are_those_of_rows_without_lines():
    with_lines, without = make_scans(), make_scans([None] * 3)
    assert references_of(with_lines)[1] == references_of(without)[1] == REPORTS
    assert fingerprint(with_lines) == fingerprint(without)


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
    assert model["line_auroc"] is None or 0 <= model["line_auroc"] <= 1
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
