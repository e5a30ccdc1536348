"""Reports at the end of a training are written at an operating point that was fitted before, and measured."""

import json

import pytest
from datasets import load_dataset
from helpers.tree import write_tree

from ct_rate_pairs.eval.predictions.provenance import read_provenance
from ct_rate_pairs.hub.reporting.domain import load_domain
from ct_rate_pairs.recipes import evaluate_reports, sft_neg
from ct_rate_pairs.recipes.reports_after_training import ReportsAfterTraining


@pytest.mark.slow
@pytest.mark.parametrize("new_tokens", [60, 2])
def test_an_operating_point_is_fitted_before_the_reports_and_told_if_it_has_no_effect(
    tmp_path, line_reader_dir, capsys, new_tokens
):
    """The model keeps what it has learnt, its findings line included. In two tokens, it writes no line."""
    write_tree(tmp_path / "tree", scans=130)  # of the training patients, some are for validation
    rows = "--num_slices 6 --spacing 4 4 8 --target findings --findings_line names --negative none --beta 0"
    steps = "--max_steps 1 --learning_rate 1e-9 --muon false --per_device_eval_batch_size 4"
    point = f"--confidence_scans 6 --operating_point f1 --max_eval_samples 4 --max_new_tokens {new_tokens}"
    out = tmp_path / "run"
    options = ("--data_dir", str(tmp_path / "tree"), "--model_name_or_path", str(line_reader_dir))
    sft_neg.main(["--config", "phantom", *options, *f"{rows} {steps} {point}".split(), "--output_dir", str(out)])
    model = json.loads((out / "results.json").read_text())["model"]
    provenance = read_provenance(out / "predictions.jsonl")
    is_set = new_tokens == 60
    assert model.get("operating_point") == provenance.get("operating_point") == ("f1" if is_set else None)
    assert len(provenance.get("thresholds") or ()) == 18 * is_set and ("line_followed" in model) == is_set
    assert ("--operating_point has no effect" in capsys.readouterr().err) == (not is_set)
    line = json.loads((out / "confidence.json").read_text())["line"]
    assert (line and line["operating_point"]) == ("f1" if is_set else None)
    assert ("at the operating point f1 as in the results above" in (out / "README.md").read_text()) == is_set
    if is_set:  # an evaluation is made at the same point, unless another is given
        again = ("--model_name_or_path", str(out), "--data_dir", str(tmp_path / "tree"), "--looking_scans", "0")
        again += ("--max_eval_samples", "4", "--max_new_tokens", "60", "--dataloader_num_workers", "0")
        for options, point in (((), "f1"), (("--operating_point", "none"), None)):
            folder = tmp_path / f"at_{point}"
            evaluate_reports.main([*again, *options, "--output_dir", str(folder)])
            model = json.loads((folder / "results.json").read_text())["model"]
            assert model.get("operating_point") == point


@pytest.mark.parametrize("validation_size", [0.05, 0.9])
def test_a_run_without_confidences_tells_what_it_was_trained_on_if_there_are_scans_enough(
    tmp_path, phantom, validation_size
):
    after = object.__new__(ReportsAfterTraining)  # the domain needs no training
    after.options = {"data_dir": str(phantom), "validation_size": validation_size, "spacing": (9.0, 9.0, 13.0)}
    after.index, after.out = load_dataset("ct_rate_pairs", **after.options), tmp_path
    after.keep_domain()
    domain = load_domain(str(tmp_path))
    assert (domain and (domain.trained_on, domain.n >= 20)) == (None if validation_size < 0.5 else ("phantom", True))
