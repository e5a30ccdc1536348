"""Starts a recipe as a user types it, and writes the small cohort that its config looks for."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT


CONFIGS = ROOT / "recipes" / "configs"


ONE_PROCESS = ("--num_processes", "1", "--cpu")


def launch(
    *arguments: str, cwd: Path, launcher: tuple[str, ...] = ONE_PROCESS, recipe: str = "sft_neg"
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *launcher]
    command += [str(ROOT / "recipes" / f"{recipe}.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def write_cohort(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ct_rate_pairs.phantom",
        "--output_dir",
        "runs/phantom_cohort",
    ]  # where the config looks
    command += ["--scans", "24", "--valid_scans", "24"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
