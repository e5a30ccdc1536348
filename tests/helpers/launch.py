"""Starts a recipe as a user types it, and the options of a short run."""

import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT


CONFIGS = ROOT / "recipes" / "configs"
ONE_PROCESS = ("--num_processes", "1", "--cpu")
SHORT = (
    *("--max_steps", "2", "--logging_steps", "1", "--max_eval_samples", "8", "--max_new_tokens", "8"),
    *("--per_device_train_batch_size", "2", "--beta", "0.1", "--negative_start_ratio", "0"),
)


def launch(
    *arguments: str, cwd: Path, launcher: tuple[str, ...] = ONE_PROCESS, recipe: str = "sft_neg"
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *launcher]
    command += [str(ROOT / "recipes" / f"{recipe}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
