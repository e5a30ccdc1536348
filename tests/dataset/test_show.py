"""The sheet of examples."""

import numpy as np
from datasets import load_dataset
from helpers.command import call
from helpers.tree import SPACING
from PIL import Image

from ct_rate_pairs.example_sheet import draw_sheet
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.show import main


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


def test_the_command_writes_a_png(tree, tmp_path, capsys):
    command = (main, tree, "--n", 2, "--output_file", tmp_path / "s.png", "--spacing", 4, 4, 8)
    assert call(*command) == 0
    assert Image.open(tmp_path / "s.png").size[0] > 1000
    capsys.readouterr()
    assert call(*command, "--window", "bone") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "window" in told
