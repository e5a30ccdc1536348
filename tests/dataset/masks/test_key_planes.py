"""Slices that show the findings: in training, each bin has the plane on which most of the masks is seen."""

import nibabel as nib
import numpy as np
import pytest
from datasets import load_dataset
from helpers.drawn_masks import draw, volumes_of, write_masks
from helpers.few_slices import load
from helpers.tree import SPACING
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.masks.key_planes import key_fractions
from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.trainer import read_row_settings
from ct_rate_pairs.trainer.row_settings import save_row_settings
from ct_rate_pairs.volumes.planes import bin_starts, choose_planes


@pytest.fixture(scope="module")
def masks(tree, tmp_path_factory) -> str:
    return str(write_masks(tree, tmp_path_factory.mktemp("masks"), unknown=1, empty=1))


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=24, max_size=24), min_size=1, max_size=3),
    st.integers(2, 8),
    st.sampled_from([(0.0, 1.0), (0.25, 0.75), (0.1, 0.9)]),
)
def test_each_bin_has_the_plane_that_shows_most(areas, num_slices, z_range):
    areas = np.array(areas)
    shown = (areas / np.maximum(areas.max(axis=1, keepdims=True), 1)).sum(axis=0)
    planes = choose_planes(24, num_slices, z_range, key_fractions(areas, num_slices, z_range))
    middles = choose_planes(24, num_slices, z_range, np.full(num_slices, 0.5))
    starts = bin_starts(24, num_slices, z_range).tolist()
    for plane, middle, start, end in zip(planes, middles, starts, starts[1:], strict=False):
        assert start <= plane < end and shown[plane] == max(shown[start:end])
        assert shown[plane] > 0 or plane == middle


def test_a_small_finding_counts_as_much_as_a_large_one():
    areas = np.zeros((2, 12), int)
    areas[0, 1:5], areas[1, 4] = 900, 3  # an effusion, and a nodule on one plane
    assert choose_planes(12, 2, fractions=key_fractions(areas, 2)) == [4, 9]


def test_in_training_the_planes_show_the_findings_and_elsewhere_they_are_even(tree, masks):
    options = {"data_dir": str(tree), "spacing": SPACING, "masks": masks, "num_slices": 4, "validation_size": 0.3}
    uniform, key = (load_dataset("ct_rate_pairs", slices=slices, **options) for slices in ("uniform", "key"))
    files, differ = {file.name: number for number, file in enumerate(volumes_of(tree))}, 0
    for even, chosen in zip(uniform["train"], key["train"], strict=True):
        assert chosen["negative_volume"] == even["negative_volume"]
        if not chosen["masks"]:
            assert chosen["images"] == even["images"]
            continue
        drawn = draw(nib.load(volumes_of(tree)[files[chosen["volume"]]]).shape, files[chosen["volume"]] - 1)
        areas = np.array([mask.sum(axis=(0, 1))[::-1] for mask in drawn.values()])
        planes = choose_planes(areas.shape[1], 4, fractions=key_fractions(areas, 4))
        assert chosen["slice_mm"] == pytest.approx([(plane - planes[0]) * SPACING[2] for plane in planes])
        shown = [[int(np.asarray(image).sum()) for image in of_finding] for of_finding in chosen["masks"]]
        assert shown == areas[:, planes].tolist()
        differ += chosen["slice_mm"] != even["slice_mm"]
    assert differ > 3
    for split in ("validation", "test"):
        assert [row["slice_mm"] for row in key[split]] == [row["slice_mm"] for row in uniform[split]]


def test_each_layout_and_a_stream_choose_the_same_planes(tree, masks, tmp_path):
    folder = write_masks(tree, tmp_path, "rexgrounding", unknown=1, empty=1)
    options = {"slices": "key", "num_slices": 4, "validation_size": 0}
    rows, others = (load(tree, masks=path, split="train", **options) for path in (masks, str(folder)))
    stream = load_dataset(
        "ct_rate_pairs", data_dir=str(tree), masks=masks, spacing=SPACING, streaming=True, split="train", **options
    )
    streamed = {row["volume"]: row["slice_mm"] for row in stream}
    for row, other in zip(rows, others, strict=True):
        assert row["slice_mm"] == other["slice_mm"] == streamed[row["volume"]]


def test_without_masks_or_in_a_copy_of_slices_there_are_no_such_planes(tree, tmp_path):
    with pytest.raises(ValueError, match="slices='key' takes the planes that masks show: give masks"):
        load(tree, slices="key")
    with pytest.raises(ValueError, match="which a copy does not know: read the source itself"):
        prepare(open_source(str(tree), spacing=SPACING, slices="key"), tmp_path / "copy")


def test_a_model_is_shown_even_slices_after_its_training(tree, masks, tmp_path):
    save_row_settings([reader_of(load(tree, masks=masks, slices="key", split="train"))], tmp_path)
    assert read_row_settings(str(tmp_path))["slices"] == "uniform"
