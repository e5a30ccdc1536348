"""The sheet of examples."""

import subprocess
import sys

import numpy as np
from datasets import load_dataset
from helpers.tree import SPACING
from PIL import Image

from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.show import draw_sheet


def test_the_sheet_holds_every_slice_its_negative_and_the_report(tree):
    dataset = load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, negative="heter", split="test")
    rows = [dataset[1], dataset[2]]
    figure = draw_sheet(rows, reader_of(dataset))
    strips = [axes for axes in figure.axes if axes.images]
    assert len(strips) == 4
    np.testing.assert_array_equal(
        strips[1].images[0].get_array(), np.concatenate([np.asarray(i) for i in rows[0]["negative_images"]], axis=1)
    )
    assert rows[0]["negative_volume"] in strips[1].get_title(loc="left")
    text = "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "Impression 1." in text and "Labels of the negative" in text


def test_the_command_writes_a_png(tree, tmp_path):
    command = [sys.executable, "-m", "ct_rate_pairs.show", str(tree), "--n", "2", "--out", str(tmp_path / "s.png")]
    run = subprocess.run([*command, "--spacing", "4", "4", "8"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert Image.open(tmp_path / "s.png").size[0] > 1000
    bad = subprocess.run([*command, "--window", "bone"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and bad.stderr.startswith("error: ") and "window" in bad.stderr
