"""Finds how far the lungs reach from top to bottom, from HU alone."""

import numpy as np
from scipy import ndimage


GRID_MM = 3.0  # voxels that are looked at are about as large: the chest wall is thicker
_AIR = -400.0  # HU between lung and tissue
_GAS = -970.0  # HU between gas and lung, emphysema included
_LEAST_LITRES = 0.5  # a smaller piece is a part of a lung, as in a volume that is cropped within the chest
_LEAST_AREA = 0.03  # share of the widest plane: the windpipe above the lungs has about 0.01
_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)


def find_lungs(hu: np.ndarray, spacing: tuple[float, float, float]) -> tuple[int, int] | None:
    """
    Finds the planes that show the lungs.

    Air that reaches the edge of a plane is outside of the body. Of the air inside, the largest connected piece is the
    lungs with the windpipe; gas in stomach and bowel is in other pieces. Planes that show little of the piece show the
    windpipe alone. Parts of a lung without air, such as a consolidated base, are not found.

    Args:
        hu (`np.ndarray`):
            HU of shape `[Z, Y, X]`, superior first. Voxels of about `GRID_MM` are enough.
        spacing (`tuple[float, float, float]`):
            Voxel size in mm as x, y, z.

    Returns:
        `tuple[int, int]` or `None`: the first plane of the lungs, and the plane after the last one; `None` if the
        largest piece of air inside the body is too small for lungs, or holds gas alone.
    """
    areas, _ = ndimage.label(hu < _AIR, _IN_PLANE)
    edge = np.unique(np.concatenate([areas[:, [0, -1]].ravel(), areas[:, :, [0, -1]].ravel()]))
    pieces, _ = ndimage.label((areas > 0) & ~np.isin(areas, edge))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # all that is no air
    largest = pieces == sizes.argmax()
    if sizes.max() * np.prod(spacing) / 1e6 < _LEAST_LITRES or np.median(hu[largest]) < _GAS:
        return None
    in_plane = largest.sum(axis=(1, 2))
    planes = np.flatnonzero(in_plane >= _LEAST_AREA * in_plane.max())
    return int(planes[0]), int(planes[-1]) + 1
