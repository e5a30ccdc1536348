"""`recipes/sft_neg.py` on a small phantom: once as a user launches it, else in this process."""

import json
import shutil

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from datasets import load_dataset
from helpers.command import call
from helpers.launch import CONFIGS, SHORT, launch
from helpers.paths import ROOT
from helpers.two_processes import run_as_two
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ct_rate_pairs.eval.predictions.store import read_predictions
from ct_rate_pairs.recipes import compare_runs, evaluate_reports, sft_neg
from ct_rate_pairs.trainer import read_row_settings
from ct_rate_pairs.trainer.splits import texts_of
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


TWO_PROCESSES = ("--config_file", str(ROOT / "recipes" / "accelerate" / "cpu.yaml"), "--main_process_port", "0")


@pytest.mark.parametrize("name", ["phantom_heter", "vqa", "matching", "errors", "own_questions", "mixture"])
def test_a_config_differs_from_the_reports_in_its_task_alone(name):
    (recipe_args, args, _), (report_args, reports, _) = (
        sft_neg.parse(["--config", str(CONFIGS / f"{config}.yaml")]) for config in (name, "phantom_heter")
    )
    differing = {key for key, value in vars(recipe_args).items() if value != vars(report_args)[key]}
    # `partner_sampling`: the numbers in docs/tasks.md are those of uniform partners
    assert differing <= {"task", "mixture", "options", "max_new_tokens", "confidence_scans", "partner_sampling"}
    trained = ("max_steps", "learning_rate", "beta", "max_negative_loss", "negative_start_ratio", "warmup_steps")
    assert [getattr(args, key) for key in trained] == [getattr(reports, key) for key in trained]
    expected = {
        "mixture": ["report", "vqa", "matching"],
        "errors": ["report", "errors"],
        "phantom_heter": ["report"],
    }.get(name, [name])
    assert list(recipe_args.task_weights()) == expected
    recipe_args.check(args)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--operating_point f1", "pass --findings_line names, yes_no or sides, and --confidence_scans"),
        ("--operating_point f1 --findings_line names --confidence_scans 0", "and --confidence_scans"),
        ("--operating_point 90 --findings_line names", "give f1, or a sensitivity above 0 and below 1"),
    ],
)
def test_an_operating_point_needs_lines_and_their_calibration(tmp_path, options, message):
    argv = ["--config", "phantom_heter", "--output_dir", str(tmp_path), *options.split()]
    recipe_args, args, _ = sft_neg.parse(argv)
    with pytest.raises(ValueError, match=message):
        recipe_args.check(args)


@pytest.mark.slow
def test_two_processes_leave_the_model_of_the_best_coverage_with_results_and_card(tmp_path, phantom, monkeypatch):
    run = launch(
        *("--config", str(CONFIGS / "phantom_heter.yaml"), "--data_dir", str(phantom), "--output_dir", "run"),
        *("--global_batch_size", "8", "--per_device_train_batch_size", "2", "--max_steps", "4"),
        *("--max_eval_samples", "4", "--max_new_tokens", "12", "--validation_scans", "3", "--confidence_scans", "0"),
        *("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"),
        *("--metric_for_best_model", "eval_coverage", "--greater_is_better", "true"),
        *("--load_best_model_at_end", "true"),
        cwd=tmp_path,
        launcher=TWO_PROCESSES,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for row in ("model", "shuffled", "all_negative", "most_common", "all_positive"):
        assert row in run.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["all_positive"]["coverage"] == 1.0 and results["all_negative"]["coverage"] == 0.0
    predictions = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [sorted(prediction) for prediction in predictions] == [["cut", "report", "volume"]] * 4
    assert results["model"]["cut"] == sum(prediction["cut"] for prediction in predictions)
    for file in ("README.md", "figures/losses.png", "figures/reports.png"):
        assert (tmp_path / "run" / file).stat().st_size > 0
    AutoModelForImageTextToText.from_pretrained(tmp_path / "run")
    AutoProcessor.from_pretrained(tmp_path / "run")
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    coverages = [entry["eval_coverage"] for entry in state["log_history"] if "eval_coverage" in entry]
    assert len(coverages) == 2 and state["best_metric"] == max(coverages)
    assert state["epoch"] == pytest.approx(4 * 8 / 24, abs=0.4)  # eight pairs a step: both processes took their half
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"step-000002.md", "step-000004.md"}

    # The same model, measured on its own by two processes: as it was trained, without being told the spacing.
    cohort = ("--data_dir", str(phantom))
    run_as_two(
        ROOT / "recipes" / "evaluate_reports.py",
        *("--model_name_or_path", "run", *cohort, "--max_eval_samples", "4", "--max_new_tokens", "12"),
        *("--dataloader_num_workers", "0", "--partner_sampling", "balanced"),  # the same negatives
        cwd=tmp_path,
        ACCELERATE_USE_CPU="true",
    )
    evaluation = tmp_path / "run" / "evaluation"
    assert read_predictions(evaluation / "predictions.jsonl") == read_predictions(tmp_path / "run/predictions.jsonl")
    measured = json.loads((evaluation / "results.json").read_text())
    assert measured["model"].keys() == results["model"].keys()
    for name, value in measured["model"].items():
        expected = results["model"][name]
        assert value == (pytest.approx(expected, abs=1e-4) if isinstance(value, float) else expected)

    # From the challenge's file alone, and one run against the other.
    monkeypatch.chdir(tmp_path)
    reports = ("--predictions", "run/evaluation/generated_reports.json", "--output_dir", "theirs")
    evaluate_reports.main([*reports, *cohort])
    scored = json.loads((tmp_path / "theirs" / "results.json").read_text())
    assert scored["model"]["bleu4"] == measured["model"]["bleu4"] and "loss_gap" not in scored["model"]
    with pytest.raises(FileNotFoundError, match="predictions.jsonl"):
        compare_runs.main(["--first", "run", "--second", "theirs", *cohort])
    runs = ("--first", "run", "--second", "theirs/generated_reports.json", "--output_file", "compared.json")
    compare_runs.main([*runs, *cohort])
    metrics = json.loads((tmp_path / "compared.json").read_text())["metrics"]
    assert metrics["bleu1"]["difference"] == 0 and metrics["bleu1"]["p"] == 1


@pytest.mark.slow
def test_a_mixture_is_measured_on_each_task_and_goes_on_from_a_checkpoint_to_the_same_weights(tmp_path, phantom):
    whole = ("--config", "mixture", "--data_dir", str(phantom), *SHORT, "--confidence_scans", "0", "--max_steps", "4")
    whole += ("--save_strategy", "steps", "--save_steps", "2")
    out = tmp_path / "run"
    sft_neg.main([*whole, "--output_dir", str(out)])
    results = {task: json.loads((out / task / "results.json").read_text()) for task in (".", "vqa", "matching")}
    assert "coverage" in results["."]["model"] and "all_negative" in results["."]
    assert "per_type" in results["vqa"]["model"] and "top1" in results["matching"]["model"]
    assert (out / "README.md").exists() and read_row_settings(str(out))["options"] == "keywords"

    second = tmp_path / "second"
    shutil.copytree(out / "checkpoint-2", second / "checkpoint-2")
    sft_neg.main([*whole, "--output_dir", str(second), "--resume_from_checkpoint", "true"])
    assert (out / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_an_adapter_is_trained_further_as_it_is_but_not_by_muon(tmp_path, phantom, capsys):
    test = load_dataset("ct_rate_pairs", data_dir=str(phantom), split="test")
    for part in make_tiny_qwen(texts_of(test), hidden_size=32, num_layers=1, vision_depth=1):
        part.save_pretrained(tmp_path / "base")

    def train(start, out, *options):
        short = ("--config", "phantom_heter", "--data_dir", str(phantom), *SHORT, "--confidence_scans", "0")
        short += ("--dataloader_persistent_workers", "false")
        where = ("--model_name_or_path", str(tmp_path / start), "--output_dir", str(tmp_path / out))
        return call(sft_neg.main, *short, *where, *options)

    lora = ("--use_peft", "true", "--lora_r", "2", "--lora_target_modules", ".*language_model.*_proj")
    assert train("base", "first", "--muon", "false", *lora) == 0
    assert train("first", "second", "--muon", "true") == 2 and "is an adapter" in capsys.readouterr().err
    assert train("first", "second", "--muon", "false") == 0
    first, second = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("first", "second"))
    assert first.keys() == second.keys()
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())
    config = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(tmp_path / "base"), 2)


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp2", "zero3"])
def test_accelerate_knows_every_setting_of_its_configs(name):
    config = load_config_from_file(str(ROOT / "recipes" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == {"fsdp2": "FSDP", "zero3": "DEEPSPEED"}.get(name, "MULTI_GPU")
    assert config.use_cpu == (name == "cpu") and config.num_processes > 1


def test_run_bare_without_access_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(sft_neg.main) == 2
    told = capsys.readouterr().err
    assert "hf auth login" in told and "ct-rate-pairs train --config phantom" in told


def test_too_few_patients_for_confidences_are_told_before_the_training(tmp_path, phantom, capsys):
    out = tmp_path / "run"
    assert call(sft_neg.main, "--config", "phantom", "--data_dir", phantom, "--output_dir", out) == 2
    assert "pass --confidence_scans 0 --operating_point none" in capsys.readouterr().err
    assert not out.exists()


def test_beta_without_negatives_is_refused(tmp_path, capsys):
    assert call(sft_neg.main, "--config", "gauss", "--negative", "none", "--output_dir", tmp_path / "run") == 2
    assert "--beta 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "negative", "beta", "batch"),
    [("origin", "none", 0, 2), ("gauss", "gauss", 0.1, 1), ("heter", "heter", 0.1, 1)],
)
def test_the_papers_settings(name, negative, beta, batch):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert (config["negative"], config["beta"], config["per_device_train_batch_size"]) == (negative, beta, batch)
    accumulation = config["global_batch_size"] / (batch * 2)  # the paper's two GPUs
    assert (config["learning_rate"], accumulation, config["num_train_epochs"]) == (2e-5, 8, 1)
    assert config["max_grad_norm"] > 0 and config["bf16"] and config["gradient_checkpointing"]
