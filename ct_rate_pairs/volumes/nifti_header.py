"""What a NIfTI header says of geometry and HU, and whether its parts agree."""

import math
from dataclasses import replace

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat

from .geometry import (
    EMPTY,
    UNSET,
    Grid,
    compare_directions,
    fault_of,
    in_mm,
    rounded_like,
    same_size,
    tell_if_unset,
)
from .slicing import VolumeError
from .told import tell


_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes of unknown, metre, mm and micron -> mm


def grid_of_header(name: str, header: nib.Nifti1Header) -> Grid:
    """
    The geometry that a header gives, by one of its matrices.

    Raises:
        `VolumeError`: if the header contradicts itself, or if its matrices are broken.
    """
    pixdim = _pixdim(name, header)
    grids, faults = _matrices(header)
    if not grids and not all(fault.endswith(EMPTY) for fault in faults):
        raise VolumeError(
            f"{name}: {' and '.join(faults)}, so its axes are unknown. Correct the header, or leave the file out."
        )
    grid = grids[0] if grids else Grid.of_lps("its pixdim", np.eye(3), pixdim)
    if faults or not grids:
        because = " and ".join(faults) or "its header does not say where its axes point (sform and qform have code 0)"
        taken = grid.source if grids else "left, posterior, superior (LPS), as in ITK"
        tell("%s: %s. Taken instead: %s.", name, because, taken)
    for other in grids[1:]:
        compare_directions(name, grid, other)
    if not same_size(grid.spacing, pixdim):
        raise VolumeError(
            f"{name}: {grid.source} says voxels of {in_mm(grid.spacing)}, but its pixdim {in_mm(pixdim)}. One of them "
            "is wrong, and with it the depth of the slices. Correct the header (in nibabel, `set_sform` and "
            "`set_zooms`), or leave the file out."
        )
    origin = tuple((_unit(header) * _origin(header, grid).astype(float)).tolist()) if grids else None
    if grids and not np.isfinite(origin).all():
        tell("%s: the place of its first voxel is no number in %s. The place 0 is taken.", name, grid.source)
        origin = None
    return tell_if_unset(name, replace(grid, spacing=rounded_like(grid.spacing, pixdim), origin=origin))


def grid_of_table(spacing: tuple[float, float, float], orientation: tuple[float, ...] | None) -> Grid:
    """
    The geometry that the metadata table gives: the third axis is the normal of the first two, as in DICOM. Its origin
    is 0, because the table does not tell where the first voxel lies.
    """
    first, second = np.reshape(orientation or (1, 0, 0, 0, 1, 0), (2, 3))
    directions = np.stack([first, second, np.cross(first, second)], axis=1)
    directions = directions / np.linalg.norm(directions, axis=0)  # they are written as decimals
    return Grid.of_lps("the metadata table", directions, spacing)


def compare_with_header(name: str, grid: Grid, header: nib.Nifti1Header) -> None:
    """Tells what the header of an original file says otherwise than the metadata table. Voxels of 1 mm say nothing."""
    sizes = tuple(_unit(header) * float(size) for size in header["pixdim"][1:4])
    said = _matrices(header)[0] or [replace(grid, source="its pixdim", spacing=sizes)]
    other = said[0]
    differs = other.axes != grid.axes or not same_size(other.spacing, grid.spacing)
    if differs and not same_size(other.spacing, UNSET):
        tell("%s: %s says %s, but %s says %s. The table is taken.", name, grid.source, grid, other.source, other)


def rescaling_of(name: str, header: nib.Nifti1Header) -> tuple[float, float]:
    """
    Slope and intercept of the header; 1 and 0 if it has none.

    Raises:
        `VolumeError`: if they are no numbers, or if readers differ in what they mean.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope and not math.isnan(slope):
        if not math.isfinite(slope) or not math.isfinite(intercept):
            raise VolumeError(
                f"{name}: the header is damaged (slope {slope:g}, intercept {intercept:g}). Download the file again."
            )
        return slope, intercept
    if intercept and not math.isnan(intercept):
        raise VolumeError(
            f"{name}: its scl_slope is {slope:g}, which means no rescaling, but its scl_inter is {intercept:g}. ITK "
            "adds the intercept, nibabel does not. Correct the header: slope 1 if the intercept holds, otherwise "
            "intercept 0."
        )
    return 1.0, 0.0


def _pixdim(name: str, header: nib.Nifti1Header) -> tuple[float, float, float]:
    """The voxel size in mm along the array's axes, as the header states it beside its matrices."""
    code = int(header["xyzt_units"]) % 8
    sizes = [float(size) for size in header["pixdim"][1:4]]
    if code not in _MM:
        tell("%s: its unit of length has the unknown code %d: mm is taken.", name, code)
    if not all(0 < size < math.inf for size in sizes):
        raise VolumeError(
            f"{name}: its pixdim is {in_mm(sizes)}, but a voxel has three sizes above 0. Readers differ in what they "
            "make of it: correct the header, or leave the file out."
        )
    return tuple(size * _unit(header) for size in sizes)


def _unit(header: nib.Nifti1Header) -> float:
    """The header's unit of length, in mm."""
    return _MM.get(int(header["xyzt_units"]) % 8, 1.0)


def _matrices(header: nib.Nifti1Header) -> tuple[list[Grid], list[str]]:
    """What the sform and the qform say, if their codes are above 0: grids, and what is wrong with the others."""
    grids, faults = [], []
    for form, matrix_of in (("sform", _sform), ("qform", _qform)):
        if header[f"{form}_code"] > 0:
            matrix = matrix_of(header) * _unit(header)
            if fault := fault_of(matrix):
                faults.append(f"its {form} {fault}")
            else:
                grids.append(Grid.of_matrix(f"its {form}", matrix))
    return grids, faults


def _sform(header: nib.Nifti1Header) -> np.ndarray:
    return header.get_sform()[:3, :3]


def _qform(header: nib.Nifti1Header) -> np.ndarray:
    """The matrix of quaternion, pixdim and the sign of the third axis; without directions if there is no rotation."""
    try:
        turn = quat2mat(header.get_qform_quaternion()).astype(float)
    except ValueError:  # longer than 1
        turn = np.ones((3, 3))
    return turn * np.abs(header["pixdim"][1:4].astype(float)) * [1, 1, -1 if header["pixdim"][0] < 0 else 1]


def _origin(header: nib.Nifti1Header, grid: Grid) -> np.ndarray:
    """The place of the first voxel, by the matrix of `grid`."""
    if grid.source == "its sform":
        return header.get_sform()[:3, 3]
    return np.array([header[f"qoffset_{axis}"] for axis in "xyz"])
