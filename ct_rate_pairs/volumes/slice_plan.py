"""
Where the slices of a volume lie on its grid, so that a mask on this grid is shown at the very same places, and a mask
on the slices is brought back to the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


_MOST_VOXELS = 2**16  # along an axis, so that a damaged plan does not ask for all memory
_BODY_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


@dataclass(frozen=True)
class SlicePlan:
    """
    Where the slices of a volume lie.

    Args:
        name (`str`):
            Name of the volume, for messages.
        shape (`tuple[int, int, int]`):
            Voxels of the volume in display order, `(Z, Y, X)`.
        affine (`np.ndarray`):
            Matrix `[4, 4]` from the place (x, y, z) of a voxel in display order to RAS in mm.
        axes (`str`):
            Where the axes of the array in the volume's file point, such as `"LPS"`.
        size (`tuple[int, int, int]`):
            Voxels of the resampled grid, `(D, H, W)`.
        planes (`tuple[int, ...]`):
            Plane of the resampled grid that each slice is, or, with `slices="mip"`, whose depth it has.
        slabs (`tuple[Sequence[int], ...]`):
            All planes of the resampled grid that each slice shows: one, or, with `slices="mip"`, those of its bin.
    """

    name: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    axes: str
    size: tuple[int, int, int]
    planes: tuple[int, ...]
    slabs: tuple[Sequence[int], ...]

    def to_row(self) -> dict:
        """The plan as plain values, for a prepared copy."""
        return {
            "shape": self.shape,
            "affine": self.affine.ravel().tolist(),
            "axes": self.axes,
            "size": self.size,
            "planes": self.planes,
            "slabs": [[slab[0], slab[-1]] for slab in self.slabs],
        }

    @classmethod
    def from_row(cls, name: str, row: dict) -> Self:
        """
        The plan of the volume `name` that [`to_row`] wrote.

        Raises:
            `ValueError`: if the values are no plan.
        """
        shape, size, planes, slabs = (np.array(row[field], int) for field in ("shape", "size", "planes", "slabs"))
        affine = np.array(row["affine"], float)
        if shape.shape != (3,) or size.shape != (3,) or slabs.shape != (len(planes), 2) or affine.shape != (16,):
            raise ValueError("its plan has other dimensions than those of slices")
        inside = (slabs >= 0).all() and (slabs < size[0]).all() and (slabs[:, 0] <= slabs[:, 1]).all()
        sides = (*shape, *size)
        if not (inside and min(sides) > 0 and max(sides) <= _MOST_VOXELS and np.isfinite(affine).all()):
            raise ValueError("its plan has places that no slice has")
        if sorted(_BODY_AXIS.get(letter, -1) for letter in row["axes"] or "") != [0, 1, 2]:
            raise ValueError("its plan has other axes than those of a body")
        ranges = tuple(range(first, last + 1) for first, last in slabs.tolist())
        to = tuple(size.tolist())
        return cls(name, tuple(shape.tolist()), affine.reshape(4, 4), row["axes"], to, tuple(planes.tolist()), ranges)

    def shown(self, voxels: np.ndarray, slab: Sequence[int]) -> np.ndarray:
        """
        What a slice shows of voxels that are not mixed, such as those of a mask. Each pixel takes the stored voxel
        that is nearest to the point at which the image is computed.

        Args:
            voxels (`np.ndarray`):
                Voxels on the grid of the volume, in display order, of shape `[Z, Y, X]`.
            slab (`Sequence[int]`):
                Planes of the resampled grid: one of `slabs`.

        Returns:
            `np.ndarray`: the different stored planes at these places, of shape `[P, H, W]`.
        """
        _, height, width = (_nearest(to, of) for to, of in zip(self.size, self.shape, strict=True))
        return voxels[np.ix_(self.stored_planes(slab), height, width)]

    def stored_planes(self, slab: Sequence[int]) -> np.ndarray:
        """The stored planes of the volume that [`shown`] shows for a slab, from 0 at the top."""
        return np.unique(_nearest(self.size[0], self.shape[0])[list(slab)])

    @property
    def seen_planes(self) -> list[int]:
        """All stored planes of the volume that the slices show, from 0 at the top."""
        return sorted({int(plane) for slab in self.slabs for plane in self.stored_planes(slab)})

    def on_grid(self, shown: np.ndarray) -> np.ndarray:
        """
        The inverse of [`shown`]: what masks on the slices say of the voxels of the volume. Each voxel takes the pixel
        that its middle lies in. Planes that no slice shows stay 0: nothing is known of them. Slices that show the
        same stored plane are joined by their maximum.

        Args:
            shown (`np.ndarray` of shape `[S, H, W]`):
                Masks on the slices.

        Returns:
            `np.ndarray`: the masks on the grid of the volume, in display order, of shape `[Z, Y, X]`.
        """
        voxels = np.zeros(self.shape, shown.dtype)
        for plane, slab in zip(shown, self.slabs, strict=True):
            for stored in self.stored_planes(slab):
                np.maximum(voxels[stored], self.in_plane(plane), out=voxels[stored])
        return voxels

    def in_plane(self, shown: np.ndarray) -> np.ndarray:
        """One slice `[H, W]` at the pixels of a stored plane, `[Y, X]`, as [`on_grid`] brings it there."""
        rows, columns = (_nearest(to, of) for to, of in zip(self.shape[1:], self.size[1:], strict=True))
        return shown[np.ix_(rows, columns)]


def _nearest(to: int, of: int) -> np.ndarray:
    """
    For each of `to` places that divide the length of `of` voxels evenly, the voxel that is nearest to its middle. In
    whole numbers, because a middle may lie exactly between two voxels.
    """
    return (2 * np.arange(to) + 1) * of // (2 * to)
