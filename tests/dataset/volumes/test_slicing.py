"""Volume maths against a naive full-volume resample, orientation against known corners, and what cannot be HU."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.marked_volume import marked_volume, save
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ct_rate_pairs.volumes.fitting import fit
from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.planes import choose_planes, slabs_around
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.windows import air_value, windows_of


def naive_volume(path: Path, spacing: tuple[float, float, float]) -> np.ndarray:
    """The whole volume resampled in HU, as a user would write it. Only for files in L, P, S order."""
    image = nib.load(path)
    volume = torch.from_numpy(image.get_fdata(dtype=np.float32)).permute(2, 1, 0).flip(0)  # [Z, Y, X]
    own = image.header.get_zooms()
    size = [int(n * float(o) / s) for n, o, s in zip(volume.shape, own[::-1], spacing[::-1], strict=True)]
    return F.interpolate(volume[None, None], size=size, mode="trilinear", align_corners=False)[0, 0].numpy()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 40), st.integers(20, 40), st.integers(20, 40)),
    own=st.tuples(st.floats(2, 5), st.floats(2, 5), st.floats(2, 7)),  # anisotropic in the plane, too
    target=st.tuples(st.floats(1, 6), st.floats(1, 6), st.floats(1.5, 4)),
    seed=st.integers(0, 99),
)
def test_slices_equal_the_full_volume_resample_within_one_hu(tmp_path_factory, shape, own, target, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("v") / "v.nii.gz"
    save(path, rng.integers(-1000, 1000, shape, dtype=np.int16), np.diag([-own[0], -own[1], own[2], 1.0]))
    whole = naive_volume(path, target)
    planes = [int((i + 0.5) * len(whole) / 10) for i in range(10)]
    assert np.abs(read_slices(path, spacing=target) * 1000 - whole[planes]).max() < 1
    if len(whole) >= 20:  # else some bins of the range are empty
        fractions = rng.random(10)
        drawn, starts = ((0.2 + (np.arange(10) + f) / 10 * 0.6) * len(whole) + 1e-9 for f in (fractions, 0))
        # a plane that two bins share is the lower one's
        planes = [min(int(a), int(b) - 1) for a, b in zip(drawn, [*starts[1:], len(whole)], strict=True)]
        slices, _ = read_volume(path).slices(spacing=target, z_range=(0.2, 0.8), fractions=fractions)
        assert np.abs(slices * 1000 - whole[planes]).max() < 1


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_any_storage_order_gives_superior_first_anterior_up_right_on_the_left(tmp_path, axes, flips):
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    stored = nib.Nifti1Image(marked_volume(), affine)
    turn = np.array([[axis, 1] for axis in axes])
    for axis in flips:
        turn[axis, 1] = -1
    nib.save(stored.as_reoriented(turn), tmp_path / "v.nii.gz")
    slices = read_slices(tmp_path / "v.nii.gz", num_slices=4, spacing=(2, 3, 4))
    assert slices.shape == (4, 16, 20)
    np.testing.assert_allclose(slices[:2, :8, :10], 0.3, atol=1e-6)
    assert (slices[2:] < 0).all() and (slices[:, 8:] < 0).all() and (slices[:, :, 10:] < 0).all()


@given(st.integers(1, 700), st.integers(1, 40))
def test_planes_follow_the_contract(depth, count):
    planes = choose_planes(depth, count)
    assert planes == [math.floor(Fraction(2 * i + 1, 2 * count) * depth) for i in range(count)]
    assert planes == choose_planes(depth, count, [0, 1])
    if depth >= 2 * count:  # else a middle may lie in the plane that two bins share
        assert planes == choose_planes(depth, count, fractions=np.full(count, 0.5))


@given(
    st.integers(40, 700),
    st.integers(2, 20),
    st.tuples(st.floats(0, 0.4), st.floats(0.6, 1)),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20),
)
def test_each_plane_stays_in_its_bin_of_the_range(depth, count, z_range, fractions):
    edges = [(z_range[0] + i / count * (z_range[1] - z_range[0])) * depth for i in range(count + 1)]
    middles, drawn = (choose_planes(depth, count, z_range, f) for f in (None, np.array(fractions[:count])))
    for plane, (low, high) in zip(middles, pairwise(edges), strict=True):
        assert int((low + high) / 2 - 1e-6) <= plane <= int((low + high) / 2 + 1e-6)
    for plane, (low, high) in zip(drawn, pairwise(edges), strict=True):
        assert int(low - 1e-6) <= plane <= high + 1e-6 and plane < depth
    if (z_range[1] - z_range[0]) * depth >= count + 1:
        assert sorted(set(drawn)) == drawn


def test_an_empty_range_is_refused(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    for z_range in ((0.5, 0.5), (0.6, 0.4), (-0.1, 1), (0, 1.1)):
        with pytest.raises(ValueError, match="z_range"):
            read_volume(path).slices(4, (2, 3, 4), z_range=z_range)
    with pytest.raises(VolumeError, match="10 slices are asked for"):
        read_volume(path).slices(10, (2, 3, 4), z_range=(0.4, 0.6))


def test_windows_clip_and_scale_and_padding_outside_the_field_of_view_is_air(tmp_path):
    hu = marked_volume()
    hu[:2] = -2048
    path = save(tmp_path / "v.nii.gz", hu, np.diag([-2.0, -3.0, 4.0, 1.0]))
    slices = read_slices(path, 4, (2, 3, 4))
    assert (slices[:, :, :2] == -1).all() and slices[0, 0, 5] == pytest.approx(0.3)
    rgb = read_slices(path, 4, (2, 3, 4), "rgb")
    assert rgb.shape == (4, 16, 20, 3) and (rgb[:, :, :2] == -1).all()
    np.testing.assert_allclose(rgb[0, 0, 5], [1, 1, 2 * 500 / 1200 - 1], atol=1e-6)
    np.testing.assert_allclose(read_slices(path, 4, (2, 3, 4), (-1400, 200))[0, 0, 0], -1)


def test_air_is_what_minus_1000_hu_becomes():
    assert air_value("paper") == -1 and air_value("rgb").tolist() == [-1, -1, -1]
    assert air_value((-1400, 200)) == pytest.approx(-0.5)
    padded = fit(np.zeros((1, 2, 2, 3), np.uint8), 4, 4, air=np.uint8([1, 2, 3]))
    assert padded[0, 0, 0].tolist() == [1, 2, 3] and padded[0, 1, 1].tolist() == [0, 0, 0]


PAIRS = ((-1225.0, 1025.0), (-135.0, 215.0), (0.0, 80.0))


@pytest.mark.parametrize("window", [PAIRS, [list(pair) for pair in PAIRS], [-1225, 1025, -135, 215, 0, 80]])
def test_three_windows_are_three_pairs_or_six_numbers(tmp_path, window):
    assert windows_of(window) == PAIRS and VolumeSettings(window=window) == VolumeSettings(window=PAIRS)
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    slices = read_slices(path, 4, (2, 3, 4), window)
    for channel, pair in enumerate(PAIRS):
        np.testing.assert_array_equal(slices[..., channel], read_slices(path, 4, (2, 3, 4), pair))


@pytest.mark.parametrize(
    "window",
    [
        *("bone", (1, 1), (0, 1, 2), ((0, 1), (0, 1)), 5, None),
        *((0, 1, 0, 1), (0, 1, 0, 1, 0), (0, 1, 0, 1, 0, 1, 0), ((0, 1, 2), (0, 1, 2)), ((0, 1), 2)),
        *((-np.inf, 200), (np.nan, 200), ("low", "high"), (0, 1, 0, 1, 1, 0)),
    ],
)
def test_other_windows_are_refused_with_the_choices(window):
    with pytest.raises(ValueError, match="'paper', 'rgb'"):
        windows_of(window)


def test_depths_are_physical(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))  # 48 mm deep
    _, depths = read_volume(path).slices(num_slices=4, spacing=(2, 3, 4))
    np.testing.assert_allclose(depths, [0, 12, 24, 36])


@pytest.mark.parametrize(
    ("shift", "cause"), [(-1024, "rescaled twice"), (-8192, "rescaled twice"), (1024, "never rescaled")]
)
@pytest.mark.parametrize("padding", [None, -1024, -2048, -3024])
def test_an_implausible_hu_range_is_refused_with_its_cause_padded_or_not(tmp_path, shift, cause, padding):
    array = marked_volume() + np.int16(shift)
    if padding is not None:
        array[:3] = array[-3:] = padding
    path = save(tmp_path / "v.nii.gz", array, np.diag([-2.0, -3.0, 4.0, 1.0]))
    with pytest.raises(VolumeError, match=f"v.nii.gz.*{cause}"):
        read_slices(path, num_slices=4, spacing=(2, 3, 4))


@pytest.mark.parametrize("padding", [-1024, -2048, -3024])
def test_padding_alone_is_no_reason_to_refuse(tmp_path, padding):
    array = marked_volume()
    array[:3] = array[-3:] = padding
    read_slices(save(tmp_path / "v.nii.gz", array, np.diag([-2.0, -3.0, 4.0, 1.0])), 4, (2, 3, 4))


def test_fewer_planes_than_slices_are_refused(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    with pytest.raises(VolumeError, match="10 slices are asked for"):
        read_slices(path, spacing=(2, 3, 8))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_fit_pads_with_air_and_keeps_the_centre(own, wanted):
    fitted = fit(np.ones((2, *own), np.float32), *wanted)
    assert fitted.shape == (2, *wanted)
    assert (fitted == 1).sum() == 2 * min(own[0], wanted[0]) * min(own[1], wanted[1])
    assert set(np.unique(fitted)) <= {-1.0, 1.0}


@given(depth=st.integers(20, 200), count=st.integers(2, 20), z_range=st.tuples(st.floats(0, 0.4), st.floats(0.6, 1)))
def test_slabs_cover_the_range_and_hold_their_plane(depth, count, z_range):
    assume((z_range[1] - z_range[0]) * depth >= count + 1)
    planes = choose_planes(depth, count, z_range)
    slabs = slabs_around(planes, depth, z_range)
    covered = {plane for slab in slabs for plane in slab}
    assert all(plane in slab for plane, slab in zip(planes, slabs, strict=True)) and max(covered) < depth
    assert covered == set(range(min(covered), max(covered) + 1))
    assert min(covered) == int(z_range[0] * depth + 1e-9) and max(covered) >= int(z_range[1] * depth + 1e-9) - 1


def test_projections_are_the_maximum_and_the_mean_of_each_slab(tmp_path):
    array = np.random.default_rng(0).integers(-1500, 1500, (20, 16, 12), dtype=np.int16)
    path = save(tmp_path / "v.nii.gz", array, np.diag([-2.0, -3.0, 4.0, 1.0]))
    slices, depths = read_volume(path).slices(4, (2, 3, 4), rule="mip")
    values = array.transpose(2, 1, 0)[::-1].clip(-1000, 1000) / 1000  # [Z, Y, X], 3 planes per slab
    slabs = values.reshape(4, 3, 16, 20)
    np.testing.assert_allclose(slices[..., 0], slabs.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(slices[..., 1], slabs.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(slices[..., 2], slabs[:, 1], atol=1e-6)
    assert depths == [0, 12, 24, 36]


def test_nan_in_a_plane_between_the_slices_is_refused_where_it_would_be_used(tmp_path):
    array = marked_volume().astype(np.float32)
    array[0, 0, 0] = np.nan  # in none of the chosen planes
    volume = read_volume(save(tmp_path / "v.nii.gz", array, np.diag([-2.0, -3.0, 4.0, 1.0])))
    assert np.isfinite(volume.slices(4, (2, 3, 4))[0]).all()
    for read in (lambda: volume.slices(4, (2, 3, 4), rule="mip"), volume.values, volume.resampled):
        with pytest.raises(VolumeError, match="NaN"):
            read()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_the_affine_is_that_of_the_turned_and_of_the_resampled_voxels(tmp_path, axes, flips):
    c, s = math.cos(0.05), math.sin(0.05)  # turned a little, as patients lie
    affine = np.array([[-2 * c, 3 * s, 0, 30], [-2 * s, -3 * c, 0, 20], [0, 0, 4, -120], [0, 0, 0, 1]])
    array = np.random.default_rng(0).integers(-1000, 400, (20, 16, 12), dtype=np.int16)
    array[3, 4, 5] = 1999
    turn = np.array([[axis, -1 if axis in flips else 1] for axis in axes])
    nib.save(nib.Nifti1Image(array, affine).as_reoriented(turn), tmp_path / "v.nii.gz")
    volume = read_volume(tmp_path / "v.nii.gz")
    (marked,) = np.argwhere(volume.stored == 1999)[:, ::-1]  # x, y, z
    np.testing.assert_allclose(volume.affine @ [*marked, 1], affine @ [3, 4, 5, 1], atol=1e-4)
    other = volume.resampled((1, 1.5, 2))  # half the size: the centre of eight voxels is that of one
    assert other.spacing == pytest.approx((1, 1.5, 2), rel=1e-3)
    np.testing.assert_allclose(other.affine @ [*(2 * marked + 0.5), 1], affine @ [3, 4, 5, 1], atol=1e-4)
