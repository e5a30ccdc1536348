"""The card says that a model runs by transformers alone. Its code does so, as printed, where this package is not."""

import io
import json
import re
import subprocess
import sys
import sysconfig
from contextlib import redirect_stdout
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.tiny_models import make_tiny_gemma3, make_tiny_qwen3, make_tiny_qwen3_5
from helpers.tiny_reader import AFFINE, COMBINATIONS, make_voxels, save_nifti

from ct_rate_pairs.hub import load_reporter, write_model_card
from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.trainer import NegativeSFTConfig, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


NOTHING_OF_OURS = """\
import importlib.util, os, sys
sys.path.insert(0, sys.argv[1])
assert importlib.util.find_spec("ct_rate_pairs") is None
for folder in sys.argv[2:]:
    os.chdir(folder)
    exec(compile(open("card.py").read(), "card", "exec"), {})
assert not [name for name in sys.modules if name.startswith("ct_rate_pairs")]
"""


def code_of_card(folder: Path, **facts) -> str:
    """The card's last block of Python."""
    scores = {"model": {"coverage": 0.5, "labeler": "rules", "recipe": "lower"}}
    run = {"negative": "none", "num_train": 4, "num_test": 1, "steps": 1, "hardware": "2 CPU cores", "minutes": 1.0}
    card = write_model_card(folder, scores, NegativeSFTConfig(folder, bf16=False), phantom=True, **run, **facts)
    text = card.read_text()
    assert "With transformers alone" in text
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """All that is installed here, without this package."""
    folder = tmp_path_factory.mktemp("site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.search("ct.rate.pairs", path.name):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
def test_the_card_s_code_writes_the_same_report_without_this_package(reader_dir, others, tmp_path):
    reporter, expected, folders = load_reporter(reader_dir), [], [tmp_path / "5", tmp_path / "6"]
    for folder, shown in zip(folders, (COMBINATIONS[5], COMBINATIONS[6]), strict=True):
        folder.mkdir()
        for file in reader_dir.iterdir():
            (folder / file.name).symlink_to(file)
        expected.append(reporter.report(save_nifti(folder / "scan.nii.gz", shown)).text)
        assert "is seen" in expected[-1]
        (folder / "card.py").write_text(code_of_card(folder))
    assert expected[0] != expected[1]
    command = [sys.executable, "-I", "-S", "-c", NOTHING_OF_OURS, str(others), *map(str, folders)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected


TEXTS = ["A nodule.", write_prompt("findings"), write_prompt("findings", "zh")]
FAMILIES = {
    "qwen2.5-vl": lambda: make_tiny_qwen(TEXTS, hidden_size=32, num_layers=1, vision_depth=1),
    "qwen3-vl": lambda: make_tiny_qwen3(TEXTS),
    "qwen3.5, which thinks": lambda: make_tiny_qwen3_5(TEXTS, "qwen3_8"),
    "gemma3": lambda: make_tiny_gemma3(TEXTS),
}
SETTINGS = {
    "plain": {},
    "three windows, a part of the depth, in Chinese": {"window": "rgb", "z_range": [0.1, 0.85], "prompt": "zh"},
    "uneven planes": {"num_slices": 10},
    "uneven planes, of which the last is repeated": {"num_slices": 11},
    "sides between patches": {"spacing": [4.3, 3.7, 8.0], "num_slices": 5},
}


@pytest.mark.parametrize("family", ["qwen2.5-vl", "qwen3-vl"])
def test_the_card_s_code_knows_the_depth_that_counts_as_a_second(tmp_path, monkeypatch, family):
    monkeypatch.chdir(tmp_path)
    told = {"num_slices": 3, "spacing": [4.0, 4.0, 8.0], "window": "paper", "z_range": [0.0, 1.0]}
    told |= {"target": "findings", "prompt": "en", "prompt_metadata": False}
    model, processor = FAMILIES[family]()
    processor.video_processor.mm_per_second = 25.0  # as NegativeSFTTrainer saves it
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "row_settings.json").write_text(json.dumps(told))
    nib.save(nib.Nifti1Image(make_voxels(COMBINATIONS[7]), AFFINE), tmp_path / "scan.nii.gz")
    names: dict = {}
    with redirect_stdout(io.StringIO()):
        exec(code_of_card(tmp_path).replace("max_new_tokens=1200", "max_new_tokens=3"), names)
    collator = load_reporter(tmp_path).collator
    assert collator.mm_per_second == 25.0
    expected = collator.prompts([load_reporter(tmp_path).read(tmp_path / "scan.nii.gz")])
    assert torch.equal(names["inputs"]["input_ids"], expected["input_ids"])
    if family == "qwen2.5-vl":
        assert torch.equal(names["inputs"]["second_per_grid_ts"], torch.as_tensor(expected["second_per_grid_ts"]))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_s_code_gives_a_model_what_the_collator_gives_it(tmp_path, monkeypatch, family, settings):
    monkeypatch.chdir(tmp_path)
    told = {"num_slices": 6, "spacing": [4.0, 4.0, 8.0], "window": "paper", "z_range": [0.0, 1.0]}
    told |= {"target": "findings", "prompt": "en", "prompt_metadata": False} | SETTINGS[settings]
    model, processor = FAMILIES[family]()
    collator = PairCollator(processor)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "row_settings.json").write_text(json.dumps(told))
    turned = nib.Nifti1Image(make_voxels(COMBINATIONS[7]), AFFINE).as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, tmp_path / "scan.nii.gz")
    code = code_of_card(tmp_path, takes_video=collator.takes_video).replace("max_new_tokens=1200", "max_new_tokens=3")
    names: dict = {}
    with redirect_stdout(io.StringIO()):
        exec(compile(code, "card", "exec"), names)
    reporter = load_reporter(tmp_path)
    row = reporter.read(tmp_path / "scan.nii.gz")
    expected = reporter.collator.prompts([row])
    if settings.startswith("uneven") and collator.takes_video:  # or the setting does not test what it says
        assert reporter.collator._uneven_places(row["slice_mm"])
    assert set(expected) <= set(names["inputs"])
    for name, tensor in expected.items():
        given = names["inputs"][name]
        assert given.shape == tensor.shape, name
        if name == collator.pixels:  # resampled along all axes at once, which rounds otherwise here and there
            assert (given - tensor).abs().mean() < 1e-4 and (given - tensor).abs().max() < 0.02
        else:
            assert torch.equal(given, torch.as_tensor(tensor)), name
    slices = np.stack([np.asarray(image.convert("RGB")) for image in row["images"]])
    assert abs(names["slices"].permute(0, 2, 3, 1).numpy().astype(int) - slices).max() <= 1
