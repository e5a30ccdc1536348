"""The weights that go to the Hub are rounded to bfloat16, in a copy, and nothing else changes."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from helpers.command import call
from helpers.faults import small_disk
from helpers.finished_run import write_model, write_run
from helpers.tiny_reader import save_nifti
from huggingface_hub import ModelCard, hf_hub_download
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from ct_rate_pairs.hub import load_reporter, rounded_weights
from ct_rate_pairs.hub import publish as publish_module
from ct_rate_pairs.hub.publish import publish
from ct_rate_pairs.hub.repository import PublishError
from ct_rate_pairs.hub.rounded_weights import round_file, round_weights


MIXED = {
    "odd": torch.randn(3, 5, dtype=torch.float64),  # rounded, 15 numbers of 2 bytes stand before whole numbers of 8
    "weight": torch.randn(7, 9),
    "scalar": torch.tensor(1 / 3),
    "empty": torch.zeros(0, 4),
    "special": torch.tensor([float("inf"), -0.0, 1e-40, 3.4e38]),
    "ids": torch.arange(5),
    "packed": torch.arange(7, dtype=torch.uint8),
    "mask": torch.tensor([True, False, True]),
    "half": torch.randn(3, dtype=torch.float16),
    "rounded": torch.randn(3, dtype=torch.bfloat16),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("at_once", [8, 24, 2**26])
def test_wide_weights_are_rounded_as_torch_rounds_them_and_all_others_stay(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(rounded_weights, "AT_ONCE", at_once)
    save_file(MIXED, tmp_path / "old.safetensors", metadata={"format": "pt"})
    round_file(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    found = load_file(tmp_path / "new.safetensors")
    assert found.keys() == MIXED.keys()
    for name, value in MIXED.items():
        expected = value.bfloat16() if value.dtype in (torch.float32, torch.float64) else value
        assert found[name].dtype == expected.dtype and torch.equal(found[name], expected), name
    with safe_open(tmp_path / "new.safetensors", "pt") as weights:
        assert weights.metadata() == {"format": "pt"}


def test_rounding_takes_the_memory_of_a_piece_and_not_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rounded_weights, "AT_ONCE", 2**16)
    save_file({"weight": torch.zeros(2**21)}, tmp_path / "old.safetensors")  # 8 MB
    tracemalloc.start()
    round_file(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20 and (tmp_path / "new.safetensors").stat().st_size < 2**22 + 1000


def test_shards_are_rounded_and_their_index_and_config_tell_it(tmp_path):
    model, _ = write_model_of_shards(tmp_path / "run")
    before = bytes_of(tmp_path / "run")
    files = [*before]
    (tmp_path / "copies").mkdir()
    weights = round_weights(tmp_path / "run", files, tmp_path / "copies")
    assert bytes_of(tmp_path / "run") == before
    shards = [file for file in files if file.endswith(".safetensors")]
    assert len(shards) > 1 and {*shards, "config.json", "model.safetensors.index.json"} == weights.rounded.keys()
    for file, content in weights.rounded.items():
        if isinstance(content, bytes):
            (tmp_path / "copies" / file).write_bytes(content)
    index = json.loads(weights.rounded["model.safetensors.index.json"])
    assert index["metadata"]["total_size"] == weights.rounded_size == weights.size // 2
    assert index["weight_map"] == json.loads(before["model.safetensors.index.json"])["weight_map"]
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "copies")
    assert loaded.dtype == torch.bfloat16
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.bfloat16()), name


def write_model_of_shards(folder: Path):
    from ct_rate_pairs.trainer.tiny import make_tiny_qwen

    model, processor = make_tiny_qwen(["Heart size is increased."], seed=0)
    model.save_pretrained(folder, max_shard_size="500KB")
    return model, processor


def test_a_quantized_model_and_one_of_16_bits_go_up_as_they_are(hub, tmp_path, model_dir, capfd):
    run = write_run(tmp_path / "run", model_dir)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").unlink()
    (run / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    publish(run, "alice/quantized")
    assert hub.repo("alice/quantized").files()["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert "MB in float32, as they are saved." in capfd.readouterr().err
    half = {name: value.bfloat16() for name, value in load_file(run / "model.safetensors").items()}
    (run / "model.safetensors").unlink()
    save_file(half, run / "model.safetensors", metadata={"format": "pt"})
    (run / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    publish(run, "alice/half")
    files = hub.repo("alice/half").files()
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert files["config.json"] == (run / "config.json").read_bytes()
    assert "MB in bfloat16, as they are saved." in capfd.readouterr().err
    assert "The results are those of the weights here, in bfloat16." in ModelCard.load("alice/half").text


def test_a_publication_is_rounded_told_and_half_as_large_and_the_run_stays(hub, tmp_path, model_dir, capfd):
    run = write_run(tmp_path / "run", model_dir)
    before = bytes_of(run)
    publish(run, "alice/rounded")
    assert bytes_of(run) == before
    told = capfd.readouterr().err
    assert "Weights: rounded from float32 to bfloat16, 2.5 MB to 1.3 MB." in told
    card = " ".join(ModelCard.load("alice/rounded").text.split())
    assert "weights of the training, in float32. The weights here were rounded to bfloat16 when they" in card
    loaded = AutoModelForImageTextToText.from_pretrained("alice/rounded")
    saved = AutoModelForImageTextToText.from_pretrained(run).state_dict()
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(value, saved[name].bfloat16()) for name, value in loaded.state_dict().items())
    assert not call(publish_module.main, run, "alice/kept", "--dtype", "float32")
    assert "MB in float32, as they are saved." in capfd.readouterr().err
    assert hub.repo("alice/kept").files()["model.safetensors"] == before["model.safetensors"]
    assert "The results are those of the weights here, in float32." in ModelCard.load("alice/kept").text


def test_an_adapter_is_rounded_too(hub, tmp_path, model_dir):
    run = write_run(tmp_path / "lora", model_dir, adapter=True)
    publish(run, "alice/lora")
    found = load_file(hf_hub_download("alice/lora", "adapter_model.safetensors"))
    saved = load_file(run / "adapter_model.safetensors")
    assert found.keys() == saved.keys()
    assert all(torch.equal(value, saved[name].bfloat16()) for name, value in found.items())


def test_no_room_for_the_copy_is_told_and_nothing_goes_up(hub, tmp_path, model_dir, monkeypatch):
    run = write_run(tmp_path / "run", model_dir)
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setattr("tempfile.tempdir", os.fspath(disk))
        with pytest.raises(PublishError, match=r"no room for a copy of the weights.*Set TMPDIR.*--dtype float32"):
            publish(run, "alice/run")
    assert "model.safetensors" not in hub.repo("alice/run").files()


def test_a_type_that_is_none_of_the_two_is_refused(hub, tmp_path, model_dir):
    with pytest.raises(ValueError, match="dtype cannot be 'float16'. It is one of bfloat16, float32."):
        publish(write_run(tmp_path / "run", model_dir), "alice/run", dtype="float16")
    assert hub.log == []


@pytest.mark.slow
def test_rounding_changes_no_report_of_a_model_that_reads_and_its_confidences_by_little(reader_dir, tmp_path):
    exact, rounded = load_reporter(reader_dir, device="cpu"), load_reporter(reader_dir, device="cpu", dtype="bfloat16")
    differences = []
    for number, shown in enumerate([(1, 0, 1), (0, 1, 0)]):
        scan = save_nifti(tmp_path / f"{number}.nii.gz", shown)
        before, after = (each.report(scan, max_new_tokens=60) for each in (exact, rounded))
        assert after.text == before.text
        pairs = zip(before.findings, after.findings, strict=True)
        differences += [abs(one.confidence - other.confidence) for one, other in pairs]
    print(f"confidences change by {sum(differences) / len(differences):.4f}, at most {max(differences):.4f}")
    assert max(differences) < 0.05
