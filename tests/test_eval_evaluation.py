"""A model and held-out rows -> predictions, results and table."""

import json

import numpy as np
from test_eval_generate import REPORTS, make_row

from ct_rate_pairs.eval.evaluation import evaluate_reports
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def evaluate(rows, run_dir):
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    labels = np.zeros((3, 18), np.int8)
    return evaluate_reports(model, PairCollator(processor), rows, REPORTS, labels, run_dir, max_new_tokens=4)


def test_every_row_is_scored_beside_the_shuffled_and_the_trivial_ones(tmp_path):
    results = evaluate([make_row(seed, REPORTS[seed]) for seed in (0, 1, 2)], tmp_path)
    assert list(results) == ["model", "shuffled", "all_negative", "most_common", "all_positive"]
    assert {row["n"] for row in results.values()} == {3}
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_a_volume_that_stands_in_for_a_skipped_one_counts_once(tmp_path):
    rows = [make_row(seed, REPORTS[seed]) for seed in (0, 1, 1)]
    assert evaluate(rows, tmp_path)["model"]["n"] == 2
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2


def test_scans_of_one_patient_give_all_numbers_but_the_shuffled_row(tmp_path, capsys):
    results = evaluate([make_row(0, REPORTS[0])], tmp_path)
    assert "shuffled" not in results and results["model"]["n"] == 1
    assert "No row `shuffled`" in capsys.readouterr().out
