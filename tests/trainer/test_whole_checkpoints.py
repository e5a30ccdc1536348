"""A checkpoint of another program is not taken for whole, whatever stands in the place of its files."""

import json
import os

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
