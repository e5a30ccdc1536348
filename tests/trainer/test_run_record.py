"""A run leaves what it takes to repeat it, and what it ran with."""

import json
import os
import shutil
import subprocess
from importlib import import_module

import pytest
import torch
import yaml
from datasets import load_dataset
from helpers.launch import SHORT
from helpers.pair_trainer import make_trainer
from transformers import TrainerState

from ct_rate_pairs.hub.guard import publishable_files
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.recipes import sft_neg
from ct_rate_pairs.recipes.training_arguments import OF_OPTIM
from ct_rate_pairs.trainer import MuonAdamW, run_record
from ct_rate_pairs.trainer.run_record import (
    ENVIRONMENT,
    RUN,
    WriteRunRecord,
    changed_options,
    code_version,
    describe_optimizer,
    options_in_effect,
    sources_version,
    versions,
    write_run_config,
)


def parsed(*argv):
    parser = sft_neg.make_parser()
    sft_neg.parse(list(argv), parser)
    return parser


CASES = {
    "demo": ("--config", "phantom"),
    "lists and numbers": (
        "--config",
        "phantom",
        "--window",
        "-200",
        "300",
        "--learning_rate",
        "1e-7",
        "--z_range",
        "0",
        "0.5",
    ),
    "lora": (
        "--config",
        "origin",
        "--bf16",
        "false",
        "--use_peft",
        "true",
        "--lora_target_modules",
        "q_proj",
        "v_proj",
    ),
    "mixture": ("--config", "mixture", "--mixture", '{"report": 1, "vqa": 3}'),
    "a number for a name": ("--config", "origin", "--bf16", "false", "--model_revision", "1234567"),
}


@pytest.mark.parametrize("argv", CASES.values(), ids=CASES)
def test_the_options_of_a_run_are_a_config_of_the_same_run(tmp_path, argv, capsys, caplog):
    first = parsed(*argv)
    write_run_config("ct-rate-pairs train", first.values, first.given, tmp_path)
    capsys.readouterr()
    caplog.clear()
    again = parsed("--config", str(tmp_path / RUN))
    kept = {name: value for name, value in first.values.items() if name not in ("config", "hub_token")}
    assert {name: again.values[name] for name in kept} == kept
    assert changed_options(again.values, tmp_path) == []
    assert "max_label_distance" not in capsys.readouterr().err + caplog.text  # nothing is told of a default


def test_the_record_has_every_option_and_no_token(tmp_path):
    parser = parsed("--config", "phantom", "--hub_token", "hf_" + "a" * 30, "--freeze_vision", "true")
    write_run_config("ct-rate-pairs train", parser.values, parser.given, tmp_path)
    text = (tmp_path / RUN).read_text()
    written = yaml.safe_load(text)
    assert {
        "muon": True,
        "freeze_vision": True,
        "streaming": False,
        "optim": parser.values["optim"],
    }.items() <= written.items()
    assert "hf_" not in text and text.index("freeze_vision") < text.index("# Defaults of") < text.index("streaming")


def test_the_record_of_a_study_is_no_config(tmp_path):
    (tmp_path / RUN).write_text(yaml.safe_dump({"state": "finished", "settings": {}, "cohort": {}}))
    with pytest.raises(ValueError, match=r"run.yaml is the record that a study keeps.*config.yaml"):
        parsed("--config", str(tmp_path / RUN))


def test_the_record_has_the_values_in_effect_of_options_that_were_not_given(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tree.parent)
    given = ("--config", "mixture", "--data_dir", tree.name, "--num_slices", "4", "--questions_per_volume", "2")
    first = parsed(*given)
    rows = {"data_dir": tree.name, "num_slices": 4, "spacing": (4.5, 4.5, 6.5), "validation_size": 0.0}
    tasks = ({"task": "report"}, {"task": "vqa", "questions_per_volume": 2})
    splits = [load_dataset("ct_rate_pairs", split="train", **rows, **task) for task in tasks]
    used = options_in_effect(first.values, splits)
    write_run_config("ct-rate-pairs train", used, first.given, tmp_path)
    written = yaml.safe_load((tmp_path / RUN).read_text())
    known = {"num_slices": 4, "window": "paper", "z_range": [0.0, 1.0], "files": "fixed", "reconstructions": "first"}
    known |= {"target": "findings+impression", "prompt": "en", "prompt_metadata": False, "questions_per_volume": 2}
    assert known.items() <= written.items() and "difficulty" not in written  # no task asks for it
    assert written["data_dir"] == str(tree)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    recipe_args, *_ = sft_neg.parse(["--config", str(tmp_path / RUN)])
    assert "no effect" not in capsys.readouterr().err
    options = {name: value for name, value in recipe_args.dataset_options().items() if name != "task"}
    again = load_dataset("ct_rate_pairs", split="train", validation_size=0.0, **options)
    assert reader_of(again).source.settings == reader_of(splits[0]).source.settings


@pytest.mark.slow
def test_a_run_is_repeated_bit_for_bit_by_its_own_record(tmp_path, phantom, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    options = ("--config", "phantom_heter", "--data_dir", str(phantom), *SHORT, "--confidence_scans", "0")
    sft_neg.main([*options, "--output_dir", str(tmp_path / "first"), "--learning_rate", "1e-3"])
    sft_neg.main(["--config", str(tmp_path / "first" / RUN), "--output_dir", str(tmp_path / "second")])
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    environment = json.loads((tmp_path / "first" / ENVIRONMENT).read_text())
    assert environment["optimizer"]["name"] == "MuonAdamW"
    record = yaml.safe_load((tmp_path / "first" / RUN).read_text())
    assert record["muon"] and not record.keys() & set(OF_OPTIM)  # another optimizer did not run
    settings = json.loads((tmp_path / "first" / "training_config.json").read_text())
    assert settings["optimizer"]["name"] == "MuonAdamW" and "optim" not in settings and "adam_beta1" not in settings
    card = (tmp_path / "first" / "README.md").read_text()
    assert "| optimizer | MuonAdamW |" in card and f"trl {versions()['trl']}" in card
    assert ENVIRONMENT in publishable_files(tmp_path / "first")
    assert RUN not in publishable_files(tmp_path / "first")  # it has paths of this machine


def test_the_optimizer_is_the_one_that_ran(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.0, max_steps=1, optim="adafactor")
    trainer.add_callback(WriteRunRecord("train", {}, ()))
    trainer.train()
    environment = json.loads((tmp_path / ENVIRONMENT).read_text())
    assert environment["optimizer"]["name"] == "Adafactor"
    assert environment["versions"].keys() >= {"ct-rate-pairs", "torch", "transformers", "trl", "datasets", "peft"}
    muon = describe_optimizer(MuonAdamW(trainer.model, lr=0.5))
    assert (muon["name"], [group["lr"] for group in muon["groups"]]) == ("MuonAdamW", [0.5, 0.5])
    assert sum(group["parameters"] for group in muon["groups"]) == trainer.model.num_parameters()


def test_going_on_with_other_options_is_told(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    write_run_config("train", {"learning_rate": 0.1, "seed": 3, "output_dir": "a"}, {"seed"}, tmp_path)
    record = WriteRunRecord("train", {"learning_rate": 0.2, "seed": 3, "output_dir": "b"}, {"seed"})
    optimizer = torch.optim.SGD(trainer.model.parameters())
    state = TrainerState(global_step=4, is_world_process_zero=True)
    record.on_train_begin(trainer.args, state, trainer.control, optimizer=optimizer)
    assert capsys.readouterr().out == "This run was begun with other options: learning_rate 0.1, now 0.2.\n"
    assert yaml.safe_load((tmp_path / RUN).read_text())["learning_rate"] == 0.2


def test_the_commit_is_that_of_this_package_and_no_other(tmp_path, monkeypatch):
    def git(*arguments):
        environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *identity, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    package = tmp_path / "trainer" / "run_record.py"
    package.parent.mkdir()
    package.write_text("first\n")
    monkeypatch.setattr(run_record, "__file__", str(package))
    assert code_version() == {"commit": None, "dirty": None}  # installed in somebody else's repository
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    assert code_version() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    package.write_text("changed\n")
    assert code_version()["dirty"] is True
    monkeypatch.setattr(run_record.shutil, "which", lambda name: None)
    assert code_version() == {"commit": None, "dirty": None}


def test_each_source_that_decides_about_a_text_is_a_part_of_the_version_of_the_code(tmp_path, monkeypatch):
    before = sources_version.__wrapped__()
    assert before == sources_version() and before.endswith(f"torch {versions()['torch']}")
    changed = [f"ct_rate_pairs.{room}" for room in ("volumes", "volumes.dicom", "reports", "trainer")]
    found = {before}
    for package in changed:
        module = import_module(package)
        (folder,) = module.__path__
        copy = shutil.copytree(folder, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(module, "__path__", [str(copy)])
            assert sources_version.__wrapped__() == before
            (copy / "__init__.py").write_text("changed = True")
            found.add(sources_version.__wrapped__())
    assert len(found) == 1 + len(changed)
