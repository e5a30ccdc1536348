"""What the planes of a volume show of its masks. A mask must lie on the grid of its volume."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from ct_rate_pairs.volumes.apart import read_apart
from ct_rate_pairs.volumes.geometry import DISPLAY, in_mm
from ct_rate_pairs.volumes.nifti import read_array, read_volume
from ct_rate_pairs.volumes.slice_plan import SlicePlan
from ct_rate_pairs.volumes.slicing import Volume, VolumeError

from .mask import Mask


_SAME_PLACE = 0.1  # share of a voxel by which a corner of a mask may lie off: headers round


def shown_masks(masks: Sequence[Mask], plan: SlicePlan) -> np.ndarray:
    """
    What the slices of a volume show of its masks.

    Args:
        masks (`Sequence[Mask]`):
            The masks, `F` of them.
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            Where the slices of the volume lie.

    Returns:
        `np.ndarray`: bool of shape `[F, S, H, W]`. A slice of several planes (`slices="mip"`) shows a mask where at
        least one of them does.

    Raises:
        `VolumeError`: if a file cannot be read, if its voxels are no whole numbers, or if it does not lie on the grid
            of the volume.
    """
    return _of_each_slice(masks, plan, _whole)


def mask_areas(masks: Sequence[Mask], plan: SlicePlan) -> np.ndarray:
    """
    How large the masks of a volume are on each plane of its resampled grid.

    Args:
        masks (`Sequence[Mask]`), plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            See [`shown_masks`].

    Returns:
        `np.ndarray`: stored voxels, int of shape `[F, D]`, superior first.

    Raises:
        `VolumeError`: see [`shown_masks`].
    """
    depth, every = plan.size[0], tuple((plane,) for plane in range(plan.size[0]))
    return _of_each_slice(masks, replace(plan, size=(depth, *plan.shape[1:]), slabs=every), _area)


_Take = Callable[[np.ndarray], np.ndarray]  # what is taken of the masks on one slice, bool [F, H, W]


def _whole(shown: np.ndarray) -> np.ndarray:
    return shown


def _area(shown: np.ndarray) -> np.ndarray:
    return shown.sum(axis=(1, 2))


def _of_each_slice(masks: Sequence[Mask], plan: SlicePlan, take: _Take) -> np.ndarray:
    """What is taken of the masks on each slice, of shape `[F, S, ...]`, in the order of the masks."""
    places, taken = [], []
    for file in dict.fromkeys(mask.file for mask in masks):
        of_file = [place for place, mask in enumerate(masks) if mask.file == file]
        places += of_file
        taken.append(_of_file(file, [masks[place] for place in of_file], plan, take))
    return np.concatenate(taken)[np.argsort(places)]


def _of_file(file: Path, masks: list[Mask], plan: SlicePlan, take: _Take) -> np.ndarray:
    name = f"{plan.name}: its mask ({masks[0].place})"
    if masks[0].channel is None:
        return read_volume(file, name, use=partial(_of_values, [mask.value for mask in masks], plan, take))
    return read_apart(name, partial(_row_of_volumes, file, name), partial(_of_channels, masks, plan, take))


def _of_values(values: list[int | None], plan: SlicePlan, take: _Take, mask: Volume) -> np.ndarray:
    """Masks of a file that is one volume, by the values of their voxels."""
    _check_grid(mask, plan)
    taken = []
    for slab in plan.slabs:
        labels = plan.shown(mask.stored, slab)  # [P, H, W]
        if (mask.slope, mask.intercept) != (1, 0):
            labels = labels * mask.slope + mask.intercept
        _check_whole(mask.name, labels)
        shown = [((labels != 0) if value is None else (labels == value)).any(axis=0) for value in values]
        taken.append(take(np.array(shown)))
    return np.stack(taken, axis=1)


def _row_of_volumes(file: Path, name: str) -> np.ndarray:
    return read_array(file, name, dimensions=4)[1]


def _of_channels(masks: list[Mask], plan: SlicePlan, take: _Take, row: np.ndarray) -> np.ndarray:
    """
    Masks of a file with an axis of findings before x, y, z. Its header has no place for a matrix of such axes, so the
    voxels lie as those in the file of the volume do.
    """
    turn = ornt_transform(axcodes2ornt(tuple(plan.axes)), DISPLAY)
    turned = []
    for mask in masks:
        name = f"{plan.name}: its mask ({mask.place})"
        if mask.channel >= len(row):
            raise VolumeError(f"{name} is not there: the file holds {len(row)} findings. Download it again.")
        voxels = apply_orientation(row[mask.channel], turn).transpose(2, 1, 0)  # [Z, Y, X]
        if voxels.shape != plan.shape:
            raise VolumeError(f"{name} has {voxels.shape[::-1]} voxels as x, y, z, {_other(plan)}")
        turned.append((name, voxels))
    taken = []
    for slab in plan.slabs:
        planes = [(name, plan.shown(voxels, slab)) for name, voxels in turned]
        for name, labels in planes:
            _check_whole(name, labels)
        taken.append(take(np.array([(labels != 0).any(axis=0) for _, labels in planes])))
    return np.stack(taken, axis=1)


def _check_grid(mask: Volume, plan: SlicePlan) -> None:
    """Refuses a mask that does not lie on the grid of its volume."""
    if mask.stored.shape != plan.shape:
        raise VolumeError(f"{mask.name} has {mask.stored.shape[::-1]} voxels as x, y, z, {_other(plan)}")
    corners = np.array(np.meshgrid(*((0, count - 1) for count in plan.shape[::-1]), [1])).reshape(4, -1)
    off = np.linalg.norm(((mask.affine - plan.affine) @ corners)[:3], axis=0).max()
    sides = np.linalg.norm(plan.affine[:3, :3], axis=0)
    if off > _SAME_PLACE * sides.min():
        raise VolumeError(
            f"{mask.name} lies up to {off:.1f} mm off: it has voxels of {in_mm(mask.spacing)} from "
            f"{_origin(mask.affine)} on, and the volume has voxels of {in_mm(sides)} from {_origin(plan.affine)} on. "
            f"{_REMEDY}"
        )


def _other(plan: SlicePlan) -> str:
    return f"but the volume has {plan.shape[::-1]}. {_REMEDY}"


_REMEDY = (
    "A mask must lie on the grid of its volume: draw it on this volume, or bring it to the grid with nearest "
    "neighbours (nibabel.processing.resample_from_to(mask, volume, order=0)) if its header tells where it lies."
)


def _origin(affine: np.ndarray) -> str:
    return "({:.1f}, {:.1f}, {:.1f})".format(*affine[:3, 3])


def _check_whole(name: str, labels: np.ndarray) -> None:
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):  # NaN, too
        raise VolumeError(
            f"{name} has voxels that are no whole numbers, as probabilities have. Choose a threshold, and write 0 "
            "and 1."
        )
