"""`recipes/train_matcher.py` on a small phantom: once as a user starts it, else in this process."""

import json

import pytest
import yaml
from datasets import load_dataset
from helpers import programs
from helpers.command import call
from helpers.launch import CONFIGS
from helpers.paths import ROOT

from ct_rate_pairs.eval.matcher import evaluate_matcher
from ct_rate_pairs.recipes.train_matcher import MatcherArguments, load_matcher, main
from ct_rate_pairs.trainer import read_row_settings
from ct_rate_pairs.trainer.matcher import MatcherModel
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
from ct_rate_pairs.trainer.tiny import make_tiny_matcher
from ct_rate_pairs.volumes.settings import VolumeSettings


CONFIG = ("--config", str(CONFIGS / "matcher.yaml"), "--per_device_train_batch_size", "4")


@pytest.mark.slow
def test_a_phantom_run_leaves_a_usable_model_and_one_table(tmp_path, phantom, capsys):
    run = programs.run(
        *(ROOT / "recipes" / "train_matcher.py", *CONFIG, "--data_dir", phantom, "--output_dir", "run"),
        *("--negative", "hard", "--max_steps", "3", "--logging_steps", "1", "--save_strategy", "steps"),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    table = (tmp_path / "run" / "table.md").read_text()
    assert table in run.stdout and "| 1 of 4, keywords, hard, n = 24 | Top-1 |" in table
    assert results["n"] == 24
    state = json.loads((tmp_path / "run" / "checkpoint-3" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if entry.get("loss", 0) > 0] == [1, 2, 3]

    # Loaded from its folder, with what it says of its slices, it measures the same.
    settings = read_row_settings(str(tmp_path / "run"))
    assert settings["spacing"] == [4.5, 4.5, 6.5]
    data = {"data_dir": str(phantom), "negative": "none"}
    splits, asked = (load_dataset("ct_rate_pairs", **data, **settings, **task) for task in ({}, {"task": "matching"}))
    model = MatcherModel.from_pretrained(tmp_path / "run")
    collator = MatcherCollator.from_pretrained(tmp_path / "run")
    (tmp_path / "again").mkdir()
    choices = [(asked["test"], asked["train"])]
    again = evaluate_matcher(model, collator, splits["test"], splits["train"], choices, tmp_path / "again")
    assert again["scans"] == results["scans"]
    assert list(again["matching"]) == ["full, random"]
    own, expected = (of["matching"]["full, random"]["model"] for of in (again, results))
    assert own["top1"] == pytest.approx(expected["top1"]) and own["questions"] == expected["questions"]

    # Measured while it trains.
    # The cohort has one scan for validation, and incomplete batches are dropped.
    validated = ("--eval_strategy", "steps", "--eval_steps", "1", "--per_device_eval_batch_size", "1")
    main([*CONFIG, "--data_dir", str(phantom), "--output_dir", str(tmp_path / "2"), "--max_steps", "1", *validated])
    assert "eval_loss" in capsys.readouterr().out


def test_noise_is_refused_as_it_has_no_report(tmp_path, capsys):
    assert call(main, *CONFIG, "--negative", "gauss", "--output_dir", tmp_path / "run") == 2
    assert "choose none" in capsys.readouterr().err


def test_an_upload_of_the_whole_folder_is_refused_before_anything_is_read(tmp_path, capsys):
    assert call(main, *CONFIG, "--push_to_hub", "true", "--output_dir", tmp_path / "run") == 2
    assert "the token" in capsys.readouterr().err


def test_options_of_a_config_that_have_no_effect_are_told(tmp_path, capsys):
    config = yaml.safe_load((CONFIGS / "matcher.yaml").read_text()) | {"data_dir": str(tmp_path), "save_steps": 7}
    (tmp_path / "matcher.yaml").write_text(yaml.safe_dump(config))
    assert call(main, "--config", tmp_path / "matcher.yaml", "--output_dir", tmp_path / "run") == 2
    assert "save_steps=7 of the config has no effect here: save_strategy is no" in capsys.readouterr().err


def test_the_config_has_a_whole_batch_of_negatives_in_each_step():
    config = yaml.safe_load((CONFIGS / "matcher.yaml").read_text())
    assert config["dataloader_drop_last"] and config["per_device_train_batch_size"] >= 16
    assert config["image_size"] == [56, 84] and config["spacing"] == [4.5, 4.5, 6.5]  # of the cohort of `make demo`


@pytest.mark.parametrize(("window", "channels"), [("paper", 1), ((-160, 240), 1), ("rgb", 3), ([[0, 1]] * 3, 3)])
def test_the_model_has_a_channel_per_window(window, channels):
    of_slices = VolumeSettings(window=window).channels
    model, _ = load_matcher(MatcherArguments(image_size=[8, 8]), of_slices, ["A nodule."], 0, {})
    assert model.config.num_channels == channels


@pytest.mark.slow
def test_a_run_records_the_commits_of_its_towers_and_loads_these(hub, phantom, tmp_path):
    matcher, tokenizer = make_tiny_matcher(["A nodule."], (56, 84))
    for part in (matcher.text_model, tokenizer):
        part.push_to_hub("alice/text", private=True)
    commit = hub.repo("alice/text").rev("main")
    hub.log.clear()  # of the upload
    options = ("--data_dir", str(phantom), "--text_model", "alice/text", "--max_steps", "1")
    main([*CONFIG, *options, "--output_dir", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["base"] == f"alice/text@{commit}"
    assert [line for line in hub.log if f"/resolve/{commit}/" in line and "safetensors" in line]
    assert not [line for line in hub.log if "/alice/text/resolve/main/" in line]
