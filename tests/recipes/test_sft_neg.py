"""`accelerate launch recipes/sft_neg.py`, as a user types it, on a small phantom."""

import json

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from helpers.launch import CONFIGS, ROOT, launch, write_cohort
from transformers import AutoModelForImageTextToText, AutoProcessor

from ct_rate_pairs.eval.predictions.store import read_predictions


TWO_PROCESSES = ("--config_file", str(ROOT / "recipes" / "accelerate" / "cpu.yaml"), "--main_process_port", "0")


@pytest.mark.slow
def test_a_phantom_run_leaves_a_usable_model_results_and_card(tmp_path):
    write_cohort(tmp_path)
    run = launch(
        *("--config", str(CONFIGS / "phantom.yaml"), "--output_dir", "run"),
        *("--max_steps", "3", "--logging_steps", "1", "--eval_scans", "4", "--max_new_tokens", "12"),
        *("--confidence_scans", "0"),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    for row in ("model", "shuffled", "all_negative", "most_common", "all_positive"):
        assert row in run.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["all_positive"]["coverage"] == 1.0 and results["all_negative"]["coverage"] == 0.0
    predictions = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [sorted(prediction) for prediction in predictions] == [["report", "volume"]] * 4
    for file in ("README.md", "figures/losses.png", "figures/reports.png"):
        assert (tmp_path / "run" / file).stat().st_size > 0
    AutoModelForImageTextToText.from_pretrained(tmp_path / "run")
    AutoProcessor.from_pretrained(tmp_path / "run")

    # The same model, measured on its own by two processes: as it was trained, without being told the spacing.
    cohort = ("--data_dir", "runs/phantom_cohort")
    again = launch(
        *("--model", "run", *cohort, "--scans", "4", "--max_new_tokens", "12", "--num_workers", "0"),
        *("--partner_sampling", "balanced"),  # the same negatives
        cwd=tmp_path,
        launcher=TWO_PROCESSES,
        recipe="evaluate_reports",
    )
    assert again.returncode == 0, again.stderr[-3000:]
    evaluation = tmp_path / "run" / "evaluation"
    assert read_predictions(evaluation / "predictions.jsonl") == read_predictions(tmp_path / "run/predictions.jsonl")
    measured = json.loads((evaluation / "results.json").read_text())
    assert measured["model"].keys() == results["model"].keys()
    for name, value in measured["model"].items():
        expected = results["model"][name]
        assert value == (pytest.approx(expected, abs=1e-4) if isinstance(value, float) else expected)

    # From the challenge's file alone, and one run against the other.
    reports = ("--predictions", "run/evaluation/generated_reports.json", "--out", "theirs")
    theirs = launch(*reports, *cohort, cwd=tmp_path, recipe="evaluate_reports")
    assert theirs.returncode == 0, theirs.stderr[-3000:]
    scored = json.loads((tmp_path / "theirs" / "results.json").read_text())
    assert scored["model"]["bleu4"] == measured["model"]["bleu4"] and "loss_gap" not in scored["model"]
    compared = launch("--first", "run", "--second", "theirs", *cohort, cwd=tmp_path, recipe="compare_runs")
    assert compared.returncode != 0 and "predictions.jsonl" in compared.stderr
    runs = ("--first", "run", "--second", "theirs/generated_reports.json", "--out", "compared.json")
    compared = launch(*runs, *cohort, cwd=tmp_path, recipe="compare_runs")
    assert compared.returncode == 0, compared.stderr[-3000:]
    metrics = json.loads((tmp_path / "compared.json").read_text())["metrics"]
    assert metrics["bleu1"]["difference"] == 0 and metrics["bleu1"]["p"] == 1


@pytest.mark.parametrize("arguments", [(), ("--model", "a", "--predictions", "b")])
def test_evaluation_needs_a_model_or_predictions(tmp_path, arguments):
    run = launch(*arguments, cwd=tmp_path, recipe="evaluate_reports")
    assert run.returncode != 0 and "Give either --model" in run.stderr


@pytest.mark.slow
def test_two_processes_choose_the_checkpoint_by_coverage_on_validation(tmp_path):
    write_cohort(tmp_path)
    run = launch(
        *("--config", str(CONFIGS / "phantom.yaml"), "--output_dir", "run", "--global_batch_size", "8"),
        *("--per_device_train_batch_size", "2", "--max_steps", "4", "--eval_scans", "2", "--max_new_tokens", "8"),
        *("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"),
        *("--metric_for_best_model", "eval_coverage", "--greater_is_better", "true"),
        *("--load_best_model_at_end", "true", "--validation_scans", "3", "--confidence_scans", "0"),
        cwd=tmp_path,
        launcher=TWO_PROCESSES,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    coverages = [entry["eval_coverage"] for entry in state["log_history"] if "eval_coverage" in entry]
    assert len(coverages) == 2 and state["best_metric"] == max(coverages)
    assert state["epoch"] == pytest.approx(4 * 8 / 24, abs=0.4)  # eight pairs a step: both processes took their half
    assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {"step-000002.md", "step-000004.md"}


@pytest.mark.parametrize("name", ["cpu", "ddp", "fsdp2", "zero3"])
def test_accelerate_knows_every_setting_of_its_configs(name):
    config = load_config_from_file(str(ROOT / "recipes" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type == {"fsdp2": "FSDP", "zero3": "DEEPSPEED"}.get(name, "MULTI_GPU")
    assert config.use_cpu == (name == "cpu") and config.num_processes > 1


@pytest.mark.slow
def test_run_bare_without_access_it_says_how_to_get_it(tmp_path):
    run = launch(cwd=tmp_path)
    assert run.returncode != 0
    assert "hf auth login" in run.stderr and "recipes/configs/phantom.yaml" in run.stderr


@pytest.mark.slow
def test_too_few_patients_for_confidences_are_told_before_the_training(tmp_path):
    write_cohort(tmp_path)
    run = launch("--config", str(CONFIGS / "phantom.yaml"), "--output_dir", "run", cwd=tmp_path)
    assert run.returncode != 0 and "pass --confidence_scans 0" in run.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_beta_without_negatives_is_refused(tmp_path):
    run = launch("--config", str(CONFIGS / "gauss.yaml"), "--negative", "none", cwd=tmp_path)
    assert run.returncode != 0 and "--beta 0" in run.stderr


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
