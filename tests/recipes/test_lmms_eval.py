"""lmms-eval itself, without most of its dependencies, runs the task of `recipes/lmms_eval_tasks` on a tiny model."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import load_dataset
from helpers.paths import ROOT

from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.eval.scoring.scores import score_reports
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


LMMS_EVAL = Path(sys.prefix) / "lmms_eval"  # made by `make test`
TASKS = ROOT / "recipes" / "lmms_eval_tasks"
RUN = """
import json, sys
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager

tasks = TaskManager(include_path=sys.argv[1], include_defaults=False)
model_args = f"pretrained={sys.argv[2]},device=cpu,device_map=cpu,min_pixels=784,max_pixels=7840"
found = simple_evaluate("qwen2_5_vl", model_args, tasks=["ours"], limit=3, task_manager=tasks)
written = [sample["resps"][0][0] for sample in found["samples"]["ours"]]
print(json.dumps([found["results"]["ours"], written]))
"""


def test_a_model_is_shown_all_slices_in_order_and_the_prompt_last(tree):
    task = runpy.run_path(str(TASKS / "ct_rate_reports.py"))
    row = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", negative="none")[0]
    (turn,) = task["messages"](row)
    *shown, asked = turn["content"]
    assert asked == {"type": "text", "text": row["prompt"][0]["content"]} and turn["role"] == "user"
    assert len(shown) == len(row["images"])
    for part, image in zip(shown, row["images"], strict=True):
        assert part["type"] == "image" and np.array_equal(np.asarray(part["url"])[..., 1], np.asarray(image))


@pytest.mark.slow
@pytest.mark.skipif(not LMMS_EVAL.is_dir(), reason="`make test` installs lmms-eval")
def test_its_results_are_those_of_our_metrics_on_the_reports_that_its_model_writes(tmp_path, phantom):
    scans = load_dataset("ct_rate_pairs", data_dir=str(phantom), split="test", negative="none")
    volumes, references, labels = references_of(scans)
    for part in make_tiny_qwen([*references, "Write the report."], hidden_size=32, num_layers=1, vision_depth=1):
        part.save_pretrained(tmp_path / "model")
    ours = {"include": str(TASKS / "ct_rate_reports.yaml"), "task": "ours"}
    ours |= {"dataset_kwargs": {"data_dir": str(phantom), "negative": "none"}}
    ours |= {"generation_kwargs": {"max_new_tokens": 6, "temperature": 0, "do_sample": False, "until": []}}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/ours.yaml").write_text(yaml.safe_dump(ours))
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path / "tasks"), str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(LMMS_EVAL), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    ).stdout
    results, written = json.loads(told.splitlines()[-1])
    assert len(written) == 3 and any(written)
    expected = score_reports(written, references[:3], labels[:3], volumes=volumes[:3])
    for metric in ("coverage", "f1_macro", "crg", "bleu4", "rouge_l"):
        assert results[f"{metric},none"] == pytest.approx(expected[metric])
