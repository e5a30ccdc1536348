"""`ct_rate_pairs.hub.publish` against a Hub on loopback that does wrong on request."""

import json
import logging
import os
import re
import shlex
import threading
from pathlib import Path

import huggingface_hub
import pytest
import torch
from helpers import programs
from helpers.command import call
from helpers.finished_run import NIFTI, PNG, REFERENCE, SHOWN, write_model, write_run
from helpers.writable_hub import READ, STRANGER, WRITE, WritableHub, client_environment
from helpers.xet_storage import XetStorage
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from transformers import AutoModelForImageTextToText, AutoProcessor

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.hub import publish as publish_module
from ct_rate_pairs.hub import repository
from ct_rate_pairs.hub.checkpoints import take_over_push
from ct_rate_pairs.hub.guard import ForbiddenContentError
from ct_rate_pairs.hub.publish import publish, publish_or_tell_how
from ct_rate_pairs.hub.repository import PublishError
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.trainer import NegativeSFTConfig
from ct_rate_pairs.trainer.row_settings import read_row_settings


NOW = {"Retry-After": "0"}
PUBLISHED = {
    ".gitattributes",
    *("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
    *("predictions.jsonl", "processor_config.json", "results.json", "row_settings.json", "training_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "figures/labels.png", "figures/reports.png"),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run_dir(tmp_path, model_dir) -> Path:
    return write_run(tmp_path / "run", model_dir)


def uploads(hub: WritableHub) -> int:
    return sum(line.startswith("PUT /_lfs") for line in hub.log)


def test_a_run_is_published_whole_private_from_the_first_call_and_without_a_token(hub, run_dir, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    address = publish(run_dir, "alice/heter", private=True, tag="v1", collection="Chest CT")
    repo = hub.repo("alice/heter")
    assert address == f"{hub.url}/alice/heter/tree/v1"
    assert next(line for line in hub.log if not line.startswith("GET")) == "POST /api/repos/create 200"
    assert repo.private  # which nothing but its creation sets
    assert set(repo.files()) == PUBLISHED
    assert repo.tags["v1"] == repo.branches["main"]
    (slug,) = hub.collections
    assert hub.collections[slug] == [{"id": "alice/heter", "type": "model"}] and slug.startswith("alice/chest-ct-")
    stored = b"".join(data for files in repo.commits.values() for data in files.values())
    printed = "".join(capfd.readouterr()) + caplog.text + "".join(hub.log)
    assert WRITE.encode() not in stored and WRITE not in printed
    assert str(run_dir).encode() not in stored and REFERENCE.encode() not in stored

    info = HfApi().model_info("alice/heter")
    assert info.library_name == "transformers" and info.pipeline_tag == "image-text-to-text" and "phantom" in info.tags
    card = ModelCard.load("alice/heter")
    assert 'model_id, revision = "alice/heter", "v1"' in card.text and "# this folder" not in card.text
    settings = json.loads(repo.files()["training_config.json"])
    assert settings["beta"] == 0.1 and "hub_token" not in settings and "output_dir" not in settings


def test_what_is_published_loads_back_from_a_fresh_cache_with_the_same_weights(hub, run_dir, model_dir, tmp_path):
    publish(run_dir, "alice/heter", dtype="float32")
    fresh = {"cache_dir": tmp_path / "fresh"}
    loaded = AutoModelForImageTextToText.from_pretrained("alice/heter", **fresh).state_dict()
    saved = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert loaded.keys() == saved.keys() and all(torch.equal(loaded[name], saved[name]) for name in saved)
    text = "Heart size is increased."
    tokenizers = [AutoProcessor.from_pretrained(name, **fresh).tokenizer for name in ("alice/heter", str(model_dir))]
    assert tokenizers[0](text).input_ids == tokenizers[1](text).input_ids
    assert read_row_settings("alice/heter") == SHOWN


def test_a_run_that_does_not_say_what_its_model_was_shown_is_not_published(hub, tmp_path, model_dir):
    run = write_run(tmp_path / "run", model_dir)
    (run / "row_settings.json").unlink()
    with pytest.raises(PublishError, match=r"no row_settings.json.*Copy the file"):
        publish(run, "alice/run")
    assert ("models", "alice/run") not in hub.repos


def test_an_adapter_names_its_base_and_its_relation(hub, tmp_path, model_dir):
    publish(write_run(tmp_path / "lora", model_dir, adapter=True), "alice/lora")
    files = hub.repo("alice/lora").files()
    assert {"adapter_model.safetensors", "adapter_config.json"} < set(files) and "model.safetensors" not in files
    data = ModelCard.load("alice/lora").data
    assert data.base_model == "Qwen/Qwen2.5-VL-7B-Instruct" and data.base_model_relation == "adapter"


def test_the_slices_of_real_patients_stay_here_whatever_their_figure_is_called(hub, tmp_path, model_dir):
    run_dir = write_run(tmp_path / "real", model_dir, phantom=False)
    (run_dir / "figures" / "sheet.png").write_bytes(PNG)
    publish(run_dir, "alice/real")
    files = hub.repo("alice/real").files()
    assert set(files) == PUBLISHED - {"figures/reports.png"} | {".eval_results/ct_rate.yaml"}
    assert ModelCard.load("alice/real").data.license == "cc-by-nc-sa-4.0"


def test_a_variant_s_branch_holds_nothing_of_the_main_one(hub, run_dir, model_dir, tmp_path):
    publish(write_run(tmp_path / "lora", model_dir, adapter=True), "alice/model")
    hub.faults = [{"path": "/commit/heter", "status": 400}]
    with pytest.raises(PublishError, match="400"):
        publish(run_dir, "alice/model", revision="heter", tag="v1")
    assert set(hub.repo("alice/model").files("heter")) == {".gitattributes"}
    publish(run_dir, "alice/model", revision="heter", tag="v1")
    repo = hub.repo("alice/model")
    assert set(repo.files("heter")) == PUBLISHED and "adapter_config.json" in repo.files("main")
    assert repo.tags["v1"] == repo.branches["heter"]


def test_another_state_replaces_the_old_one_and_leaves_what_others_added(hub, run_dir, model_dir, tmp_path):
    publish(write_run(tmp_path / "lora", model_dir, adapter=True), "alice/model", tag="v1")
    for file in ("LICENSE", "figures/sheet.png"):  # the figure is one that an older version let through
        HfApi().upload_file(path_or_fileobj=b"Be kind.", path_in_repo=file, repo_id="alice/model")
    publish(run_dir, "alice/model", tag="v2")
    assert set(hub.repo("alice/model").files()) == PUBLISHED | {"LICENSE"}


def test_a_tag_on_another_state_is_told_before_anything_changes(hub, run_dir):
    publish(run_dir, "alice/heter", tag="v1")
    before = dict(hub.repo("alice/heter").branches)
    (run_dir / "results.json").write_text("{}")
    with pytest.raises(PublishError, match=r"has the tag v1 on another state.*Nothing was uploaded"):
        publish(run_dir, "alice/heter", tag="v1")
    assert hub.repo("alice/heter").branches == before
    publish(run_dir, "alice/heter")
    with pytest.raises(PublishError, match="has the tag v1 on another state"):
        publish(run_dir, "alice/heter", tag="v1")


def test_a_collection_is_found_by_its_title_or_slug_before_anything_is_uploaded(hub, run_dir):
    with pytest.raises(PublishError, match=r"the collection alice/none-\S+: there is no such"):
        publish(run_dir, "alice/one", collection="alice/none-65f0c0ffee")
    assert set(hub.repo("alice/one").files()) == {".gitattributes"}
    publish(run_dir, "alice/one", collection="Chest CT")
    publish(run_dir, "alice/two", collection="Chest CT")
    ((slug, items),) = hub.collections.items()
    publish(run_dir, "alice/three", collection=slug)
    assert [item["id"] for item in items] == ["alice/one", "alice/two", "alice/three"]


def test_an_old_card_does_not_speak_for_new_results(hub, run_dir):
    publish(run_dir, "alice/heter")
    (run_dir / "results.json").write_text("{}")
    hub.faults = [{"path": "/commit/", "status": 400, "after": 1}]
    with pytest.raises(PublishError, match="400"):
        publish(run_dir, "alice/heter")
    assert hub.repo("alice/heter").files()["results.json"] == b"{}"
    assert "README.md" not in hub.repo("alice/heter").files()


def test_publishing_again_uploads_and_commits_nothing(hub, run_dir):
    publish(run_dir, "alice/heter", tag="v1")
    commits, sent = len(hub.repo("alice/heter").commits), uploads(hub)
    publish(run_dir, "alice/heter", tag="v1")
    assert (len(hub.repo("alice/heter").commits), uploads(hub)) == (commits, sent)


def test_confidences_go_up_and_a_later_run_without_takes_them_away(hub, run_dir):
    (run_dir / "confidence.json").write_text('{"openings": {"Cardiomegaly": ["Heart size is increased"]}}')
    publish(run_dir, "alice/heter")
    assert set(hub.repo("alice/heter").files()) == PUBLISHED | {"confidence.json"}
    (run_dir / "confidence.json").unlink()
    publish(run_dir, "alice/heter")
    assert set(hub.repo("alice/heter").files()) == PUBLISHED


def test_an_unfinished_run_is_not_published(hub, run_dir):
    (run_dir / "model.safetensors").unlink()
    with pytest.raises(PublishError, match="no trained model"):
        publish(run_dir, "alice/heter")
    (run_dir / "README.md").unlink()
    with pytest.raises(PublishError, match="no README.md: the recipe writes it"):
        publish(run_dir, "alice/heter")
    assert hub.log == []


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "alice/heter", "No token: run `hf auth login`"),
        ("hf_wrongWRONGwrongWRONG", "alice/heter", "does not know this token"),
        ("hf_malformed MALFORMED", "alice/heter", "holds blanks or line ends"),
        (READ, "alice/heter", "this token may not write there"),
        (STRANGER, "alice/heter", "this token may not write there"),
        (WRITE, "a b/c", "a b/c, creating the repository: Repo id must use alphanumeric chars"),
        (WRITE, "https://huggingface.co/alice/heter", "Repo id must be in the form"),
        (WRITE, "", "Repo id must"),
    ],
)
def test_a_token_or_name_that_does_not_fit_is_told_and_no_token_printed(
    hub, run_dir, monkeypatch, tmp_path, capfd, token, repo_id, message
):
    hub.connect(monkeypatch, token, tmp_path / "other")
    assert call(publish_module.main, run_dir, repo_id) == 2
    said = capfd.readouterr()
    assert message in said.err and not hub.repos
    assert "hf_" not in said.out + said.err


def test_a_card_whose_metadata_are_broken_is_named(hub, run_dir):
    (run_dir / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(PublishError, match=r"README\.md: its metadata cannot be read"):
        publish(run_dir, "alice/heter")


def test_a_read_only_token_is_refused_by_a_repository_that_is_there(hub, run_dir, monkeypatch, tmp_path):
    publish(run_dir, "alice/heter")
    commits = len(hub.repo("alice/heter").commits)
    hub.connect(monkeypatch, READ, tmp_path / "other")
    (run_dir / "row_settings.json").write_text('{"num_slices": 9}')
    with pytest.raises(PublishError, match="asking to write: this token may not write there"):
        publish(run_dir, "alice/heter")
    assert len(hub.repo("alice/heter").commits) == commits


def test_a_public_repository_is_not_taken_for_a_private_one(hub, run_dir):
    HfApi().create_repo("alice/heter")
    with pytest.raises(PublishError, match="is there, and public"):
        publish(run_dir, "alice/heter", private=True)
    assert set(hub.repo("alice/heter").files()) == {".gitattributes"} and not uploads(hub)


@pytest.mark.slow
def test_limits_and_passing_faults_are_waited_out(hub, run_dir, caplog):
    hub.faults = [
        {"path": "/repos/create", "status": 429, "headers": NOW},
        {"path": "/preupload/", "status": 429, "headers": NOW},
        {"path": "/_lfs/", "status": 503, "headers": NOW},
        {"path": "/commit/", "status": 429, "headers": NOW, "times": 2},
        {"path": "/tag/", "status": 500, "headers": NOW},
    ]
    publish(run_dir, "alice/heter", tag="v1")
    assert not [fault for fault in hub.faults if fault["times"]]
    assert "alice/heter, committing: it did not work, the next try is in 0 s." in caplog.text
    assert set(hub.repo("alice/heter").files("v1")) == PUBLISHED


ENDLESS = {
    "a day": "99999",
    "5,000 digits": "1" * 5_000,
    "infinite": "inf",
    "beyond a float": "1e400",
    "a far date": "Fri, 31 Dec 9999 23:59:59 GMT",
}


@pytest.mark.parametrize("asked", ENDLESS)
def test_a_hub_that_asks_to_wait_too_long_is_not_waited_for(hub, asked):
    hub.faults = [{"path": "/repos/create", "status": 429, "headers": {"Retry-After": ENDLESS[asked]}}]
    told = r"creating the repository: the Hub asks to wait .* s, which is too long\. Run the same command again"
    with pytest.raises(PublishError, match=told):
        repository.HubRepository("alice/heter")


@pytest.mark.parametrize("asked", ["²", "-1", "nan", "soon", "", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_what_asks_for_no_wait_is_tried_again_as_usual(hub, monkeypatch, caplog, asked):
    monkeypatch.setattr(repository, "WAITS", (0.01,))
    hub.faults = [{"path": "/repos/create", "status": 503, "headers": {"Retry-After": asked}}]
    repository.HubRepository("alice/heter")
    assert "creating the repository: it did not work, the next try is in 0.01 s." in caplog.text


@pytest.mark.parametrize("status", [400, 403])
def test_a_file_that_the_storage_refuses_is_tried_again_once(hub, run_dir, monkeypatch, caplog, status):
    monkeypatch.setattr(repository, "WAITS", (0.01,))
    refusal = {"path": "/_lfs/", "method": "PUT", "status": status}
    hub.faults = [refusal]  # as an address that has expired
    publish(run_dir, "alice/heter")
    assert set(hub.repo("alice/heter").files()) == PUBLISHED
    monkeypatch.setattr(repository, "WAITS", (0.01,) * 9)
    hub.faults = [refusal | {"times": 99}]
    told = rf"alice/other, committing: .* \(the storage answered {status}\) Run the same command again"
    with pytest.raises(PublishError, match=told) as failed:
        publish(run_dir, "alice/other")
    assert "_lfs" not in str(failed.value)  # an address is as good as a token
    assert caplog.text.count("alice/other, committing: it did not work") == 1  # no third address is asked for
    hub.faults = []
    publish(run_dir, "alice/other")
    assert set(hub.repo("alice/other").files()) == PUBLISHED


def test_an_upload_that_xet_refuses_is_not_repeated_and_its_address_is_not_shown(hub, caplog):
    writer = repository.HubRepository("alice/xet")
    with XetStorage(403) as storage, pytest.raises(PublishError, match="the storage answered 403") as failed:
        writer._ask("committing", storage.upload)
    assert "http://" not in str(failed.value) and "did not work" not in caplog.text


def test_a_failure_leaves_nothing_that_looks_whole_and_the_same_call_completes_it(hub, run_dir, monkeypatch):
    monkeypatch.setattr(repository, "WAITS", ())
    steps, sent = [], []
    for fault in (
        {"path": "/commit/", "status": 500},  # all is uploaded, and nothing to be seen
        {"path": "/commit/", "status": 500, "after": 1},
        {"path": "/tag/", "status": 429},
    ):
        hub.faults = [fault]
        with pytest.raises(PublishError, match=r"(answered 500|limits the number).*Run the same command again"):
            publish(run_dir, "alice/heter", tag="v1")
        repo = hub.repo("alice/heter")
        steps.append((set(repo.files()), "v1" in repo.tags))
        sent.append(uploads(hub))
    assert steps == [
        ({".gitattributes"}, False),
        (PUBLISHED - {"README.md"}, False),
        (PUBLISHED, False),
    ]
    publish(run_dir, "alice/heter", tag="v1")
    assert hub.repo("alice/heter").tags["v1"] == hub.repo("alice/heter").branches["main"]
    assert sent == [sent[0]] * 3 and uploads(hub) == sent[0] > 0  # weights went up once


@pytest.mark.slow
def test_a_server_that_dies_and_returns_gets_the_rest(hub, run_dir, monkeypatch):
    monkeypatch.setattr(repository, "WAITS", (0.2,) * 50)
    hub.faults = [{"path": "/commit/", "die": True}]
    rescue = threading.Timer(0.5, hub.start)
    rescue.start()
    publish(run_dir, "alice/heter", tag="v1")
    rescue.join()
    assert set(hub.repo("alice/heter").files("v1")) == PUBLISHED


def test_offline_is_told_at_once(hub, run_dir, monkeypatch):
    monkeypatch.setattr(repository, "WAITS", (600,))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="creating the repository: HF_HUB_OFFLINE is set"):
        publish(run_dir, "alice/heter")


def test_a_server_that_stays_away_is_named(hub, run_dir, monkeypatch):
    monkeypatch.setattr(repository, "WAITS", (0.01,))
    hub.stop()
    try:
        with pytest.raises(PublishError, match=rf"{hub.url} does not answer \(ConnectError\). Run the same command"):
            publish(run_dir, "alice/heter")
    finally:
        hub.start()


@pytest.mark.slow
def test_a_cut_download_resumes(hub, run_dir, model_dir):
    publish(run_dir, "alice/heter", dtype="float32")
    hub.faults = [{"path": "/_cdn/", "method": "GET", "cut": 100_000}]
    path = hf_hub_download("alice/heter", "model.safetensors")
    assert Path(path).read_bytes() == (model_dir / "model.safetensors").read_bytes()
    assert sum(line.startswith("GET /_cdn/") for line in hub.log) == 2


def test_gates_and_missing_revisions_are_named_when_loading(hub, run_dir, monkeypatch, tmp_path):
    publish(run_dir, "alice/heter")
    hub.repo("alice/heter").gated = True
    with pytest.raises(OSError, match="nope is not a valid git identifier"):
        load_model("alice/heter", revision="nope")
    for number, token in enumerate((None, STRANGER)):
        hub.connect(monkeypatch, token, tmp_path / str(number))
        with pytest.raises(OSError, match="gated repo"):
            load_model("alice/heter")
    hub.connect(monkeypatch, "hf_wrongWRONGwrongWRONG", tmp_path / "wrong")
    with pytest.raises(OSError) as refused:
        load_model("alice/heter")
    assert "hf_wrong" not in str(refused.value)


@pytest.mark.slow
def test_the_command_publishes_and_the_card_s_code_runs_elsewhere_as_printed(hub, run_dir, tmp_path):
    environment = os.environ | client_environment(hub.url, WRITE, tmp_path / "one")
    environment["HF_DATASETS_CACHE"] = str(tmp_path / "datasets")
    command = ["-m", "ct_rate_pairs.hub.publish", run_dir, "alice/heter", "--private"]
    done = programs.run(*command, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.url}/alice/heter/tree/main\n" and "Warning" not in done.stderr
    assert WRITE not in done.stdout + done.stderr
    (tmp_path / "elsewhere").mkdir()
    write_cohort(tmp_path / "elsewhere" / "phantom", 4, workers=1)
    card = hub.repo("alice/heter").files()["README.md"].decode()
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[1]
    environment["HF_HOME"] = str(tmp_path / "two")
    printing = code + "\nprint(len(row['images']))"
    run = programs.run("-c", printing, cwd=tmp_path / "elsewhere", env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "6"  # slices, as the run's settings say


def test_trainer_s_options_for_the_hub_become_ours(tmp_path):
    options = {"output_dir": tmp_path / "heter", "bf16": False, "push_to_hub": True, "hub_token": WRITE}
    args = NegativeSFTConfig(**options)
    assert take_over_push(args) == {"repo_id": "heter", "private": False, "revision": "main", "token": WRITE}
    assert not args.push_to_hub
    args = NegativeSFTConfig(**options, hub_model_id="alice/ct", hub_private_repo=True, hub_revision="gauss")
    assert take_over_push(args) == {"repo_id": "alice/ct", "private": True, "revision": "gauss", "token": WRITE}


@pytest.mark.parametrize("problem", ["refused", "forbidden", "unknown"])
def test_a_push_that_fails_at_the_end_says_how_to_do_it_later(hub, run_dir, monkeypatch, problem):
    if problem == "refused":
        hub.faults = [{"path": "/commit/heter", "status": 403}]
    elif problem == "forbidden":
        (run_dir / "scan.nii.gz").write_bytes(NIFTI)
    else:
        monkeypatch.setattr(publish_module, "HubRepository", None)  # an error that nobody has thought of
    with pytest.raises((PublishError, ForbiddenContentError, TypeError)) as failed:
        publish_or_tell_how(run_dir, "alice/ct", private=True, revision="heter", token=WRITE)
    (note,) = failed.value.__notes__
    assert note.startswith(f"The run is finished, and whole in {run_dir}.") and WRITE not in note
    later = shlex.split(note.splitlines()[-1])
    monkeypatch.undo()
    hub.connect(monkeypatch, WRITE, run_dir.parent / "later")
    (run_dir / "scan.nii.gz").unlink(missing_ok=True)
    assert later[:2] == ["ct-rate-pairs", "publish"]
    publish_module.main(later[2:])
    assert hub.repo("alice/ct").private
    assert set(hub.repo("alice/ct").files("heter")) == PUBLISHED
