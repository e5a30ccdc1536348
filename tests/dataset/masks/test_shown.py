"""A mask is shown exactly where its volume is: the same planes, size and orientation, by nearest neighbours."""

import itertools
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.placed_volumes import AXES, FLIPS, affine_of, save
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.masks.mask import Mask
from ct_rate_pairs.masks.shown import shown_masks
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.slicing import Volume, VolumeError


SHAPE = (14, 12, 22)


def planned(volume: Volume, **how):
    plan = volume.plan(**how)
    rule = {"rule": how["rule"]} if "rule" in how else {}
    return volume.planned(plan, **rule)[0], plan


def planned_without_check(volume: Volume, **how):
    volume.is_checked = True  # a volume whose HU tell places is no chest
    return planned(volume, **how)


def positions(folder, shape, affine, **how) -> list[np.ndarray]:
    """
    Where in the stored array each pixel of the slices lies, along each axis, as the images themselves say it: those
    of volumes whose HU rise along one axis.
    """
    found = []
    for axis, count in enumerate(shape):
        along = [count if other == axis else 1 for other in range(3)]
        ramp = np.broadcast_to(np.linspace(-1000, 1000, count).reshape(along), shape)
        path = save(folder / f"{axis}.nii", ramp.astype(np.float32), affine)
        slices, plan = read_volume(path, use=partial(planned_without_check, **how))
        found.append((slices + 1) / 2 * (count - 1))
    return [*found, plan]


def agrees(shown, labels, places) -> bool:
    """Whether a shown mask takes the stored voxel that is nearest to each pixel; either, where two are as near."""
    below, above = ([np.rint(place + off).astype(int) for place in places] for off in (-0.002, 0.002))
    choices = itertools.product(*zip(below, above, strict=True))
    return bool(np.any([labels[choice] == shown for choice in choices], axis=0).all())


@pytest.mark.slow_but_first
@settings(max_examples=15)
@given(
    axes=st.sampled_from(AXES),
    flips=st.sampled_from(FLIPS),
    degrees=st.sampled_from([0.0, 7.0, 15.0]),
    spacing=st.tuples(*[st.floats(4, 7)] * 3),
    target=st.tuples(*[st.floats(3, 9)] * 3),
    z_range=st.sampled_from([(0.0, 1.0), (0.15, 0.9)]),
    seed=st.integers(0, 99),
)
def test_a_mask_is_shown_where_the_image_takes_its_values(
    tmp_path_factory, axes, flips, degrees, spacing, target, z_range, seed
):
    folder, rng = tmp_path_factory.mktemp("v"), np.random.default_rng(seed)
    shape = tuple(np.array(SHAPE)[list(axes)])
    affine = affine_of(axes, flips, np.array(spacing)[list(axes)], degrees)
    how = {"num_slices": 3, "spacing": target, "z_range": z_range, "fractions": rng.random(3)}
    *places, plan = positions(folder, shape, affine, **how)
    labels = rng.integers(0, 3, shape, dtype=np.uint8)
    file = save(folder / "mask.nii.gz", labels, affine)
    one, two, every = shown_masks([Mask("", file, "", value) for value in (1, 2, None)], plan)
    assert agrees(one, labels == 1, places) and agrees(two, labels == 2, places)
    np.testing.assert_array_equal(every, one | two)


@pytest.mark.parametrize("wrong", ["shifted", "shifted in the plane", "mirrored", "upside down", "rounded down"])
def test_a_mask_that_is_shifted_mirrored_or_resampled_otherwise_is_noticed(tmp_path, wrong):
    how = {"num_slices": 4, "spacing": (5.0, 5.0, 4.0)}
    affine = affine_of((0, 1, 2), (-1, -1, 1), (6.0, 6.0, 6.0))
    *places, plan = positions(tmp_path, SHAPE, affine, **how)
    labels = np.random.default_rng(0).random(SHAPE) < 0.5
    edited = {
        "shifted": np.roll(labels, 1, 2),
        "shifted in the plane": np.roll(labels, 1, 0),
        "mirrored": labels[::-1],
        "upside down": labels[:, :, ::-1],
        "rounded down": labels,
    }[wrong]
    (shown,) = shown_masks([Mask("", save(tmp_path / "m.nii", edited.astype(np.uint8), affine), "")], plan)
    if wrong == "rounded down":  # torch's "nearest", which many programs use
        stored = torch.from_numpy(labels.transpose(2, 1, 0)[::-1].astype(np.float32))[None, None]
        shown = F.interpolate(stored, size=plan.size, mode="nearest")[0, 0].numpy()[list(plan.planes)] > 0
    assert not agrees(shown, labels, places)


@pytest.mark.parametrize("rule", ["uniform", "mip"])
@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("ratio", [1, 3])  # each pixel is then the middle of a voxel
def test_a_bright_box_and_its_mask_give_the_same_pixels(tmp_path, rule, flips, ratio):
    box = np.zeros((30, 24, 36), bool)
    box[7:19, 4:13, 10:27] = True
    affine = affine_of((0, 1, 2), flips, (3.0, 3.0, 4.0), degrees=5)
    volume = save(tmp_path / "v.nii", np.where(box, 300, -800).astype(np.int16), affine)
    how = {"num_slices": 4, "spacing": tuple(ratio * size for size in (3.0, 3.0, 4.0)), "rule": rule}
    slices, plan = read_volume(volume, use=partial(planned, **how))
    (shown,) = shown_masks([Mask("", save(tmp_path / "m.nii.gz", box.astype(np.uint8), affine), "")], plan)
    bright = slices[..., 0] if rule == "mip" else slices  # the maximum of a slab
    np.testing.assert_array_equal(shown, bright > 0)
    assert 0 < shown.mean() < 1


def test_masks_of_the_lungs_slices_lie_on_these_slices(tmp_path):
    hu = np.full((40, 40, 40), 40, np.int16)
    hu[:2], hu[-2:], hu[:, :2], hu[:, -2:] = 4 * [-1000]
    hu[8:30, 8:30, 12:30] = -800
    affine = affine_of((0, 1, 2), (-1, -1, 1), (8.0, 8.0, 8.0))
    how = {"num_slices": 3, "spacing": (8.0, 8.0, 8.0), "rule": "lung"}
    slices, plan = read_volume(save(tmp_path / "v.nii", hu, affine), use=partial(planned, **how))
    mask = save(tmp_path / "m.nii", (hu == -800).astype(np.uint8), affine)
    np.testing.assert_array_equal(shown_masks([Mask("lungs", mask, "")], plan)[0], np.rint(slices * 1000) == -800)
    assert plan.planes[0] >= 10 and plan.planes[-1] < 28


def test_a_mask_in_another_storage_order_lies_in_the_same_place(tmp_path):
    affine = affine_of((0, 1, 2), (-1, -1, 1), (5.0, 6.0, 7.0))
    labels = np.random.default_rng(1).integers(0, 2, SHAPE, dtype=np.uint8)
    volume = save(tmp_path / "v.nii", np.zeros(SHAPE, np.int16), affine)
    plan = read_volume(volume, use=partial(Volume.plan, num_slices=3, spacing=(5.0, 5.0, 5.0)))
    stored = nib.Nifti1Image(labels, affine)
    turned = nib.as_closest_canonical(stored)
    (expected,) = shown_masks([Mask("", save(tmp_path / "m.nii", labels, affine), "")], plan)
    nib.save(turned, tmp_path / "ras.nii.gz")
    np.testing.assert_array_equal(shown_masks([Mask("", tmp_path / "ras.nii.gz", "")], plan)[0], expected)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_findings_in_front_of_the_axes_lie_as_the_volume_is_stored(tmp_path, axes, flips):
    shape = tuple(np.array(SHAPE)[list(axes)])
    affine = affine_of(axes, flips, (5.0, 6.0, 7.0))
    volume = save(tmp_path / "v.nii", np.zeros(shape, np.int16), affine)
    plan = read_volume(volume, use=partial(Volume.plan, num_slices=3, spacing=(5.0, 5.0, 5.0)))
    row = np.random.default_rng(1).integers(0, 3, (2, *shape), dtype=np.uint8)
    expected = shown_masks(
        [Mask("", save(tmp_path / f"{i}.nii", voxels, affine), "") for i, voxels in enumerate(row)], plan
    )
    file = save(tmp_path / "row.nii.gz", row, np.eye(4))
    np.testing.assert_array_equal(shown_masks([Mask("", file, "", channel=i) for i in (0, 1)], plan), expected)
    with pytest.raises(VolumeError, match="the file holds 2 findings"):
        shown_masks([Mask("", file, "", channel=2)], plan)


@pytest.fixture
def grid(tmp_path):
    affine = affine_of((0, 1, 2), (-1, -1, 1), (5.0, 6.0, 7.0), 3)
    volume = save(tmp_path / "v.nii", np.zeros(SHAPE, np.int16), affine)
    return affine, read_volume(volume, "train_1", use=partial(Volume.plan, num_slices=3, spacing=(5.0, 5.0, 5.0)))


def moved(affine, voxels):
    other = affine.copy()
    other[:3, 3] += affine[:3, :3] @ voxels
    return other


@pytest.mark.parametrize(
    ("shape", "change", "told"),
    [
        (SHAPE, lambda affine: moved(affine, (0, 0, 1)), "lies up to 7.0 mm off"),
        (SHAPE, lambda affine: moved(affine, (0.2, 0, 0)), "lies up to 1.0 mm off"),
        (SHAPE, lambda affine: affine @ np.diag([-1.0, 1, 1, 1]), r"train_1: its mask \(row 2\) lies up to .* mm off"),
        (SHAPE, lambda affine: affine @ np.diag([1.0, 1.02, 1, 1]), "voxels of 5 x 6.12 x 7 mm"),
        (
            (14, 12, 21),
            lambda affine: affine,
            r"has \(14, 12, 21\) voxels as x, y, z, but the volume has \(14, 12, 22",
        ),
    ],
)
def test_a_mask_on_another_grid_is_refused_by_name(tmp_path, grid, shape, change, told):
    affine, plan = grid
    file = save(tmp_path / "m.nii.gz", np.zeros(shape, np.uint8), change(affine))
    with pytest.raises(VolumeError, match=told) as raised:
        shown_masks([Mask("", file, "row 2")], plan)
    assert "must lie on the grid" in str(raised.value)
    row = save(tmp_path / "row.nii.gz", np.zeros((1, *shape[::-1]), np.uint8), np.eye(4))
    with pytest.raises(VolumeError, match="voxels as x, y, z, but the volume has"):
        shown_masks([Mask("", row, "row 2", channel=0)], plan)


def test_rounding_of_a_header_is_no_other_grid(tmp_path, grid):
    affine, plan = grid
    file = save(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8), moved(affine, (0.05, 0, 0.01)))
    assert shown_masks([Mask("", file, "")], plan).all()


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_probabilities_are_no_mask(tmp_path, grid, value):
    affine, plan = grid
    for array, channel in ((np.full(SHAPE, value, np.float32), None), (np.full((1, *SHAPE), value, np.float32), 0)):
        file = save(tmp_path / f"{channel}.nii.gz", array, affine)
        with pytest.raises(VolumeError, match="no whole numbers, as probabilities"):
            shown_masks([Mask("", file, "row 2", channel=channel)], plan)


def test_a_damaged_mask_is_a_bad_file_and_no_crash(tmp_path, grid):
    (tmp_path / "m.nii.gz").write_bytes(b"no NIfTI at all")
    with pytest.raises(VolumeError, match=r"train_1: its mask \(row 2\): not a NIfTI file"):
        shown_masks([Mask("", tmp_path / "m.nii.gz", "row 2")], grid[1])
    with pytest.raises(VolumeError, match=r"train_1: its mask \(row 2\): cannot be read: No such file"):
        shown_masks([Mask("", tmp_path / "absent.nii.gz", "row 2")], grid[1])
