"""`recipes/sft_neg.py` and `evaluate_task.py` on the other tasks: from one config to a table."""

import json
import shutil
from collections import Counter

import evaluate_task
import pytest
import sft_neg
import torch
from datasets import load_dataset
from helpers.launch import CONFIGS, launch, write_cohort
from helpers.tree import SPACING, write_tree
from trl import ModelConfig, TrlParser

from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer import NegativeSFTConfig, read_row_settings
from ct_rate_pairs.trainer.row_settings import save_row_settings
from ct_rate_pairs.trainer.streams import mix_tasks


SHORT = (
    *("--output_dir", "run", "--max_steps", "2", "--logging_steps", "1", "--eval_scans", "8"),
    *("--max_new_tokens", "8", "--per_device_train_batch_size", "2", "--beta", "0.1", "--negative_start_ratio", "0"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tasks"), scans=8)


def parse(*arguments):
    parser = TrlParser((sft_neg.RecipeArguments, NegativeSFTConfig, ModelConfig))
    return parser.parse_args_and_config([*arguments, "--use_cpu", "true"])


@pytest.mark.parametrize("name", ["phantom", "vqa", "matching", "errors", "mixture"])
def test_a_config_differs_from_the_reports_in_its_task_alone(name):
    (recipe_args, args, _), (report_args, reports, _) = (
        parse("--config", str(CONFIGS / f"{config}.yaml")) for config in (name, "phantom")
    )
    differing = {key for key, value in vars(recipe_args).items() if value != vars(report_args)[key]}
    # `partner_sampling`: the numbers in docs/tasks.md are those of uniform partners
    assert differing <= {"task", "mixture", "options", "max_new_tokens", "confidence_scans", "partner_sampling"}
    trained = ("max_steps", "learning_rate", "beta", "max_negative_loss", "negative_start_ratio", "warmup_steps")
    assert [getattr(args, key) for key in trained] == [getattr(reports, key) for key in trained]
    expected = {"mixture": ["report", "vqa", "matching"], "errors": ["report", "errors"], "phantom": ["report"]}.get(
        name, [name]
    )
    assert list(recipe_args.task_weights()) == expected
    sft_neg.check_arguments(recipe_args, args)


def test_weights_are_shares_with_reports_first():
    assert sft_neg.RecipeArguments().task_weights() == {"report": 1.0}
    mixed = sft_neg.RecipeArguments(mixture='{"vqa": 3, "report": 1}')
    assert list(mixed.task_weights().items()) == [("report", 0.25), ("vqa", 0.75)]
    with pytest.raises(ValueError, match="'report', 'vqa', 'matching'"):
        sft_neg.RecipeArguments(mixture={"captions": 1}).task_weights()
    with pytest.raises(ValueError, match="'vqa' is not above 0"):
        sft_neg.RecipeArguments(mixture={"vqa": 0, "report": 1}).task_weights()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--confidence_scans", "9"), "--confidence_scans 0"),
        (("--push_to_hub", "true"), "leave push_to_hub out"),
        (("--negative", "none"), "--beta 0"),
    ],
)
def test_what_a_run_without_reports_cannot_do_is_told_before_it(tmp_path, arguments, remedy):
    recipe_args, args, _ = parse("--task", "vqa", "--output_dir", str(tmp_path), "--bf16", "false", *arguments)
    with pytest.raises(ValueError, match=remedy):
        sft_neg.check_arguments(recipe_args, args)


def kind_of(row) -> str:
    return "vqa" if row.get("question_type") else "matching" if row.get("options") else "report"


def test_a_mixture_has_the_tasks_by_weight_for_as_long_as_it_is_asked_for(tree):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "negative": "gauss", "seed": 3}
    weights, num_rows = {"report": 0.5, "vqa": 0.3, "matching": 0.2}, {"report": 8, "vqa": 32, "matching": 8}
    rows = [
        (kind_of(row), row["volume"], row["prompt"][0]["content"], row["negative_images"][0].tobytes())
        for row in mix_tasks(weights, num_rows, 100, **options).take(100)
    ]
    kinds = Counter(kind for kind, *_ in rows)
    assert len(rows) == 100 and all(abs(kinds[task] - 100 * weights[task]) < 15 for task in weights)
    again = [row["prompt"][0]["content"] for row in mix_tasks(weights, num_rows, 100, **options).take(10)]
    assert again == [prompt for _, _, prompt, _ in rows[:10]]
    # Every epoch of a task has each volume once, and noise of its own.
    reports = [row for row in rows if row[0] == "report"][:16]
    for epoch in (reports[:8], reports[8:]):
        assert len({volume for _, volume, _, _ in epoch}) == 8
    assert len({noise for *_, noise in reports}) == 16


def test_one_task_is_its_own_stream(tree):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "negative": "none", "seed": 0}
    kinds = {kind_of(row) for row in mix_tasks({"vqa": 1.0}, {"vqa": 32}, 40, **options)}
    assert kinds == {"vqa"}


def test_the_settings_of_a_mixture_serve_every_task(tree, tmp_path):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "num_false": 2}
    tasks = ({"task": "report"}, {"task": "vqa", "questions_per_volume": 2}, {"task": "matching"})
    splits = [load_dataset("ct_rate_pairs", split="train", options="impression", **options, **task) for task in tasks]
    save_row_settings([reader_of(split) for split in splits], tmp_path)
    settings = read_row_settings(str(tmp_path))
    assert (settings["questions_per_volume"], settings["num_false"], settings["options"]) == (2, 2, "impression")
    assert "task" not in settings and settings["target"] == "findings+impression"
    load_dataset("ct_rate_pairs", data_dir=str(tree), validation_size=0.0, **settings)  # an option of each name


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "matching"])
def test_a_task_from_one_config_to_its_table_and_measured_again(tmp_path, monkeypatch, capsys, task):
    write_cohort(tmp_path)
    run = launch("--config", str(CONFIGS / f"{task}.yaml"), *SHORT, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    table = (tmp_path / "run" / "table.md").read_text()
    assert table in run.stdout and "model, blank volume" in table and "most common" in table
    assert (tmp_path / "run" / "figures" / "losses.png").stat().st_size > 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())

    # The same model on its own: asked as it was trained, without being told the spacing or the options.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    args = {"data_dir": "runs/phantom_cohort", "scans": 8, "max_new_tokens": 8, "batch_size": 50}
    evaluate_task.main(evaluate_task.TaskEvaluationArguments(model="run", task=task, **args))
    name = {"matching": "matching-keywords-random-letters"}.get(task, task)
    again = json.loads((tmp_path / "run" / "evaluation" / name / "results.json").read_text())
    assert again == results


@pytest.mark.slow
def test_a_mixture_is_measured_on_each_of_its_tasks(tmp_path):
    write_cohort(tmp_path)
    run = launch("--config", str(CONFIGS / "mixture.yaml"), *SHORT, "--confidence_scans", "0", cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    out = tmp_path / "run"
    results = {task: json.loads((out / task / "results.json").read_text()) for task in (".", "vqa", "matching")}
    assert "coverage" in results["."]["model"] and "all_negative" in results["."]
    assert "per_type" in results["vqa"]["model"] and "top1" in results["matching"]["model"]
    assert (out / "README.md").exists() and read_row_settings(str(out))["options"] == "keywords"


@pytest.mark.slow
def test_a_mixture_goes_on_from_a_checkpoint_to_the_same_weights(tmp_path):
    write_cohort(tmp_path)
    whole = (
        *("--config", str(CONFIGS / "mixture.yaml"), *SHORT, "--confidence_scans", "0", "--max_steps", "4"),
        *("--save_strategy", "steps", "--save_steps", "2"),
    )
    run = launch(*whole, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]
    shutil.copytree(tmp_path / "run" / "checkpoint-2", tmp_path / "second" / "checkpoint-2")
    again = launch(*whole, "--output_dir", "second", "--resume_from_checkpoint", "true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("run", "second")]
    assert weights[0] == weights[1]
