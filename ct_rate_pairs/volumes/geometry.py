"""
Where the axes of a stored array point, and how large its voxels are.

A file can say this in several places. Each reader takes one of them as the authority, and compares the others with it:
a difference is refused or told, and directions and spacing never come from two sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)

from .slicing import VolumeError
from .told import tell


# Display order: slices superior first, rows anterior first, columns from the patient's right. Axes as (x, y, z).
DISPLAY = axcodes2ornt(("L", "P", "I"))
_LPS_TO_RAS = np.array([[-1.0], [-1.0], [1.0]])
_VOXEL_MM, _EXTENT_MM = (0.05, 20.0), (40.0, 2000.0)  # allowed size of a voxel and of a volume along each axis
_SAME_SIZE = 0.01  # share by which two sources may differ in a voxel's size
_ROUNDING = 1e-5  # share by which the lengths of a matrix's columns differ from the sizes that the matrix was made of
_SAME_DIRECTION = 0.6  # degrees by which two sources may differ without a word: 1 %
UNSET = (1.0, 1.0, 1.0)  # the voxel size that libraries write for an array without geometry
EMPTY = "holds NaN or zeros"  # the fault of a matrix that nobody filled in
_MOST_TILT = 20.0  # degrees from the body's axes
_MOST_SHEAR = 1.0  # degrees from a right angle between two axes: 5 mm over a chest
_FLAT = (
    0.1  # volume that three unit vectors span: less is no direction at all. A gantry tilt of 30 degrees leaves 0.87
)


@dataclass(frozen=True)
class Grid:
    """
    Where the axes of an array point, and how large its voxels are, as one source says it.

    Args:
        source (`str`):
            The source, for messages, such as "its sform".
        directions (`np.ndarray`):
            Unit vectors along the three axes of the array, as columns `[3, 3]`, in RAS.
        spacing (`tuple[float, float, float]`):
            Voxel size along each axis of the array, in mm.
        origin (`tuple[float, float, float]`, *optional*):
            Place of the centre of the first voxel, in mm in RAS; `None` if the source does not tell it.
    """

    source: str
    directions: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] | None = None

    @classmethod
    def of_matrix(cls, source: str, matrix: np.ndarray, origin: Sequence[float] | None = None) -> "Grid":
        """The grid of a matrix `[3, 3]` from voxels to RAS in mm."""
        lengths = np.linalg.norm(matrix, axis=0)
        known = None if origin is None else tuple(map(float, origin))
        return cls(source, matrix / lengths, tuple(lengths.tolist()), known)

    @classmethod
    def of_lps(
        cls, source: str, directions: np.ndarray, spacing: Sequence[float], origin: Sequence[float] | None = None
    ) -> "Grid":
        """The grid of unit vectors, as columns `[3, 3]`, and of an origin in LPS, as DICOM and ITK have them."""
        in_ras = None if origin is None else tuple((_LPS_TO_RAS[:, 0] * origin).tolist())
        return cls(source, _LPS_TO_RAS * directions, tuple(map(float, spacing)), in_ras)

    @property
    def axes(self) -> str:
        """The body's direction that each axis of the array runs to, such as "LPS"."""
        return "".join(ornt2axcodes(io_orientation(_affine(self.directions))))

    def __str__(self) -> str:
        return f"axes {self.axes} and voxels of {in_mm(self.spacing)}"


def in_mm(spacing: tuple[float, float, float]) -> str:
    """Voxel sizes, for messages."""
    return " x ".join(f"{size:g}" for size in spacing) + " mm"


def fault_of(matrix: np.ndarray) -> str | None:
    """What is wrong with a matrix `[3, 3]` whose columns are not three directions; `None` if they are."""
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(lengths).all() or not lengths.all():
        return EMPTY
    return "holds no three directions" if abs(np.linalg.det(matrix / lengths)) < _FLAT else None


def same_size(one: tuple[float, float, float], other: tuple[float, float, float], share: float = _SAME_SIZE) -> bool:
    """Whether two voxel sizes are equal up to `share`."""
    return bool(np.allclose(one, other, rtol=share, atol=0))


def rounded_like(spacing: tuple[float, float, float], written: tuple[float, float, float]) -> tuple[float, ...]:
    """`written` where `spacing` is the same numbers with the rounding of a matrix; otherwise `spacing`."""
    return written if same_size(spacing, written, _ROUNDING) else spacing


def _degrees_between(one: Grid, other: Grid) -> float:
    """The largest angle between an axis of one grid and the same axis of the other, in degrees."""
    cosines = (one.directions * other.directions).sum(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())


def tell_if_unset(name: str, grid: Grid) -> Grid:
    """
    Tells that a header has what libraries write into it for an array without geometry: voxels of 1 mm along the body's
    axes, from the place 0. The place of such a grid is then taken for unknown.
    """
    straight = np.isin(np.abs(grid.directions), (0, 1)).all()
    if straight and grid.spacing == UNSET and not np.any(grid.origin or 0.0):
        tell(
            "%s: its header has %s from the origin 0, as if nobody had set its geometry. It is taken as it stands. "
            "Check it.", name, grid,
        )  # fmt: skip
        return replace(grid, origin=None)
    return grid


def compare_directions(name: str, grid: Grid, other: Grid) -> None:
    """
    Tells that another source turns the axes otherwise than `grid`.

    Raises:
        `VolumeError`: if the other source would show the volume mirrored or turned.
    """
    if grid.axes != other.axes:
        raise VolumeError(
            f"{name}: {grid.source} says that its axes run to {grid.axes}, but {other.source} to {other.axes}. One of "
            "them shows the patient mirrored or turned. Correct the header, or leave the file out."
        )
    if (angle := _degrees_between(grid, other)) > _SAME_DIRECTION:
        tell("%s: %s and %s differ by %.1f degrees. %s is taken.", name, grid.source, other.source, angle, grid.source)


def display(name: str, stored: np.ndarray, grid: Grid) -> tuple[np.ndarray, tuple[float, float, float], np.ndarray]:
    """
    Turns an array to display order.

    Args:
        name (`str`):
            Name of the volume, for messages.
        stored (`np.ndarray`):
            The voxels, with axes as in `grid`.
        grid ([`Grid`]):
            Where the axes point.

    Returns:
        `tuple[np.ndarray, tuple[float, float, float], np.ndarray]`: the voxels `[Z, Y, X]` as a view, superior first,
        anterior first, the patient's right first; the voxel size in mm as x, y, z; and the affine `[4, 4]` from the
        place (x, y, z) of a voxel in that view to RAS in mm.

    Raises:
        `VolumeError`: if the axes are sheared, or so tilted that the planes are not axial; if the voxels or the volume
            cannot have this size.
    """
    _check_directions(name, grid)
    turn = ornt_transform(io_orientation(_affine(grid.directions)), DISPLAY)
    affine = _affine(grid.directions * grid.spacing, grid.origin or (0, 0, 0)) @ inv_ornt_aff(turn, stored.shape)
    stored = apply_orientation(stored, turn).transpose(2, 1, 0)  # [Z, Y, X]
    # In float32, as a NIfTI header holds it, so that a volume resamples to the same planes in every format.
    spacing = tuple(float(np.float32(grid.spacing[axis])) for axis in np.argsort(turn[:, 0]))
    _check_spacing(name, stored.shape[::-1], spacing, grid.source)
    return stored, spacing, affine


def _affine(directions: np.ndarray, origin: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = origin
    return affine


def _check_directions(name: str, grid: Grid) -> None:
    cosines = np.abs(grid.directions)  # [body's axis, array's axis]
    straightest = max(cosines[axes, [0, 1, 2]].min() for axes in permutations(range(3)))
    tilt = np.degrees(np.arccos(min(straightest, 1.0)))
    if tilt > _MOST_TILT:
        raise VolumeError(
            f"{name}: its axes are tilted by {tilt:.0f} degrees against the body's axes (at most {_MOST_TILT:.0f} are "
            "allowed), so its planes are not axial. Resample the volume to an axial grid, or leave it out."
        )
    between = grid.directions.T @ grid.directions
    shear = np.degrees(np.arcsin(min(np.abs(between - np.diag(np.diag(between))).max(), 1.0)))
    if shear > _MOST_SHEAR:
        raise VolumeError(
            f"{name}: {grid.source} has axes that are {shear:.0f} degrees off a right angle (gantry tilt), so the "
            "voxels are no upright grid. Resample the volume, or leave it out."
        )


def _check_spacing(name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], source: str) -> None:
    """Refuses voxels or a volume of a size that no chest has. Axes as x, y, z, spacing in mm."""
    for axis, count, size in zip("xyz", shape, spacing, strict=True):
        if not _VOXEL_MM[0] <= size <= _VOXEL_MM[1] or not _EXTENT_MM[0] <= count * size <= _EXTENT_MM[1]:
            raise VolumeError(
                f"{name}: {count} voxels of {size:g} mm along {axis} (by {source}) cannot be a chest (voxels of "
                f"{_VOXEL_MM[0]:g} to {_VOXEL_MM[1]:g} mm, {_EXTENT_MM[0]:g} to {_EXTENT_MM[1]:g} mm in all). Correct "
                "the spacing (or its unit) in the header of the file, or in the metadata table for files='original'."
            )
