"""The figure of evidence by patch shows the maps that are measured, beside the mask; any mask head is measured."""

import importlib
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tiny_reader import FINDINGS, make_row
from matplotlib.figure import Figure
from PIL import Image

from ct_rate_pairs import LABELS
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.masks import Masker
from ct_rate_pairs.trainer.mask_head import MaskHead


SHOWN = ((1, 0, 1), (1, 0, 1), (0, 1, 0))


def with_masks(shown, seed):
    """A row of the tiny reader, with the masks of what it shows: on the slices of a third, voxels 6 to 20 of 28."""
    masks = np.zeros((3, 6, 28, 28), bool)
    for third in range(3):
        masks[third, 2 * third : 2 * third + 2, 6:20, 6:20] = True
    here = [third for third in range(3) if shown[third]]
    return make_row(shown, seed=seed) | {
        "masks": [[Image.fromarray(plane) for plane in masks[third]] for third in here],
        "mask_findings": [{"finding": FINDINGS[third], "sentence": ""} for third in here],
    }


def test_a_finding_that_the_mask_head_has_not_learnt_has_no_place_and_names_of_its_own_are_read(reader):
    """Else a head with names of ReXGroundingCT, or of some findings, ended the benchmark with an error."""
    bench, (model, collator) = importlib.import_module("bench_patch_evidence"), reader
    head = MaskHead(model.config.vision_config.out_hidden_size, ("Nodules/masses", "Atelectasis or consolidation"), 2)
    torch.nn.init.normal_(head.project.weight)
    ways = bench.ways_of(SimpleNamespace(model=model, collator=collator, masker=Masker(head)), np.zeros((18, 6, 8, 8)))
    nodule, atelectasis, heart = map(LABELS.index, ("Lung nodule", "Atelectasis", "Cardiomegaly"))
    scored = SimpleNamespace(row=make_row((1, 0, 1)), spans=dict.fromkeys((nodule, atelectasis, heart), slice(1)))
    maps = ways[bench.HEAD](scored, None, (6, 8, 8))
    assert {label: values.shape for label, values in maps.items()} == dict.fromkeys(scored.spans, (6, 8, 8))
    assert not maps[heart].any() and np.ptp(maps[nodule]) > 0 and (maps[nodule] != maps[atelectasis]).any()


@pytest.mark.parametrize(
    ("size", "patch", "fits"),
    [
        ((84, 56), 14, True),
        ((96, 64), 16, True),
        ((84, 56), 16, False),
        ((480, 480), 14, False),
        ((60, 56), 14, False),
    ],
)
def test_slices_on_which_the_maps_do_not_lie_on_each_other_are_refused(size, patch, fits):
    bench = importlib.import_module("bench_patch_evidence")
    video = SimpleNamespace(patch_size=patch, merge_size=2)
    collator = SimpleNamespace(processor=SimpleNamespace(video_processor=video))
    with nullcontext() if fits else pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} .*multiples of"):
        bench.check_size(collator, {"images": [Image.new("L", size)]})


@pytest.mark.slow
def test_the_figure_shows_the_maps_of_a_true_positive_of_each_finding_beside_its_mask(
    reader_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: drawn.append(figure))
    drawn = []
    bench = importlib.import_module("bench_patch_evidence")
    reporter = load_reporter(str(reader_dir), device="cpu")
    rows = [with_masks(shown, 900 + seed) for seed, shown in enumerate(SHOWN)]
    ways = bench.ways_of(reporter, np.zeros((18, 6, 8, 8), np.float32))
    ways = {way: ways[way] for way in (bench.INTEGRATED, bench.ATTENTION, "atlas")}
    records, _, _, examples = bench.collect(reporter, rows, ways)

    assert {one.finding for one in examples} == set(FINDINGS)  # the second scan shows what the first shows
    for one in examples:
        third = FINDINGS.index(one.finding)
        assert one.volume == rows[2 if third == 1 else 0]["volume"] and (one.number - 1) // 2 == third
        assert one.mask.sum() == 14 * 14 and one.image[one.mask].mean() > one.image[~one.mask].mean()
        assert set(one.maps) == {bench.INTEGRATED, bench.ATTENTION}
        assert all(shares.shape == (8, 8) and 0 <= shares.min() <= shares.max() <= 1 for shares in one.maps.values())
        # This model is known to read the block. Its vision tower merges the two slices of a third.
        row, column = np.unravel_index(one.maps[bench.INTEGRATED].argmax(), (8, 8))
        assert 1 <= row <= 5 and 1 <= column <= 5

    scores = {way: bench.score([record for record in records if record["way"] == way]) for way in ways}
    bench.draw_examples(examples, scores, tmp_path / "maps.png")
    (figure,) = drawn
    assert len(figure.axes) == 3 * len(examples)
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles[1:] == [f"{way}\npoints right: {scores[way]['pointing']:.2f}" for way in examples[0].maps]
    for axes, one in zip(figure.axes[2::3], examples, strict=True):
        overlay = axes.images[1].get_array()
        np.testing.assert_array_equal(overlay[::16, ::16], one.maps[bench.ATTENTION])
