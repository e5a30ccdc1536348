"""`recipes/evaluate_task.py`: a model measured again on the task that it was trained on."""

import json

import pytest
import torch
from datasets import load_dataset
from helpers.launch import SHORT

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.recipes import evaluate_task, sft_neg
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer.row_settings import options_to_show


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
    sizes = ("--max_eval_samples", "2", "--max_new_tokens", "4", "--per_device_eval_batch_size", "50")
    asked = ("--model_name_or_path", str(tmp_path / "run"), "--task", task, "--data_dir", str(phantom))
    evaluate_task.main([*asked, *sizes])
    name = {"matching": "matching-keywords-random-letters"}.get(task, task)
    again = json.loads((tmp_path / "run" / "evaluation" / name / "results.json").read_text())
    assert again.pop("made_with")["model"].startswith("sha256:")
    assert again == results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [("steps", True, "Answer right, left or both."), ("num_shots", 2, "Examples from other patients")],
)
def test_dialogues_and_examples_are_trained_on_and_asked_again(tmp_path, phantom, monkeypatch, option, value, shown):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    run, data = tmp_path / "run", ("--data_dir", str(phantom))
    asked = (f"--{option}", str(value), "--question_types", "side", "location")
    sft_neg.main(["--config", "vqa", *data, "--output_dir", str(run), *SHORT, *asked])
    assert json.loads((run / "row_settings.json").read_text())[option] == value
    results = json.loads((run / "results.json").read_text())
    assert set(results["model"]["per_type"]) <= {"side", "location"} and results["model"]["n"] > 0
    answers = [json.loads(line) for line in (run / "answers.jsonl").read_text().splitlines()]
    if option == "steps":
        assert all(row["earlier"] for row in answers)

    # Asked again as it was trained, without being told.
    sizes = ("--max_eval_samples", "2", "--max_new_tokens", "4", "--per_device_eval_batch_size", "50")
    evaluate_task.main(["--model_name_or_path", str(run), "--task", "vqa", *data, *sizes])
    again = json.loads((run / "evaluation" / "vqa" / "results.json").read_text())
    assert again.pop("made_with") and again == results
    options = options_to_show(str(run), None, {"data_dir": str(phantom)}, "vqa")
    row = load_dataset("ct_rate_pairs", split="test", **options | {"negative": "none"})[0]
    turns = [text_of(turn) for turn in row["prompt"]]
    assert shown in " ".join(turns) and (len(turns) > 1) == (option == "steps")

    # The loss is that of the last answer: earlier answers and examples are given, not learnt.
    model, collator = load_model(str(run), device="cpu")
    batch = collator([row])
    learnt = collator.processor.tokenizer.decode(batch["input_ids"][batch["labels"] != -100])
    assert text_of(row["completion"][-1]) in learnt and shown not in learnt
    assert model(**batch).loss.isfinite()
