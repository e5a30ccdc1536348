"""`accelerate launch recipes/sft_neg.py`, as a user types it, on a small phantom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor


ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "recipes" / "configs"


def launch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "1", "--cpu"]
    command += [str(ROOT / "recipes" / "sft_neg.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ.copy())


@pytest.mark.slow
def test_a_phantom_run_leaves_a_usable_model_results_and_card(tmp_path):
    phantom = [
        sys.executable,
        "-m",
        "ct_rate_pairs.phantom",
        "--out",
        "runs/phantom_cohort",  # where the config looks
        "--scans",
        "24",
        "--valid-scans",
        "24",
    ]
    subprocess.run(phantom, cwd=tmp_path, check=True, capture_output=True)
    run = launch(
        *("--config", str(CONFIGS / "phantom.yaml"), "--output_dir", "run"),
        *("--max_steps", "3", "--logging_steps", "1", "--eval_scans", "4", "--max_new_tokens", "12"),
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


@pytest.mark.slow
def test_run_bare_without_access_it_says_how_to_get_it(tmp_path):
    run = launch(cwd=tmp_path)
    assert run.returncode != 0
    assert "hf auth login" in run.stderr and "recipes/configs/phantom.yaml" in run.stderr


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
    assert (config["learning_rate"], config["gradient_accumulation_steps"], config["num_train_epochs"]) == (2e-5, 8, 1)
    assert config["max_grad_norm"] > 0 and config["bf16"] and config["gradient_checkpointing"]
