"""`recipes/evaluate_task.py`: a model measured again on the task that it was trained on."""

import json

import pytest
import torch
from helpers.launch import SHORT

from ct_rate_pairs.recipes import evaluate_task, sft_neg


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "matching"])
def test_a_task_from_one_config_to_its_table_and_measured_again(tmp_path, phantom, monkeypatch, capsys, task):
    sft_neg.main(["--config", task, "--data_dir", str(phantom), "--output_dir", str(tmp_path / "run"), *SHORT])
    table = (tmp_path / "run" / "table.md").read_text()
    assert table in capsys.readouterr().out and "model, blank volume" in table and "most common" in table
    assert (tmp_path / "run" / "figures" / "losses.png").stat().st_size > 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())

    # The same model on its own: asked as it was trained, without being told the spacing or the options.
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    sizes = ("--max_eval_samples", "8", "--max_new_tokens", "8", "--per_device_eval_batch_size", "50")
    asked = ("--model_name_or_path", str(tmp_path / "run"), "--task", task, "--data_dir", str(phantom))
    evaluate_task.main([*asked, *sizes])
    name = {"matching": "matching-keywords-random-letters"}.get(task, task)
    again = json.loads((tmp_path / "run" / "evaluation" / name / "results.json").read_text())
    assert again.pop("made_with")["model"].startswith("sha256:")
    assert again == results
