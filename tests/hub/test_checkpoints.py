"""The last checkpoint of a run on a Hub on loopback, and a run that goes on from it."""

import json
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from helpers.tree import SPACING
from helpers.writable_hub import READ, STRANGER, WRITE
from huggingface_hub import HfApi
from transformers import TrainerState

from ct_rate_pairs.hub import repository
from ct_rate_pairs.hub.checkpoints import PushCheckpoints, fetch_checkpoint
from ct_rate_pairs.hub.repository import PublishError
from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator, read_row_settings
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


def make_trainer(tree: Path, out: Path, **options) -> NegativeSFTTrainer:
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", spacing=SPACING, negative="gauss")
    model, processor = make_tiny_qwen(["Finding 1. Impression 1."], hidden_size=32, num_layers=2, vision_depth=1)
    args = NegativeSFTConfig(
        output_dir=out,
        per_device_train_batch_size=2,
        save_steps=2,
        learning_rate=1e-3,
        lr_scheduler_type="constant",  # so that a run may end early
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        hub_token=WRITE,
        max_steps=6,
        **options,
    )
    return NegativeSFTTrainer(
        model=model, args=args, train_dataset=rows, data_collator=PairCollator(processor), processing_class=processor
    )


@pytest.mark.slow
def test_a_run_resumes_on_another_machine_from_the_checkpoint_on_the_hub(hub, tree, tmp_path, caplog):
    whole = make_trainer(tree, tmp_path / "whole")
    whole.train()

    # The machine is lost after step 4, whose checkpoint the Hub would not take: it has that of step 2.
    lost = make_trainer(tree, tmp_path / "lost", save_total_limit=1)
    lost.add_callback(PushCheckpoints("alice/run"))
    lost.args.max_steps = 4
    hub.faults = [{"path": "/commit/last-checkpoint", "status": 403, "after": 2}]
    lost.train()
    assert "Checkpoint 4 is not on the Hub. alice/run, committing: this token may not write" in caplog.text
    repo = hub.repo("alice/run")
    assert repo.private and set(repo.files("main")) == {".gitattributes"}
    files = repo.files("last-checkpoint")
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} < set(files)
    assert not {"training_args.bin", "README.md"} & set(files)
    assert read_row_settings("alice/run", "last-checkpoint")["spacing"] == list(SPACING)
    stored = b"".join(files.values())
    assert WRITE.encode() not in stored and str(tmp_path).encode() not in stored

    found = fetch_checkpoint("alice/run", tmp_path / "found")
    assert found == str(tmp_path / "found" / "checkpoint-2")
    resumed = make_trainer(tree, tmp_path / "found")
    resumed.train(resume_from_checkpoint=found)
    weights = whole.model.state_dict()
    assert resumed.state.global_step == 6
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.model.state_dict().items())


def save_checkpoint(out: Path, step: int, files: dict[str, bytes], callback: PushCheckpoints) -> None:
    """A step of a run, as Trainer tells callbacks of it."""
    folder = out / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (files | {"trainer_state.json": json.dumps({"global_step": step}).encode()}).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    state = TrainerState(global_step=step, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    callback.on_save(NegativeSFTConfig(output_dir=out, bf16=False), state, None)


def test_variants_in_one_repository_keep_their_checkpoints_apart(hub, tmp_path):
    for revision, step in (("main", 2), ("gauss", 4)):
        save_checkpoint(tmp_path / "run", step, {}, PushCheckpoints("alice/ct", revision=revision))
    assert set(hub.repo("alice/ct").branches) == {"main", "last-checkpoint", "last-checkpoint-gauss"}
    assert fetch_checkpoint("alice/ct", tmp_path / "new", revision="gauss") == str(tmp_path / "new" / "checkpoint-4")
    assert fetch_checkpoint("alice/ct", tmp_path / "new") == str(tmp_path / "new" / "checkpoint-2")


@pytest.mark.parametrize(
    ("file", "content", "refusal"),
    [
        ("scan.nii.gz", b"", "scan.nii.gz: a scan or a table"),
        ("adapter_config.json", b'{"base_model_name_or_path": "/data/qwen"}', "adapter_config.json: a path of this"),
        ("tokenizer_config.json", json.dumps({"note": READ}).encode(), "tokenizer_config.json: a token"),
        ("adapter_model.safetensors", bytes(100), "adapter_model.safetensors: not what its name says"),
    ],
)
def test_a_checkpoint_is_guarded_as_a_run_is(hub, tmp_path, caplog, file, content, refusal):
    save_checkpoint(tmp_path, 2, {file: content}, PushCheckpoints("alice/run"))
    assert "Checkpoint 2 is not on the Hub." in caplog.text and refusal in caplog.text and READ not in caplog.text
    assert set(hub.repo("alice/run").files("last-checkpoint")) == {".gitattributes"}


def test_what_a_training_goes_on_from_goes_up_and_nothing_else(hub, tmp_path):
    needed = ("optimizer.pt", "rng_state_1.pth", "pytorch_model_fsdp.bin", "optimizer.bin")
    files = dict.fromkeys((*needed, "notes.txt", "training_args.bin", "README.md"), b"state\0")
    save_checkpoint(tmp_path / "run", 2, files, PushCheckpoints("alice/run"))
    uploaded = set(hub.repo("alice/run").files("last-checkpoint")) - {".gitattributes"}
    assert uploaded == {*needed, "checkpoint_files.json", "trainer_state.json"}
    found = Path(fetch_checkpoint("alice/run", tmp_path / "new"))
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == uploaded


@pytest.mark.parametrize("file", ["pytorch_model_fsdp_0/.metadata", "optimizer_0/__0_0.distcp", "global_step2/a.pt"])
def test_shards_that_are_read_as_pickles_go_up_and_come_back_by_a_command_of_the_user_alone(hub, tmp_path, file):
    save_checkpoint(tmp_path / "run", 2, {file: b"state\0"}, PushCheckpoints("alice/run"))
    assert file in hub.repo("alice/run").files("last-checkpoint")
    with pytest.raises(PublishError, match=r"pickles.*hf download alice/run --revision \w+ --local-dir FOLDER"):
        fetch_checkpoint("alice/run", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_no_part_of_a_checkpoint_is_not_downloaded(hub, tmp_path):
    save_checkpoint(tmp_path / "run", 2, {"optimizer.pt": b"state"}, PushCheckpoints("alice/run"))
    for name in ("large.bin", "model.py", "checkpoint-1/optimizer.pt"):
        HfApi().upload_file(
            path_or_fileobj=b"other", path_in_repo=name, repo_id="alice/run", revision="last-checkpoint"
        )
    found = Path(fetch_checkpoint("alice/run", tmp_path / "new"))
    assert {path.name for path in found.rglob("*")} == {"optimizer.pt", "trainer_state.json", "checkpoint_files.json"}


def test_states_of_callbacks_of_anybody_are_none_of_this_run(hub, tmp_path):
    """Trainer would make a callback of any class by this name with these arguments."""
    early = {"args": {"early_stopping_patience": 3}, "attributes": {}}
    hostile = {"PushCheckpoints": {"args": {"repo_id": "mallory/run", "private": False}}}
    api = HfApi()
    api.create_repo("alice/run")
    api.create_branch("alice/run", branch="last-checkpoint", revision="main")
    state = {"global_step": 7, "stateful_callbacks": {"EarlyStoppingCallback": early, **hostile}}
    api.upload_file(
        path_or_fileobj=json.dumps(state).encode(),
        path_in_repo="trainer_state.json",
        repo_id="alice/run",
        revision="last-checkpoint",
    )
    folder = Path(fetch_checkpoint("alice/run", tmp_path / "run"))
    assert TrainerState.load_from_json(folder / "trainer_state.json").stateful_callbacks == {
        "EarlyStoppingCallback": early
    }


def test_a_storage_that_refuses_a_checkpoint_does_not_end_the_training(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(repository, "WAITS", ())
    hub.faults = [{"path": "/_lfs/", "method": "PUT", "status": 403}]
    for step in (2, 4):
        save_checkpoint(tmp_path, step, {"optimizer.pt": bytes(2000)}, PushCheckpoints("alice/run"))
    assert "Checkpoint 2 is not on the Hub." in caplog.text and "Checkpoint 4" not in caplog.text
    assert b'"global_step": 4' in hub.repo("alice/run").files("last-checkpoint")["trainer_state.json"]


def test_a_run_that_has_no_checkpoint_yet_is_told_how_to_start(hub, tmp_path):
    for _ in ("no repository", "no branch"):
        with pytest.raises(PublishError, match="no branch last-checkpoint.*Start the run without --resume_from_check"):
            fetch_checkpoint("alice/run", tmp_path)
        HfApi().create_repo("alice/run", exist_ok=True)


def test_a_gate_is_not_taken_for_a_run_without_a_checkpoint(hub, monkeypatch, tmp_path):
    save_checkpoint(tmp_path / "run", 2, {"optimizer.pt": b"1"}, PushCheckpoints("alice/run", private=False))
    hub.repo("alice/run").gated = True
    hub.connect(monkeypatch, STRANGER, tmp_path / "stranger")
    with pytest.raises(PublishError, match="gated repository, and this account has not been granted access"):
        fetch_checkpoint("alice/run", tmp_path / "new")


def test_an_older_checkpoint_in_the_cache_is_not_taken_if_the_hub_fails(hub, tmp_path):
    pushes = PushCheckpoints("alice/run")
    save_checkpoint(tmp_path / "run", 2, {"optimizer.pt": b"1"}, pushes)
    assert fetch_checkpoint("alice/run", tmp_path / "new").endswith("checkpoint-2")
    for status, told in ((503, "HTTP 503: the server fails"), (403, "has not been granted access")):
        hub.faults = [{"path": "/api/models/alice/run", "status": status, "times": 99}]
        with pytest.raises(PublishError, match=f"The checkpoint in alice/run cannot be read: .*{told}"):
            fetch_checkpoint("alice/run", tmp_path / "newer")


def test_a_checkpoint_that_did_not_arrive_whole_is_not_resumed_from(hub, tmp_path):
    api = HfApi()
    api.create_repo("alice/run")
    api.create_branch("alice/run", branch="last-checkpoint", revision="main")
    api.upload_file(path_or_fileobj=b"1", path_in_repo="optimizer.pt", repo_id="alice/run", revision="last-checkpoint")
    with pytest.raises(PublishError, match=r"not finished: it has no trainer_state\.json"):
        fetch_checkpoint("alice/run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_if_the_last_upload_was_not_finished_the_checkpoint_before_is_taken(hub, tmp_path, caplog):
    pushes = PushCheckpoints("alice/run")
    save_checkpoint(tmp_path / "run", 2, {"optimizer.pt": b"of step 2"}, pushes)
    save_checkpoint(
        tmp_path / "heter", 9, {"optimizer.pt": b"another"}, PushCheckpoints("alice/run", revision="heter")
    )
    hub.faults = [{"path": "/commit/last-checkpoint", "status": 403, "after": 1}]  # the commit with the last files
    save_checkpoint(tmp_path / "run", 4, {"optimizer.pt": b"of step 4"}, pushes)
    assert "Checkpoint 4 is not on the Hub" in caplog.text
    found = Path(fetch_checkpoint("alice/run", tmp_path / "new"))
    assert found.name == "checkpoint-2" and (found / "optimizer.pt").read_bytes() == b"of step 2"
    assert "alice/run was not finished: it has no trainer_state.json. The one before is taken" in caplog.text


@pytest.mark.parametrize("content", [None, b"of"])
def test_a_file_that_is_gone_or_cut_on_the_hub_is_taken_from_the_commit_before(hub, tmp_path, caplog, content):
    save_checkpoint(tmp_path / "run", 4, {"optimizer.pt": b"of step 4"}, PushCheckpoints("alice/run"))
    where = {"path_in_repo": "optimizer.pt", "repo_id": "alice/run", "revision": "last-checkpoint"}
    HfApi().upload_file(path_or_fileobj=content, **where) if content else HfApi().delete_file(**where)
    found = Path(fetch_checkpoint("alice/run", tmp_path / "new"))
    assert found.name == "checkpoint-4" and (found / "optimizer.pt").read_bytes() == b"of step 4"
    assert "not finished: optimizer.pt is missing or cut" in caplog.text


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"global_step": "../../elsewhere"}, "the field global_step"),
        ({"global_step": "/tmp/elsewhere"}, "the field global_step"),
        ({"global_step": -1}, "the field global_step"),
        ({"global_step": None}, "the field global_step"),
        ({"global_step": 1, "epoch": "x"}, "the field epoch"),
        ({"global_step": 1, "train_batch_size": 10**9}, "the field train_batch_size"),
        ({"global_step": 1, "stateful_callbacks": {"TrainerControl": 3}}, "the field stateful_callbacks"),
        ({"global_step": 1, "log_history": [3]}, "the field log_history"),
        ([], "the content"),
    ],
)
def test_a_checkpoint_of_anybody_writes_nowhere_but_into_its_own_folder(hub, tmp_path, state, told):
    api = HfApi()
    api.create_repo("alice/run")
    api.create_branch("alice/run", branch="last-checkpoint", revision="main")
    for name, content in (("optimizer.pt", b"1"), ("trainer_state.json", json.dumps(state).encode())):
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="alice/run", revision="last-checkpoint")
    out = tmp_path / "runs" / "run"
    before = set(tmp_path.rglob("optimizer.pt"))
    with pytest.raises(PublishError, match=f"The checkpoint in alice/run cannot be used.*trainer_state.json: {told}"):
        fetch_checkpoint("alice/run", out)
    assert not out.exists() and not (tmp_path / "elsewhere").exists()
    assert not [path for path in set(tmp_path.rglob("optimizer.pt")) - before if "hub" not in path.parts]


def test_a_path_in_the_state_of_a_checkpoint_is_none_of_this_machine(hub, tmp_path):
    api = HfApi()
    api.create_repo("alice/run")
    api.create_branch("alice/run", branch="last-checkpoint", revision="main")
    state = json.dumps({"global_step": 7, "best_model_checkpoint": str(tmp_path / "secret")}).encode()
    api.upload_file(
        path_or_fileobj=state, path_in_repo="trainer_state.json", repo_id="alice/run", revision="last-checkpoint"
    )
    folder = Path(fetch_checkpoint("alice/run", tmp_path / "run"))
    assert folder == tmp_path / "run" / "checkpoint-7"
    assert TrainerState.load_from_json(folder / "trainer_state.json").best_model_checkpoint is None
