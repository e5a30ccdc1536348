"""A checkpoint of another program is not taken for whole, whatever stands in the place of its files."""

import io
import json
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from ct_rate_pairs.trainer.whole_checkpoints import damage_of


@pytest.fixture
def folder(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, tmp_path / name)
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 1}))
    assert damage_of(tmp_path) is None
    return tmp_path


@pytest.mark.parametrize(
    "file", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
)
def test_a_pipe_in_the_place_of_a_file_is_told_and_does_not_hang(folder, file):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert file in damage_of(folder) and "pipe" in damage_of(folder)


@pytest.mark.parametrize(
    "index", [{"weight_map": {}}, {"weight_map": {"a": "../a.safetensors"}}, {"weight_map": 3}, []]
)
def test_an_index_that_is_damaged_or_names_files_elsewhere_is_told(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "the index of the weights is damaged" in damage_of(folder)


def packed(method: int, change=None) -> bytes:
    """A zip as `torch.save` writes, packed by a method, and perhaps changed in its directory."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("archive/data.pkl", bytes(1000))
    data = bytearray(content.getvalue())
    if change:
        place, value = change
        start = data.index(b"PK\1\2") if place < 46 else data.index(b"PK\5\6") - 46
        data[start + place : start + place + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (packed(zipfile.ZIP_DEFLATED), "packed or encrypted"),
        (packed(zipfile.ZIP_BZIP2), "packed or encrypted"),
        (packed(zipfile.ZIP_LZMA), "packed or encrypted"),
        (packed(zipfile.ZIP_STORED, (10, b"\x63\0")), "packed or encrypted"),
        (packed(zipfile.ZIP_STORED, (8, b"\1\0")), "packed or encrypted"),
        (packed(zipfile.ZIP_STORED, (24, b"\xff\xff\xff\x7f")), "more bytes than it has"),
        (packed(zipfile.ZIP_STORED, (46 + 12, b"\xff\xff\xff\x7f")), "empty or cut"),
    ],
)
def test_a_file_that_torch_does_not_write_is_not_loaded(folder, content, told, listed):
    """Packed, a few kilobytes could take all memory. Some of these end `zipfile` with errors of other modules."""
    (folder / "optimizer.pt").write_bytes(content)
    if listed:
        (folder / "checkpoint_files.json").write_text(json.dumps({"optimizer.pt": len(content)}))
    assert "optimizer.pt" in damage_of(folder) and told in damage_of(folder)


@pytest.mark.parametrize("offset", [b"\xff\xff\xff\x7f", b"\xf0\xff\xff\xff"])
def test_a_file_whose_directory_leads_elsewhere_is_told(folder, offset):
    (folder / "optimizer.pt").write_bytes(packed(zipfile.ZIP_STORED, (46 + 16, offset)))
    assert "optimizer.pt is empty or cut" in damage_of(folder)


def test_a_field_that_trainer_would_fail_at_is_told(folder):
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 1, "not\x1b": 1}))
    assert r"has the field 'not\x1b', which this version of transformers does not know" in damage_of(folder)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("model.safetensors", "there are no weights"),
        ("optimizer.pt", "optimizer is missing"),
        ("scheduler.pt", "learning rate (scheduler.pt) is missing"),
        ("rng_state.pth", "random states (rng_state.pth) is missing"),
    ],
)
def test_a_list_that_names_nothing_does_not_make_a_checkpoint_whole(folder, lost, told):
    (folder / "checkpoint_files.json").write_text("{}")
    assert damage_of(folder) is None
    (folder / lost).unlink()
    assert damage_of(folder) == told


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd"])
def test_a_list_of_files_elsewhere_is_told_and_nothing_is_read_there(folder, name):
    (folder / "checkpoint_files.json").write_text(json.dumps({name: 1}))
    assert "a file outside the folder" in damage_of(folder)
