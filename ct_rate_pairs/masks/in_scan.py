"""Brings masks from the slices of a volume back to the voxels of its file."""

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from ct_rate_pairs.volumes.geometry import DISPLAY
from ct_rate_pairs.volumes.nifti_writer import write_nifti
from ct_rate_pairs.volumes.slice_plan import SlicePlan


def in_file_order(voxels: np.ndarray, plan: SlicePlan) -> tuple[np.ndarray, np.ndarray]:
    """
    Voxels on the grid of a volume, as the file of the volume has them.

    Args:
        voxels (`np.ndarray` of shape `[Z, Y, X]`):
            Voxels in display order.
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            Where the slices of the volume lie.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: a view with the axes of the file, and the matrix `[4, 4]` from these axes to
        RAS in mm. Both are those of the file, up to the rounding of its header.
    """
    turn = ornt_transform(DISPLAY, axcodes2ornt(tuple(plan.axes)))
    affine = plan.affine @ inv_ornt_aff(turn, plan.shape[::-1])
    return apply_orientation(voxels.transpose(2, 1, 0), turn), affine


def planes_in_file(plan: SlicePlan) -> tuple[str, list[int]]:
    """
    The planes of the file that the slices show: their axis in the file, `"x"`, `"y"` or `"z"`, and their places along
    it, from 0.
    """
    axis = next(place for place, letter in enumerate(plan.axes) if letter in "SI")
    count = plan.shape[0]
    upwards = plan.axes[axis] == "S"
    return "xyz"[axis], sorted(count - 1 - plane if upwards else plane for plane in plan.seen_planes)


def write_mask(path: Path, shown: np.ndarray, plan: SlicePlan) -> None:
    """
    Writes a mask in the space of its volume, see [`~ct_rate_pairs.volumes.slice_plan.SlicePlan.on_grid`]. Another
    program shows the file on top of the volume's file.

    Args:
        path (`Path`):
            A `.nii.gz` file to write. Its folder must exist.
        shown (`np.ndarray` of shape `[S, H, W]`):
            The mask on the slices, bool. Voxels inside are 1.
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            Where the slices of the volume lie.
    """
    write_nifti(path, *in_file_order(plan.on_grid(shown.astype(np.uint8)), plan))
