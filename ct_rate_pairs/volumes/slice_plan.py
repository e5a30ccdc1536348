"""Where the slices of a volume lie on its grid, so that a mask on this grid is shown at the very same places."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
        depth, height, width = (_nearest(to, of) for to, of in zip(self.size, self.shape, strict=True))
        stored = np.unique(depth[list(slab)])
        return voxels[np.ix_(stored, height, width)]


def _nearest(to: int, of: int) -> np.ndarray:
    """
    For each of `to` places that divide the length of `of` voxels evenly, the voxel that is nearest to its middle. In
    whole numbers, because a middle may lie exactly between two voxels.
    """
    return (2 * np.arange(to) + 1) * of // (2 * to)
