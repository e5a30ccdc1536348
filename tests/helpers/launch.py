"""Starts a recipe as a user types it, and the options of a short run."""

import subprocess
from pathlib import Path

from helpers import programs
from helpers.paths import ROOT


CONFIGS = ROOT / "recipes" / "configs"
ONE_PROCESS = ("--num_processes", "1", "--cpu")
SHORT = (
    *("--max_steps", "2", "--logging_steps", "1", "--max_eval_samples", "2", "--max_new_tokens", "4"),
    *("--per_device_train_batch_size", "2", "--beta", "0.1", "--negative_start_ratio", "0"),
)


def launch(*arguments: str, cwd: Path, launcher: tuple[str, ...]) -> subprocess.CompletedProcess:
    """The launcher is a fork; the processes that it starts are not."""
    command = ["-m", "accelerate.commands.accelerate_cli", "launch", *launcher]
    return programs.run(*command, ROOT / "recipes" / "sft_neg.py", *arguments, cwd=cwd)
