"""A further task: one file a layer, a line in each list of tasks, a config. Nothing else knows the tasks."""

import json
import os
import shutil

import pytest
from helpers import programs
from helpers.launch import SHORT
from helpers.paths import ROOT


TASK = '''
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from datasets import Value

from .task import Asked, Task, TaskOptions


@dataclass
class NormalOptions(TaskOptions):
    wording: Literal["short", "long"] = field(default="long", metadata={"help": "How it is asked."})


class Normal(Task):
    """Asks whether the scan is normal."""

    Options: ClassVar = NormalOptions
    features: ClassVar = {"normal": Value("bool")}
    asks_anew: ClassVar = False

    def __init__(self, labels, wording):
        self.normal, self.wording, self.rows_of = ~labels.any(axis=1), wording, np.ones(len(labels), dtype=int)

    @classmethod
    def of_split(cls, scans, options):
        return cls(scans.labels, options.wording)

    def ask(self, i, number, draw_key):
        normal, short = bool(self.normal[i]), self.wording == "short"
        return Asked("Normal?" if short else "Is this CT normal?", "yes" if normal else "no", {"normal": normal})

    def unfit_partners(self, i, number, draw_key):
        return np.flatnonzero(self.normal == self.normal[i])
'''
EVALUATION = """
import torch

from ct_rate_pairs.eval.looking.likelihood import on_device, option_losses, report_tokens
from ct_rate_pairs.eval.tables import write_table


@torch.no_grad()
def evaluate_normal(model, collator, rows, train, out, settings):
    out.mkdir(parents=True, exist_ok=True)
    right = 0
    for row in rows:
        answers = [{"role": "assistant", "content": answer} for answer in ("no", "yes")]
        tokens = report_tokens(collator, [row | {"completion": [answer]} for answer in answers])
        no, yes = option_losses(model, on_device(collator.prompts([row]), model), tokens)
        right += bool(yes < no) == row["normal"]
    result = {"accuracy": right / len(rows), "asked": rows[0]["prompt"][-1]["content"]} | settings.told
    write_table(result, [["", "Accuracy"], ["model", f"{result['accuracy']:.3f}"]], out)
    return result
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The product with one more task."""
    folder = tmp_path_factory.mktemp("product")
    product = folder / "ct_rate_pairs"
    for room in ("ct_rate_pairs", "trainer", "eval", "hub", "recipes"):
        target = product if room == "ct_rate_pairs" else product / room
        shutil.copytree(ROOT / room, target, ignore=shutil.ignore_patterns("__pycache__"))
    (product / "tasks" / "normal.py").write_text(TASK)
    (product / "eval" / "tasks" / "normal.py").write_text(EVALUATION)
    (product / "recipes" / "configs" / "normal.yaml").write_text("base: phantom_heter.yaml\ntask: normal\n")
    for listed, name, entry in (
        (product / "tasks" / "__init__.py", "Normal", '    "vqa": Questions,\n'),
        (product / "eval" / "tasks" / "__init__.py", "evaluate_normal", '    "vqa": evaluate_vqa,\n'),
    ):
        text = listed.read_text()
        assert entry in text
        text = text.replace(entry, f'{entry}    "normal": {name},\n')
        listed.write_text(text.replace("from .vqa import", f"from .normal import {name}\nfrom .vqa import"))
    return folder


# One after another in one process, which imports that product.
RUN_ALL = """
import sys
from ct_rate_pairs.__main__ import main
for words in {commands}:
    try:
        main(words)
    except SystemExit as end:  # `--help`
        assert not end.code
print(sys.modules["ct_rate_pairs"].__file__)
"""


def run(folder, *commands: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "HF_DATASETS_CACHE": str(folder / "cache")}
    done = programs.run("-c", RUN_ALL.format(commands=commands), cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith(f"{folder / 'ct_rate_pairs' / '__init__.py'}\n")
    return done.stdout


@pytest.mark.slow
def test_a_task_of_two_files_a_config_and_two_lines_is_trained_and_measured(folder, phantom):
    data = ("--data_dir", str(phantom))
    train = ("--config", "normal", *data, *SHORT, "--confidence_scans", "0", "--wording", "short")
    evaluate = ("--model_name_or_path", "run", "--task", "normal", *data, "--max_eval_samples", "2")
    told = run(
        folder,
        ["train", *train, "--output_dir", "run"],
        ["evaluate-task", *evaluate],
        ["evaluate-task", "--help"],
    )
    results = json.loads((folder / "run" / "results.json").read_text())
    assert 0 <= results["accuracy"] <= 1 and "Normal?" in str(results["asked"])
    settings = json.loads((folder / "run" / "row_settings.json").read_text())
    assert settings["task"] == "normal" and settings["wording"] == "short"
    assert (folder / "run" / "evaluation" / "normal" / "results.json").exists()
    assert "How it is asked" in told
