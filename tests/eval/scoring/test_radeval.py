"""RadEval itself, without its other dependencies: its numbers stand beside ours, with its version."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from helpers.command import call
from transformers import RobertaConfig, RobertaForSequenceClassification

from ct_rate_pairs.recipes import evaluate_reports
from ct_rate_pairs.trainer.tiny import train_tokenizer


RADEVAL = Path(sys.prefix) / "radeval"  # made by `make test`


@pytest.fixture
def predictions(tmp_path, tree):
    """The references themselves for half of the scans, and for the others those of the scan before."""
    scans = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", negative="none").with_format(None)
    reports = [completion[0]["content"] for completion in scans["completion"]]
    written = {volume: reports[i - i % 2] for i, volume in enumerate(scans["volume"])}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(written))
    return path


@pytest.mark.slow
@pytest.mark.skipif(not RADEVAL.is_dir(), reason="`make test` installs RadEval")
def test_its_metrics_measure_the_same_reports_beside_trivial_ones(predictions, tree, tmp_path):
    tokenizer = train_tokenizer(predictions.read_text().splitlines(), vocab_size=300)
    torch.manual_seed(0)
    sizes = {
        "initializer_range": 1.0,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = RobertaConfig(vocab_size=len(tokenizer), num_labels=18, pad_token_id=tokenizer.pad_token_id, **sizes)
    for part in (RobertaForSequenceClassification(config), tokenizer):
        part.save_pretrained(tmp_path / "IAMJB/RadBERT-CT")  # from_pretrained looks into the working directory first
    command = [sys.executable, "-W", "ignore", "-m", "ct_rate_pairs.recipes.evaluate_reports", "--data_dir", str(tree)]
    told = subprocess.run(
        [*command, "--predictions", str(predictions), "--radeval", "bleu", "f1radbert_ct"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(RADEVAL), "HF_HUB_OFFLINE": "1"},
    ).stdout
    scores = json.loads((tmp_path / "theirs_evaluation/radeval.json").read_text())
    assert scores["scans"] == 12 and scores["radeval"].count(".") == 2
    assert f"RadEval {scores['radeval']}, 12 scans" in told
    model = scores["model"]
    assert {"bleu", "f1radbert_ct_macro_f1"} <= model.keys() == scores["most_common"].keys()
    assert scores["all_negative"]["bleu"] < model["bleu"] < 1
    assert 0.5 <= model["f1radbert_ct_accuracy"] < 1  # half of the reports are the references


def test_without_radeval_the_package_is_named(predictions, tree, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "radeval", None)
    assert call(evaluate_reports.main, "--predictions", predictions, "--data_dir", tree, "--radeval", "bleu") == 2
    assert "--radeval needs RadEval" in capsys.readouterr().err


def test_a_metric_that_sends_reports_away_is_not_offered(predictions, tree, capsys):
    assert call(evaluate_reports.main, "--predictions", predictions, "--data_dir", tree, "--radeval", "crimson") == 2
    assert "f1radbert_ct" in capsys.readouterr().err
