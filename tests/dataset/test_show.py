"""The sheet of examples."""

import numpy as np
import pytest
from datasets import load_dataset
from helpers.command import call
from helpers.drawn_masks import write_masks
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


def test_masks_are_outlined_on_the_slices_and_named_with_their_colours(tree, tmp_path):
    masks = str(write_masks(tree, tmp_path))
    dataset = load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, masks=masks, split="test")
    figure = draw_sheet([dataset[1], dataset[2] | {"masks": None, "mask_findings": None}], reader_of(dataset))
    outlined, plain = (list(axes.collections) for axes in figure.axes if axes.images)
    assert len(outlined) == 2 and not plain
    assert "Lung nodule (red), Lung opacity (orange)" in "".join(t.get_text() for a in figure.axes for t in a.texts)


def test_turns_of_parts_are_drawn_as_their_text(tree):
    dataset = load_dataset("ct_rate_pairs", data_dir=str(tree), spacing=SPACING, negative="none", split="test")
    parts = {
        column: [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in dataset[1][column]]
        for column in ("prompt", "completion")
    }
    drawn = [draw_sheet([row], reader_of(dataset)) for row in (dataset[1], dataset[1] | parts)]
    plain, of_parts = ([text.get_text() for axes in figure.axes for text in axes.texts] for figure in drawn)
    assert of_parts == plain and "Impression 1." in plain[-1]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("negative", ["none", "heter"])
@pytest.mark.parametrize("num_slices", [2, 10])
def test_nothing_on_the_sheet_overlaps(tree, negative, num_slices):
    options = {"data_dir": str(tree), "spacing": SPACING, "negative": negative, "num_slices": num_slices}
    dataset = load_dataset("ct_rate_pairs", split="test", **options)
    long = " ".join(f"Sentence {number} of a report that is as long as they can be." for number in range(60))
    rows = [dataset[0], dataset[1] | {"completion": [{"role": "assistant", "content": long}]}, dataset[2]]
    for images in (rows[2]["images"], rows[2]["negative_images"]):
        images[:] = [image.resize((30, 90)) for image in images]  # high slices
    figure = draw_sheet(rows, reader_of(dataset))
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.images]
    boxes += [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert len(boxes) == 3 * (2 if negative == "none" else 3)
    for number, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert not [other for other in boxes[:number] if box.overlaps(other)]


def test_the_command_writes_a_png(tree, tmp_path, capsys):
    masks = write_masks(tree, tmp_path / "masks")
    command = (main, tree, "--n", 2, "--output_file", tmp_path / "s.png", "--spacing", 4, 4, 8, "--masks", masks)
    assert call(*command) == 0
    assert Image.open(tmp_path / "s.png").size[0] > 1000
    capsys.readouterr()
    assert call(*command, "--window", "bone") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "window" in told
