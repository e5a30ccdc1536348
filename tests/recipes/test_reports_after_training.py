"""Reports at the end of a training are written at an operating point that was fitted before, and measured."""

import json

import pytest
from helpers.tree import write_tree

from ct_rate_pairs.eval.predictions.provenance import read_provenance
from ct_rate_pairs.recipes import sft_neg


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
    assert (out / "confidence.json").exists() and (out / "README.md").exists()
