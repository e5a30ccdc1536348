"""A trained model is shown what it was trained on."""

import json
import time

import huggingface_hub
import pytest
from datasets import Dataset, concatenate_datasets, interleave_datasets, load_dataset
from helpers.tree import SPACING
from helpers.writable_hub import WRITE, WritableHub
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

import ct_rate_pairs  # noqa: F401
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.trainer import read_row_settings, save_row_settings
from ct_rate_pairs.trainer.row_settings import options_to_show, settings_of_dataset


def test_rows_read_by_the_saved_settings_are_those_of_training(tree, tmp_path):
    options = {
        "num_slices": 4,
        "spacing": [2.0, 2.0, 3.0],
        "window": [-200, 300],
        "target": "findings",
        "prompt": "zh",
    }
    trained = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **options)
    save_row_settings([reader_of(trained)], tmp_path)
    settings = read_row_settings(str(tmp_path))
    shown = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **settings)
    assert shown[0] == trained[0]
    assert len(shown[0]["images"]) == 4


def test_the_rule_of_the_slices_travels_and_random_planes_are_for_training_alone(tree, tmp_path):
    for trained_on, shown_later in (("mip", "mip"), ("lung", "lung"), ("jitter", "uniform"), (None, "uniform")):
        options = {"data_dir": str(tree), "split": "train", "slices": trained_on}
        save_row_settings([reader_of(load_dataset("ct_rate_pairs", **options))], tmp_path)
        assert read_row_settings(str(tmp_path))["slices"] == shown_later


def test_a_model_of_before_there_were_rules_is_shown_even_slices_without_a_word(tree, tmp_path, caplog):
    save_row_settings([reader_of(load_dataset("ct_rate_pairs", data_dir=str(tree), split="train"))], tmp_path)
    settings = json.loads((tmp_path / "row_settings.json").read_text())
    del settings["slices"]
    (tmp_path / "row_settings.json").write_text(json.dumps(settings))
    shown = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", **read_row_settings(str(tmp_path)))
    assert reader_of(shown).source.settings.slices == "uniform" and not caplog.text


def test_the_settings_of_a_mixture_serve_every_task(tree, tmp_path):
    options = {"data_dir": str(tree), "spacing": SPACING, "validation_size": 0.0, "num_false": 2}
    tasks = ({"task": "report"}, {"task": "vqa", "questions_per_volume": 2}, {"task": "matching"})
    splits = [load_dataset("ct_rate_pairs", split="train", options="impression", **options, **task) for task in tasks]
    save_row_settings([reader_of(split) for split in splits], tmp_path)
    settings = read_row_settings(str(tmp_path))
    assert (settings["questions_per_volume"], settings["num_false"], settings["options"]) == (2, 2, "impression")
    assert "task" not in settings and settings["target"] == "findings+impression"
    load_dataset("ct_rate_pairs", data_dir=str(tree), validation_size=0.0, **settings)  # an option of each name


def test_what_prompts_tell_travels_and_a_measured_split_has_whole_prompts_without_cues(tree, tmp_path, caplog):
    options = {"prompt_metadata": ("age", "technique"), "prompt_findings": True, "prompt_dropout": 0.5}
    cohort = {"data_dir": str(tree), "split": "train"}
    trained = load_dataset("ct_rate_pairs", **cohort, **options)
    save_row_settings([reader_of(trained)], tmp_path)
    assert read_row_settings(str(tmp_path)).items() >= (options | {"prompt_metadata": ["age", "technique"]}).items()
    shown = options_to_show(str(tmp_path), None, {}, "report")
    for row in load_dataset("ct_rate_pairs", **cohort, **shown).with_format(None)["prompt"]:
        assert row[0]["content"].splitlines()[:-1] == ["Age: 36.", "Technique: Non-contrast."]
    options_to_show(str(tmp_path), None, {"prompt_metadata": ("age", "technique")}, "report")
    assert "other rows" not in caplog.text
    options_to_show(str(tmp_path), None, {"prompt_metadata": ("age",)}, "report")
    assert "prompt_metadata ['age', 'technique'], now ['age']" in caplog.text


def test_a_model_from_elsewhere_has_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert read_row_settings(str(tmp_path)) == {}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one model trained here, and one from elsewhere."""
    hub = WritableHub()
    hub.connect(monkeypatch, WRITE, tmp_path / "hf")
    for name in ("alice/own", "alice/other"):
        HfApi().create_repo(name)
        HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=name)
    settings = json.dumps({"num_slices": 6}).encode()
    HfApi().upload_file(path_or_fileobj=settings, path_in_repo="row_settings.json", repo_id="alice/own")
    yield hub
    hub.stop()


def test_only_a_404_means_that_a_model_on_the_hub_has_none(hub, monkeypatch):
    assert read_row_settings("alice/other") == {}
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the client's own retries
    for status in (403, 429, 500):
        hub.faults = [{"path": "row_settings.json", "status": status, "times": 99}]
        with pytest.raises(OSError, match=rf"Whether there is row_settings.json in alice/own is not known.*{status}"):
            read_row_settings("alice/own")
    hub.faults = []
    assert read_row_settings("alice/own") == {"num_slices": 6}
    with pytest.raises(OSError, match="nope is not a valid git identifier of alice/own"):
        read_row_settings("alice/own", "nope")


def test_offline_the_cache_says_whether_a_model_has_any(hub, monkeypatch, tmp_path):
    read_row_settings("alice/own")
    snapshot_download("alice/other")
    hub.stop()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read_row_settings("alice/own") == {"num_slices": 6}
    assert read_row_settings("alice/other") == {}


def test_offline_a_cache_of_half_a_model_does_not_pass_for_one_without_any(hub, monkeypatch, tmp_path):
    config = hf_hub_download("alice/own", "config.json")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"is not known: neither the Hub \("):
        read_row_settings("alice/own")
    commit = hub.repo("alice/own").rev("main")
    assert commit in config
    marked = tmp_path / "hf" / "hub" / "models--alice--own" / ".no_exist" / commit / "row_settings.json"
    marked.parent.mkdir(parents=True)  # as the client does where the Hub says 404
    marked.touch()
    assert read_row_settings("alice/own") == {}


@pytest.mark.slow
def test_a_stream_knows_its_settings_in_any_composition(tree):
    def stream(split="train", **options):
        return load_dataset("ct_rate_pairs", data_dir=str(tree), split=split, streaming=True, **options)

    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), split="train", spacing=(6, 6, 8))
    known = settings_of_dataset(rows)
    parts = [stream(spacing=(6, 6, 8)).shuffle(seed=1), stream("test", spacing=(6, 6, 8)).skip(1)]
    assert settings_of_dataset(concatenate_datasets(parts).take(3)) == known
    mixed = interleave_datasets([stream(spacing=(6, 6, 8)), stream(spacing=(6, 6, 8), task="vqa")])
    assert settings_of_dataset(mixed).tasks == ("report", "vqa")
    assert settings_of_dataset(concatenate_datasets([stream(spacing=(6, 6, 8)), stream(spacing=(5, 5, 8))])) is None
    assert settings_of_dataset(rows.to_iterable_dataset().map(lambda row: {"n": 1}).take(3)) == known
    assert settings_of_dataset(Dataset.from_dict({"text": ["a"]}).to_iterable_dataset()) is None
