"""An order of each command that writes a folder."""

import json
from pathlib import Path

import yaml

from ct_rate_pairs.hub import report as report_command
from ct_rate_pairs.phantom import __main__ as phantom_command
from ct_rate_pairs.prepare import __main__ as prepare_command
from ct_rate_pairs.recipes import evaluate_reports, evaluate_task, export, grpo, sft_neg, study, train_matcher

from .study import STUDY
from .tiny_reader import save_nifti


COMMANDS = ("report", "phantom", "prepare", "train", "train-matcher", "evaluate a model", "evaluate predictions")
COMMANDS = (*COMMANDS, "evaluate-task", "study", "export", "grpo")


def orders_of(folder: Path, phantom: Path, model: Path) -> dict[str, tuple]:
    """`main` and the arguments of each of `COMMANDS`, without `--output_dir`. What they read is put into `folder`."""
    save_nifti(folder / "a.nii", (1, 0, 0))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    predictions = folder / "theirs.jsonl"
    predictions.write_text(json.dumps({"volume": "valid_1_a_1.nii.gz", "report": "Heart size is normal."}) + "\n")
    data, by = ("--data_dir", phantom), ("--model_name_or_path", model)
    reward = ("--reward_funcs", "length", "--reward_weights", "1", "--operating_point", "none")
    return {
        "report": (report_command.main, folder / "a.nii", *by),
        "phantom": (phantom_command.main, "--scans", "2"),
        "prepare": (prepare_command.main, *data),
        "train": (sft_neg.main, "--config", "phantom", *data),
        "train-matcher": (train_matcher.main, "--config", "matcher", *data),
        "evaluate a model": (evaluate_reports.main, *by, *data),
        "evaluate predictions": (evaluate_reports.main, "--predictions", predictions, *data),
        "evaluate-task": (evaluate_task.main, *by, "--task", "vqa", *data),
        "export": (export.main, "--for", "m3d", *data),
        "grpo": (grpo.main, "--config", "phantom_grpo", *by, *data, *reward),
        "study": (study.main, "--config", folder / "tiny.yaml"),
    }
