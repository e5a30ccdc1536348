"""`ct-rate-pairs grpo`: a few steps on a model that has learnt to read, saved as any run, and measured."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from datasets import load_dataset
from helpers.command import call
from helpers.tree import write_tree
from helpers.writable_hub import WRITE
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import AutoProcessor

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.eval.predictions.store import read_predictions
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.guard import publishable_files
from ct_rate_pairs.hub.reporting.masks import load_masker
from ct_rate_pairs.recipes import grpo
from ct_rate_pairs.trainer import read_row_settings
from ct_rate_pairs.trainer.label_head import LabelHead
from ct_rate_pairs.trainer.what_learns import vision_tower


STEPS = ("--max_steps", "2", "--logging_steps", "1", "--max_completion_length", "6", "--num_generations", "2")
BATCH = ("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1", "--dataloader_num_workers", "0")
MEASURES = ("--max_eval_samples", "2", "--max_new_tokens", "6", "--confidence_scans", "0", "--operating_point", "none")
LENGTH = ("--reward_funcs", "length", "--reward_weights", "1")


def start(model, phantom, out, *options):
    """The arguments of a short run."""
    data = ("--config", "phantom_grpo", "--model_name_or_path", str(model), "--data_dir", str(phantom))
    return [*data, "--output_dir", str(out), *STEPS, *BATCH, *MEASURES, *options]


def refused(capsys, model, phantom, out, *options):
    """What the command tells when it refuses the options."""
    assert call(grpo.main, *start(model, phantom, out, *options)) == 2
    assert not list(out.glob("*.safetensors"))
    return capsys.readouterr().err


def test_a_reinforced_model_is_measured_and_ends_as_a_run_that_can_be_published(tmp_path, phantom, reader_dir, capsys):
    out = tmp_path / "run"
    rewards = ("--reward_funcs", "label_f1", "crg", "place", "length", "--reward_weights", "1", "1", "1", "0.5")
    # So that whole texts differ: only what is better than others is learnt.
    rewards += ("--temperature", "1.3", "--max_completion_length", "48", "--num_generations", "4")
    rewards += ("--per_device_train_batch_size", "4")
    validation = ("--eval_strategy", "steps", "--eval_steps", "2", "--per_device_eval_batch_size", "4")
    validation += ("--validation_scans", "1")
    grpo.main(start(reader_dir, phantom, out, *rewards, *validation))
    told = capsys.readouterr().out
    assert "language model" in told and "not kept" not in told
    assert "eval_reward" in told and "rewards/crg_reward/mean" in told and "unreadable" in told

    before, after = (read_row_settings(str(folder)) for folder in (reader_dir, out))
    assert before.items() <= after.items()  # the scans are shown as in the training before
    assert json.loads((out / "row_settings.json").read_text())["tasks"] == ["report"]
    assert (out / "model.safetensors").read_bytes() != (reader_dir / "model.safetensors").read_bytes()
    AutoProcessor.from_pretrained(out)
    assert "ct-rate-pairs" in json.loads((out / "environment.json").read_text())["versions"]
    assert "ct-rate-pairs grpo --config" in (out / "run.yaml").read_text()

    results = json.loads((out / "results.json").read_text())
    assert results["model"]["n"] == 2 and {"all_negative", "shuffled"} <= results.keys()
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 2
    config = json.loads((out / "training_config.json").read_text())
    assert (config["num_generations"], config["reward_weights"]) == (4, [1.0, 1.0, 1.0, 0.5])
    card = (out / "README.md").read_text()
    assert "by rewards on the reports that it writes" in card and "`ct-rate-pairs grpo --config run.yaml" in card
    assert str(tmp_path) not in card and str(reader_dir) not in card
    published = publishable_files(out)
    assert {"README.md", "model.safetensors", "results.json", "figures/rewards.png"} <= set(published)


@pytest.mark.slow
def test_confidences_are_fitted_anew_and_reports_are_written_at_an_operating_point(tmp_path, line_reader_dir):
    write_tree(tmp_path / "tree", scans=130)  # of the training patients, some are for validation
    out, measures = tmp_path / "run", "--confidence_scans 6 --operating_point f1 --max_eval_samples 4"
    rewards = ("--reward_funcs", "agreement", "--reward_weights", "1", "--learning_rate", "1e-9")
    longer = ("--max_completion_length", "60", "--max_new_tokens", "60", "--per_device_eval_batch_size", "4")
    grpo.main(start(line_reader_dir, tmp_path / "tree", out, *rewards, *longer, *measures.split()))
    assert (out / "confidence.json").read_bytes() != (line_reader_dir / "confidence.json").read_bytes()
    assert json.loads((out / "results.json").read_text())["model"]["operating_point"] == "f1"
    assert (out / "domain.json").is_file() and "calibrated on 6 scans" in (out / "README.md").read_text()


def test_a_mask_head_is_kept_if_the_tower_that_it_reads_has_not_learnt_and_else_it_is_told(
    tmp_path, mask_reader_dir, capsys
):
    model, _ = load_model(str(mask_reader_dir), device="cpu")
    trainer = SimpleNamespace(model=model, args=SimpleNamespace(output_dir=tmp_path))
    model.requires_grad_(True)
    grpo.keep_heads(trainer, str(mask_reader_dir), None)
    assert "is not kept: the vision tower" in capsys.readouterr().out and not list(tmp_path.iterdir())
    vision_tower(model).requires_grad_(False)
    grpo.keep_heads(trainer, str(mask_reader_dir), None)
    for name in ("mask_head.safetensors", "masks.json"):
        assert (tmp_path / name).read_bytes() == (mask_reader_dir / name).read_bytes()


def test_a_label_head_is_left_out_and_told_because_the_language_model_that_it_reads_has_learnt(tmp_path, capsys):
    start, out = tmp_path / "start", tmp_path / "run"
    for folder in (start, out):
        folder.mkdir()
    LabelHead(8).save(start)
    grpo.keep_heads(SimpleNamespace(args=SimpleNamespace(output_dir=out)), str(start), None)
    assert "The label head of" in capsys.readouterr().out and not list(out.iterdir())


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint_and_repeats_from_its_record(tmp_path, phantom, reader_dir):
    out, again = tmp_path / "run", tmp_path / "again"
    grpo.main(start(reader_dir, phantom, out, *LENGTH, "--save_strategy", "steps", "--save_steps", "1"))
    shutil.copytree(out / "checkpoint-1", again / "checkpoint-1")
    grpo.main(["--config", str(out / "run.yaml"), "--output_dir", str(again), "--resume_from_checkpoint", "true"])
    assert (again / "model.safetensors").is_file() and (again / "checkpoint-2" / "checkpoint_files.json").is_file()
    third = tmp_path / "third"
    grpo.main(["--config", str(out / "run.yaml"), "--output_dir", str(third)])
    assert (third / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_adapters_learn_and_keep_near_the_model_they_start_from(tmp_path, phantom, reader_dir):
    out = tmp_path / "run"
    adapters = ("--use_peft", "true", "--lora_r", "2", "--lora_target_modules", ".*language_model.*_proj")
    grpo.main(start(reader_dir, phantom, out, *LENGTH, *adapters, "--beta", "0.1"))
    assert (out / "adapter_model.safetensors").is_file() and read_row_settings(str(out))["num_slices"] == 6


@pytest.mark.slow
def test_an_adapter_with_a_mask_head_goes_on_as_it_is_and_comes_back_from_the_hub(
    hub, tmp_path, phantom, mask_reader_dir, monkeypatch
):
    HfApi().create_repo("alice/base")
    HfApi().upload_folder(folder_path=mask_reader_dir, repo_id="alice/base")
    commit = hub.repo("alice/base").rev("main")
    adapters = ("--use_peft", "true", "--lora_r", "2", "--lora_target_modules", ".*language_model.*_proj")
    # So that whole texts differ, as a text that is cut earns nothing.
    rate = ("--learning_rate", "1e-2", "--temperature", "1.3", "--max_completion_length", "48")
    rate += ("--num_generations", "4", "--per_device_train_batch_size", "4")
    grpo.main(start("alice/base", phantom, tmp_path / "first", *LENGTH, *adapters, *rate))
    hub_options = ("--push_to_hub", "true", "--hub_model_id", "alice/second")
    saved = ("--save_strategy", "steps", "--save_steps", "2", "--beta", "0.1")
    grpo.main(start(tmp_path / "first", phantom, tmp_path / "second", *LENGTH, *rate, *saved, *hub_options))

    first, second = (load_file(tmp_path / run / "adapter_model.safetensors") for run in ("first", "second"))
    assert first.keys() == second.keys()
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())
    config = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"], config["r"]) == ("alice/base", commit, 2)
    assert not [*(tmp_path / "second").rglob("ref")]  # the start, which TRL has measured the distance from
    hub.connect(monkeypatch, WRITE, tmp_path / "fresh")
    card = HfApi().model_info("alice/second").card_data
    assert (card.base_model, card.base_model_relation) == ("alice/base", "adapter")
    reporter = load_reporter("alice/second", device="cpu")
    before = load_masker(str(mask_reader_dir), None, reporter.model)
    assert reporter.masker.head.names == before.head.names and reporter.masker.fitted == before.fitted
    options = read_row_settings("alice/second")
    test = load_dataset("ct_rate_pairs", data_dir=str(phantom), split="test", **options)
    rows = [test[index] for index in range(2)]
    written = generate_reports(reporter.model, reporter.collator, rows, max_new_tokens=6, progress=False)
    assert written == [*read_predictions(tmp_path / "second" / "predictions.jsonl").values()]


def test_lora_options_beside_an_adapter_are_refused_as_it_goes_on_as_it_is(tmp_path, phantom, reader_dir, capsys):
    model = tmp_path / "model"
    shutil.copytree(reader_dir, model)
    (model / "adapter_config.json").write_text("{}")
    told = refused(capsys, model, phantom, tmp_path / "run", *LENGTH, "--use_peft", "true", "--lora_r", "4")
    assert "is an adapter, which goes on as it is" in told


@pytest.mark.slow
def test_a_whole_model_keeps_near_a_copy_of_itself(tmp_path, phantom, reader_dir, capsys):
    grpo.main(start(reader_dir, phantom, tmp_path / "run", *LENGTH, "--beta", "0.1"))
    assert "'kl'" in capsys.readouterr().out


def test_a_model_that_was_not_trained_here_is_refused(tmp_path, phantom, reader_dir, capsys):
    model = tmp_path / "model"
    shutil.copytree(reader_dir, model, ignore=shutil.ignore_patterns("row_settings.json"))
    told = refused(capsys, model, phantom, tmp_path / "run", *LENGTH)
    assert "was not trained by ct-rate-pairs" in told and "ct-rate-pairs train --model_name_or_path" in told


def test_a_model_of_another_task_is_refused(tmp_path, phantom, reader_dir, capsys):
    model = tmp_path / "model"
    shutil.copytree(reader_dir, model)
    settings = json.loads((model / "row_settings.json").read_text())
    (model / "row_settings.json").write_text(json.dumps(settings | {"tasks": ["vqa"]}))
    assert "was trained on vqa, and writes no reports" in refused(capsys, model, phantom, tmp_path / "run", *LENGTH)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model_name_or_path", "tiny"), "Train one by `ct-rate-pairs train`"),
        (("--reward_funcs", "agreement", "--reward_weights", "1"), "writes no such line"),
        (("--reward_funcs", "length", "place", "--reward_weights", "1"), "1 numbers for 2 --reward_funcs"),
        ((*LENGTH, "--use_vllm", "true"), "Leave the option out"),
        ((*LENGTH, "--vllm_mode", "server"), "without vLLM"),
        ((*LENGTH, "--validation_scans", "3"), "eval_strategy is no"),
        ((*LENGTH, "--sync_ref_model", "true"), "there is no reference model"),
        ((*LENGTH, "--operating_point", "f1"), "pass --confidence_scans"),
        (
            (*LENGTH, "--operating_point", "f1", "--confidence_scans", "9"),
            "writes no such line. Pass --operating_point",
        ),
        ((*LENGTH, "--hub_model_id", "me/it"), "push_to_hub is false"),
        ((*LENGTH, "--load_in_4bit", "true"), "--use_peft true"),
        ((*LENGTH, "--trust_remote_code", "true"), "never run here"),
        ((*LENGTH, "--negative", "heter"), "no option --negative"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_a_remedy(tmp_path, phantom, reader_dir, capsys, options, told):
    assert told in refused(capsys, reader_dir, phantom, tmp_path / "run", *options)
