"""What a recipe trains and publishes comes back from the Hub as it was: bit for bit, and to the letter."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml
from datasets import load_dataset
from helpers import programs
from helpers.launch import SHORT
from helpers.paths import ROOT
from helpers.tree import SPACING
from helpers.writable_hub import READ, WRITE, WritableHub, client_environment
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from peft import LoraConfig, PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import version_of
from ct_rate_pairs.eval.predictions.provenance import read_provenance
from ct_rate_pairs.hub import load_reporter, write_model_card
from ct_rate_pairs.hub.guard import publishable_files
from ct_rate_pairs.hub.pipeline_inputs import pipeline_inputs
from ct_rate_pairs.hub.publish import publish
from ct_rate_pairs.hub.references import keep_references
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.recipes import sft_neg
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator, save_row_settings
from ct_rate_pairs.trainer.splits import texts_of
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


STEPS = 30
TINY = (
    f"--max_steps {STEPS} --save_strategy steps --save_steps 20 --max_eval_samples 3 --max_new_tokens 60 "
    "--per_device_eval_batch_size 1 --confidence_scans 20"
).split()
TO_THE_HUB = ["--push_to_hub", "true", "--hub_model_id", "alice/phantom"]
TO_THE_HUB += ["--hub_private_repo", "true", "--hub_strategy", "checkpoint"]


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The server, with this process logged in as alice, and nothing in its cache."""
    server.faults = []
    server.connect(monkeypatch, WRITE, tmp_path / "hf")
    return server


def start(
    *command: str, cwd: Path, server: WritableHub, home: str, token: str = WRITE, is_fork: bool = True
) -> subprocess.CompletedProcess:
    environment = os.environ | client_environment(server.url, token, cwd / home)
    if is_fork:
        return programs.run(*command, cwd=cwd, env=environment)
    command = (sys.executable, *command)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def train(out: str, *arguments: str, **where) -> subprocess.CompletedProcess:
    recipe = str(ROOT / "recipes" / "sft_neg.py")
    config = ("--config", str(ROOT / "recipes" / "configs" / "phantom_heter.yaml"), "--data_dir", "phantom")
    return start(recipe, *config, "--output_dir", out, *TINY, *TO_THE_HUB, *arguments, **where)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the runs of this module are, with a phantom cohort."""
    folder = tmp_path_factory.mktemp("runs")
    write_cohort(folder / "phantom", 160, valid_scans=4, workers=1)
    return folder


@pytest.fixture(scope="module")
def first_machine(server, folder) -> subprocess.CompletedProcess:
    """A run whose last checkpoint, and whose end, the Hub would not take."""
    server.faults = [
        {"path": "/commit/last-checkpoint", "status": 403, "after": 2, "times": 9},
        {"path": "/commit/main", "status": 403},
    ]
    return train("first", cwd=folder, server=server, home="first_hf")


@pytest.fixture(scope="module")
def published(server, folder, first_machine) -> Path:
    """The folder of that run, published later by the command that it printed."""
    server.faults = []
    command = shlex.split(first_machine.stderr.strip().splitlines()[-1])
    assert command[0] == "ct-rate-pairs"
    done = start("-m", "ct_rate_pairs", *command[1:], cwd=folder, server=server, home="later_hf")
    assert done.returncode == 0, done.stderr
    return folder / "first"


def weights(name: str | Path, dtype: str = "auto") -> dict[str, torch.Tensor]:
    return AutoModelForImageTextToText.from_pretrained(name, dtype=dtype).state_dict()


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def predictions(text: str) -> dict[str, str]:
    rows = map(json.loads, text.splitlines())
    return {row["volume"]: row["report"] for row in rows}


def code_of_card(repo_id: str, revision: str = "main") -> list[str]:
    card = Path(hf_hub_download(repo_id, "README.md", revision=revision)).read_text()
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run(code: str) -> str:
    """What a block of code prints."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        exec(compile(code, "card", "exec"), {})
    return printed.getvalue()


@pytest.mark.slow
def test_a_push_that_is_refused_at_the_end_leaves_a_whole_run_and_the_command(folder, first_machine):
    assert first_machine.returncode == 2
    assert "Checkpoint 30 is not on the Hub. alice/phantom, committing: this token may not" in first_machine.stderr
    told = first_machine.stderr[first_machine.stderr.rindex("alice/phantom, committing") :]
    assert "The run is finished, and whole in first." in told and "Traceback" not in told
    assert told.strip().endswith("ct-rate-pairs publish first alice/phantom --private")
    assert {"README.md", "results.json", "confidence.json"} <= set(publishable_files(folder / "first"))
    assert WRITE not in first_machine.stdout + first_machine.stderr


@pytest.mark.slow
def test_a_recipe_s_run_comes_back_bit_for_bit_and_to_the_letter(hub, folder, published):
    assert hub.repo("alice/phantom").private
    files = set(HfApi().list_repo_files("alice/phantom"))
    assert files == {".gitattributes", *publishable_files(published)}
    assert {"confidence.json", "figures/losses.png", "predictions.jsonl"} < files
    info = HfApi().model_info("alice/phantom")
    assert (info.library_name, info.pipeline_tag) == ("transformers", "image-text-to-text")
    assert {"phantom", "report-generation"} < set(info.tags)
    card = ModelCard.load("alice/phantom")
    results = json.loads(Path(hf_hub_download("alice/phantom", "results.json")).read_text())
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told["coverage"] == round(results["model"]["coverage"], 4)
    assert "## Confidence" in card.text and WRITE not in card.content

    publish(published, "alice/exact", private=True, dtype="float32")
    assert_equal(weights("alice/exact"), weights(published))
    assert_equal(weights("alice/phantom"), weights(published, "bfloat16"))
    written = predictions(Path(hf_hub_download("alice/phantom", "predictions.jsonl")).read_text())
    assert read_provenance(published / "predictions.jsonl")["weights"] == version_of(str(published))
    exact, local = load_reporter("alice/exact"), load_reporter(published)
    rounded, local_rounded = load_reporter("alice/phantom"), load_reporter(published, dtype="bfloat16")
    assert len(written) == 3
    for volume, text in written.items():
        (scan,) = (folder / "phantom").rglob(volume)
        report, same = (each.report(scan, max_new_tokens=60) for each in (exact, local))
        assert report.text == same.text == text  # what the training process wrote
        assert report.findings == same.findings and all(finding.confidence for finding in report.findings)
        report, same = (each.report(scan, max_new_tokens=60) for each in (rounded, local_rounded))
        assert report.text == same.text and report.findings == same.findings
    assert report.calibration["n"] == json.loads((published / "confidence.json").read_text())["measured"]["n"]


@pytest.mark.slow
def test_the_card_s_code_runs_as_printed(hub, folder, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom").symlink_to(folder / "phantom")
    volume = next(iter(predictions((published / "predictions.jsonl").read_text())))  # the split's first
    (tmp_path / "scan.nii.gz").symlink_to(next((folder / "phantom").rglob(volume)))
    of_a_scan, of_a_row, alone = code_of_card("alice/phantom")
    printed = run(of_a_row)  # the same row's report by the model and by the pipeline
    report = printed[: len(printed) // 2]
    assert report.strip() and printed == report * 2
    assert run(of_a_scan).startswith(report)
    assert run(alone) == report


@pytest.mark.slow
def test_another_machine_goes_on_from_the_hub_and_ends_at_the_same_weights(
    server, hub, folder, first_machine, published
):
    # It is there for its weights: what it writes and measures is short.
    resumed = ("--resume_from_checkpoint", "last-checkpoint", "--max_new_tokens", "4", "--max_eval_samples", "1")
    # No fork, so that its hashes of strings are not those of the first machine.
    second = train("second", *resumed, cwd=folder, server=server, home="second_hf", is_fork=False)
    assert second.returncode == 0, second.stderr[-3000:]
    assert f"Published: {server.url}/alice/phantom/tree/main" in second.stdout
    assert "'loss'" in first_machine.stdout and "'loss'" not in second.stdout  # logged at step 20, which it begins at
    assert_equal(weights(folder / "second"), weights(published))
    assert_equal(weights("alice/phantom"), weights(published, "bfloat16"))
    files = server.repo("alice/phantom").files("last-checkpoint")
    assert json.loads(files["trainer_state.json"])["global_step"] == STEPS
    stored = b"".join(data for tree in server.repo("alice/phantom").commits.values() for data in tree.values())
    assert WRITE.encode() not in stored and WRITE not in second.stdout + second.stderr


@pytest.mark.slow
def test_a_token_that_may_not_write_ends_the_recipe_before_the_training(server, folder):
    server.faults = []
    ended = train("never", cwd=folder, server=server, home="read_hf", token=READ)
    assert ended.returncode != 0 and "this token may not write there" in ended.stderr
    assert READ not in ended.stdout + ended.stderr and not (folder / "never").exists()


@pytest.fixture
def adapter(hub, tree, tmp_path) -> tuple[PeftModel, list[dict], Path]:
    """A LoRA that the trainer has trained on a base from the Hub, the test split's rows, and its run's folder."""
    options = {"data_dir": str(tree), "spacing": SPACING}
    train = load_dataset("ct_rate_pairs", split="train", negative="gauss", **options)
    base, processor = make_tiny_qwen([row["completion"][0]["content"] for row in train])
    batch = PairCollator(processor)([train[0]])
    batch = {name: value for name, value in batch.items() if name != "volumes" and not name.startswith("negative")}
    optimizer = torch.optim.AdamW(base.parameters(), lr=3e-3)
    for _ in range(40):  # knows one report by heart
        base(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    base.push_to_hub("alice/base", private=True)
    processor.push_to_hub("alice/base")
    folder = tmp_path / "lora"
    args = NegativeSFTConfig(
        output_dir=folder,
        per_device_train_batch_size=2,
        max_steps=12,
        learning_rate=2e-2,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    trainer = NegativeSFTTrainer(
        model=AutoModelForImageTextToText.from_pretrained("alice/base"),
        args=args,
        train_dataset=train,
        data_collator=PairCollator(AutoProcessor.from_pretrained("alice/base")),
        processing_class=processor,
        peft_config=LoraConfig(target_modules=r".*language_model.*_proj", r=4),
    )
    trainer.train()
    trainer.save_model()
    processor.save_pretrained(folder)
    save_row_settings([reader_of(train)], folder)
    keep_references(folder, train)
    write_card(folder, args, base_model="alice/base")
    return trainer.model.eval(), list(load_dataset("ct_rate_pairs", split="test", **options)), folder


def write_card(folder: Path, args: NegativeSFTConfig, base_model: str) -> None:
    scores = {"coverage": 0.5, "labeler": "rules", "recipe": "lower"}
    facts = {
        "negative": "gauss",
        "num_train": 4,
        "num_test": 1,
        "steps": 12,
        "hardware": "2 CPU cores",
        "minutes": 1.0,
    }
    write_model_card(folder, {"model": scores}, args, phantom=True, base_model=base_model, **facts)


def reports_of(model: torch.nn.Module, processor, rows: list[dict]) -> list[str]:
    return generate_reports(model, PairCollator(processor), rows, max_new_tokens=40, progress=False)


@pytest.mark.slow
def test_a_run_records_the_commit_of_its_base_model(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    data = str(folder / "phantom")
    base, processor = make_tiny_qwen(texts_of(load_dataset("ct_rate_pairs", data_dir=data, split="train")))
    base.push_to_hub("alice/started", private=True)
    processor.push_to_hub("alice/started")
    commit = hub.repo("alice/started").rev("main")
    options = [
        "--config",
        "phantom_heter",
        "--data_dir",
        data,
        "--model_name_or_path",
        "alice/started",
        "--muon",
        "false",
    ]
    options += ["--use_peft", "true", "--lora_target_modules", ".*language_model.*_proj", "--confidence_scans", "0"]
    options += SHORT
    sft_neg.main([*options, "--output_dir", str(tmp_path / "run")])
    adapter = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("alice/started", commit)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["base"] == f"alice/started@{commit}"
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["model_revision"] == commit
    written = read_provenance(tmp_path / "run" / "predictions.jsonl")["weights"]
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="generation_config.json", repo_id="alice/started")
    assert hub.repo("alice/started").rev("main") != commit
    assert version_of(str(tmp_path / "run")) == written  # whatever the branch points to now


@pytest.mark.slow
def test_an_adapter_comes_back_on_its_base_from_the_hub(hub, adapter, tree, tmp_path, monkeypatch):
    model, rows, folder = adapter
    publish(folder, "alice/lora", private=True)
    hub.connect(monkeypatch, WRITE, tmp_path / "fresh")
    assert {"adapter_model.safetensors", "adapter_config.json"} < set(HfApi().list_repo_files("alice/lora"))
    card = HfApi().model_info("alice/lora").card_data
    assert (card.base_model, card.base_model_relation) == ("alice/base", "adapter")
    reporter = load_reporter("alice/lora")
    expected = reports_of(model, reporter.collator.processor, rows)
    assert all(expected) and reports_of(reporter.model, reporter.collator.processor, rows) == expected
    with model.disable_adapter():
        assert reports_of(model, reporter.collator.processor, rows) != expected  # which the adapter decides on

    pipe = pipeline("image-text-to-text", "alice/lora")
    by_pipeline = [pipe(**pipeline_inputs(row, pipe.processor, 40))[0]["generated_text"].strip() for row in rows]
    assert by_pipeline == expected


@pytest.mark.slow
def test_an_adapter_on_a_branch_with_a_tag_comes_back_by_its_card_s_code(hub, adapter, tree, tmp_path, monkeypatch):
    model, rows, folder = adapter
    publish(folder, "alice/variants", revision="heter", tag="heter-v1")
    hub.connect(monkeypatch, WRITE, tmp_path / "fresh")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phantom").symlink_to(tree)
    (tmp_path / "scan.nii.gz").symlink_to(next(tree.rglob(rows[0]["volume"])))
    reporter = load_reporter("alice/variants", "heter-v1")
    (expected,) = reports_of(model, reporter.collator.processor, rows[:1])
    assert expected and reports_of(reporter.model, reporter.collator.processor, rows[:1]) == [expected]
    of_a_scan, of_a_row, alone = code_of_card("alice/variants", "heter-v1")
    assert 'model_id, revision = "alice/variants", "heter-v1"' in of_a_row
    printed = run(of_a_row)  # the same row's report by the model and by the pipeline
    assert printed.startswith(expected) and printed == printed[: len(printed) // 2] * 2
    assert run(of_a_scan).startswith(expected)
    assert run(alone).startswith(expected)


@pytest.mark.slow
def test_a_merged_adapter_comes_back_as_a_whole_model(hub, adapter, tmp_path, monkeypatch):
    model, rows, folder = adapter
    merged = model.merge_and_unload()
    expected = reports_of(merged, AutoProcessor.from_pretrained(folder), rows)
    assert all(expected)
    for file in folder.glob("adapter_*"):
        file.unlink()
    merged.save_pretrained(folder)
    write_card(folder, NegativeSFTConfig(output_dir=folder, bf16=False), base_model="alice/base")
    publish(folder, "alice/merged", dtype="float32")
    hub.connect(monkeypatch, WRITE, tmp_path / "fresh")
    assert HfApi().model_info("alice/merged").card_data.base_model_relation == "finetune"
    assert_equal(weights("alice/merged"), merged.state_dict())
    reporter = load_reporter("alice/merged")
    assert reports_of(reporter.model, reporter.collator.processor, rows) == expected
