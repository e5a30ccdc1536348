"""A mask on the slices goes back to the very voxels of the scan, in the order and the space of its file."""

import itertools
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.placed_volumes import AXES, FLIPS, affine_of, save
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.masks.in_scan import in_file_order, planes_in_file, write_mask
from ct_rate_pairs.masks.mask import Mask
from ct_rate_pairs.masks.shown import shown_masks
from ct_rate_pairs.volumes.nifti import read_volume
from ct_rate_pairs.volumes.slicing import Volume


SHAPE = (14, 12, 22)
VOXEL = (5.0, 6.0, 4.0)


def plan_of(folder, shape, affine, **how):
    volume = save(folder / "v.nii", np.zeros(shape, np.int16), affine)
    return volume, read_volume(volume, use=partial(Volume.plan, **how))


def put_in_and_out(folder, plan, mask, affine):
    """The voxels of a drawn mask after they were shown on the slices and written back."""
    (shown,) = shown_masks([Mask("", save(folder / "m.nii", mask.astype(np.uint8), affine), "")], plan)
    write_mask(folder / "out.nii.gz", shown, plan)
    return shown, nib.load(folder / "out.nii.gz")


def only_seen(mask, plan):
    """The mask without the planes that no slice shows."""
    axis, planes = planes_in_file(plan)
    seen = np.zeros_like(mask)
    chosen = [slice(None)] * 3
    chosen["xyz".index(axis)] = planes
    seen[tuple(chosen)] = mask[tuple(chosen)]
    return seen


@pytest.mark.slow_but_first
@settings(max_examples=20)
@given(
    axes=st.sampled_from(AXES),
    flips=st.sampled_from(FLIPS),
    degrees=st.sampled_from([0.0, 7.0, 15.0]),
    finer=st.tuples(*[st.floats(0.4, 1.0)] * 3),
    z_range=st.sampled_from([(0.0, 1.0), (0.15, 0.9)]),
    seed=st.integers(0, 99),
)
def test_a_mask_comes_out_at_the_voxels_where_it_went_in(tmp_path_factory, axes, flips, degrees, finer, z_range, seed):
    folder, rng = tmp_path_factory.mktemp("v"), np.random.default_rng(seed)
    shape = tuple(np.array(SHAPE)[list(axes)])
    affine = affine_of(axes, flips, np.array(VOXEL)[list(axes)], degrees)
    spacing = tuple(np.multiply(VOXEL, finer))
    volume, plan = plan_of(
        folder, shape, affine, num_slices=4, spacing=spacing, z_range=z_range, fractions=rng.random(4)
    )
    mask = rng.random(shape) < 0.5
    shown, out = put_in_and_out(folder, plan, mask, affine)
    np.testing.assert_array_equal(out.get_fdata() > 0, only_seen(mask, plan))
    np.testing.assert_allclose(out.affine, nib.load(volume).affine, atol=1e-4)
    (again,) = shown_masks([Mask("", folder / "out.nii.gz", "")], plan)
    np.testing.assert_array_equal(again, shown)


@settings(max_examples=30)
@given(seed=st.integers(0, 999), coarser=st.tuples(*[st.floats(1.0, 3.0)] * 2))
def test_pixels_that_are_coarser_than_the_voxels_are_shown_again_as_they_were(seed, coarser):
    rng = np.random.default_rng(seed)
    volume = Volume("a volume", np.zeros((24, 17, 19), np.int16), (4.0, 4.0, 4.0), 1.0, 0.0)
    plan = volume.plan(num_slices=5, spacing=(4.0 * coarser[0], 4.0 * coarser[1], 4.0))
    shown = rng.random((5, *plan.size[1:])) < 0.5
    voxels = plan.on_grid(shown)
    again = np.concatenate([plan.shown(voxels, slab) for slab in plan.slabs])
    np.testing.assert_array_equal(again, shown)
    assert voxels.sum(axis=(1, 2)).nonzero()[0].tolist() == plan.seen_planes


@pytest.mark.parametrize("wrong", ["a plane up", "mirrored", "front and back", "upside down"])
def test_a_way_back_that_shifts_or_mirrors_is_noticed(tmp_path, wrong):
    affine = affine_of((0, 1, 2), (-1, -1, 1), VOXEL, 5)
    _, plan = plan_of(tmp_path, SHAPE, affine, num_slices=4, spacing=VOXEL)
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    _, out = put_in_and_out(tmp_path, plan, mask, affine)
    voxels = out.get_fdata() > 0
    edited = {
        "a plane up": np.roll(voxels, 1, 2),
        "mirrored": voxels[::-1],
        "front and back": voxels[:, ::-1],
        "upside down": voxels[:, :, ::-1],
    }[wrong]
    assert np.array_equal(voxels, only_seen(mask, plan)) and not np.array_equal(edited, only_seen(mask, plan))


@pytest.mark.parametrize("flips", [(-1, -1, 1), (1, -1, -1)])
def test_other_programs_place_the_mask_on_the_scan(tmp_path, flips):
    affine = affine_of((0, 1, 2), flips, VOXEL, 7)
    volume, plan = plan_of(tmp_path, SHAPE, affine, num_slices=4, spacing=VOXEL)
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 2:7] = True
    put_in_and_out(tmp_path, plan, mask, affine)
    scan, out = (sitk.ReadImage(str(file)) for file in (volume, tmp_path / "out.nii.gz"))
    assert scan.GetSize() == out.GetSize()
    np.testing.assert_allclose(scan.GetOrigin(), out.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(scan.GetDirection(), out.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(scan.GetSpacing(), out.GetSpacing(), atol=1e-5)


def test_a_projection_marks_all_planes_of_its_slab_and_planes_between_slices_stay_empty():
    volume = Volume("a volume", np.zeros((40, 8, 8), np.int16), (8.0, 8.0, 4.0), 1.0, 0.0)
    for rule, planes in (("mip", list(range(40))), ("uniform", [5, 15, 25, 35])):
        plan = volume.plan(num_slices=4, spacing=(8.0, 8.0, 4.0), rule=rule)
        voxels = plan.on_grid(np.ones((4, 8, 8), bool))
        assert plan.seen_planes == planes == np.flatnonzero(voxels.any(axis=(1, 2))).tolist()


def test_slices_of_one_thick_plane_are_joined():
    volume = Volume("a volume", np.zeros((4, 8, 8), np.int16), (8.0, 8.0, 20.0), 1.0, 0.0)
    plan = volume.plan(num_slices=8, spacing=(8.0, 8.0, 5.0))
    shown = np.zeros((8, 8, 8), bool)
    shown[0, 0, 0] = shown[1, 1, 1] = True
    assert np.argwhere(plan.on_grid(shown)).tolist() == [[0, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(("axes", "flips"), list(itertools.product(AXES, [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])))
def test_the_order_of_the_file_undoes_the_order_of_the_display(tmp_path, axes, flips):
    shape = tuple(np.array(SHAPE)[list(axes)])
    affine = affine_of(axes, flips, np.array(VOXEL)[list(axes)])
    stored = np.random.default_rng(1).integers(-900, 100, shape, dtype=np.int16)
    volume = read_volume(save(tmp_path / "v.nii", stored, affine))
    plan = volume.plan(num_slices=3, spacing=VOXEL)
    voxels, matrix = in_file_order(volume.stored, plan)
    np.testing.assert_array_equal(voxels, stored)
    np.testing.assert_allclose(matrix, affine, atol=1e-4)
