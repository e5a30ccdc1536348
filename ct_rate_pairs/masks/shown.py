"""What the slices of a volume show of its masks. A mask must lie on the grid of its volume."""

from collections.abc import Sequence
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
    shown = np.zeros((len(masks), len(plan.slabs), *plan.size[1:]), bool)
    for file in dict.fromkeys(mask.file for mask in masks):
        places = [place for place, mask in enumerate(masks) if mask.file == file]
        shown[places] = _shown_in_file(file, [masks[place] for place in places], plan)
    return shown


def _shown_in_file(file: Path, masks: list[Mask], plan: SlicePlan) -> np.ndarray:
    name = f"{plan.name}: its mask ({masks[0].place})"
    if masks[0].channel is None:
        return read_volume(file, name, use=partial(_of_values, [mask.value for mask in masks], plan))
    return read_apart(name, partial(_row_of_volumes, file, name), partial(_of_channels, masks, plan))


def _of_values(values: list[int | None], plan: SlicePlan, mask: Volume) -> np.ndarray:
    """Masks of a file that is one volume, by the values of their voxels."""
    _check_grid(mask, plan)
    shown = []
    for slab in plan.slabs:
        labels = plan.shown(mask.stored, slab)  # [P, H, W]
        if (mask.slope, mask.intercept) != (1, 0):
            labels = labels * mask.slope + mask.intercept
        _check_whole(mask.name, labels)
        shown.append([((labels != 0) if value is None else (labels == value)).any(axis=0) for value in values])
    return np.swapaxes(np.array(shown, bool), 0, 1)


def _row_of_volumes(file: Path, name: str) -> np.ndarray:
    return read_array(file, name, dimensions=4)[1]


def _of_channels(masks: list[Mask], plan: SlicePlan, row: np.ndarray) -> np.ndarray:
    """
    Masks of a file with an axis of findings before x, y, z. Its header has no place for a matrix of such axes, so the
    voxels lie as those in the file of the volume do.
    """
    turn = ornt_transform(axcodes2ornt(tuple(plan.axes)), DISPLAY)
    shown = []
    for mask in masks:
        name = f"{plan.name}: its mask ({mask.place})"
        if mask.channel >= len(row):
            raise VolumeError(f"{name} is not there: the file holds {len(row)} findings. Download it again.")
        voxels = apply_orientation(row[mask.channel], turn).transpose(2, 1, 0)  # [Z, Y, X]
        if voxels.shape != plan.shape:
            raise VolumeError(f"{name} has {voxels.shape[::-1]} voxels as x, y, z, {_other(plan)}")
        planes = [plan.shown(voxels, slab) for slab in plan.slabs]
        for labels in planes:
            _check_whole(name, labels)
        shown.append([(labels != 0).any(axis=0) for labels in planes])
    return np.array(shown, bool)


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
