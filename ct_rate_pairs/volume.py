"""From a file to the slices that a model sees: the public names of `nifti.py` (reading) and `slicing.py` (maths)."""

from pathlib import Path

import numpy as np

from .nifti import read_volume
from .slicing import AIR, Volume, VolumeError, Window, air_value, choose_planes, fit, to_uint8, windows_of


__all__ = [
    "AIR",
    "Volume",
    "VolumeError",
    "air_value",
    "choose_planes",
    "fit",
    "read_slices",
    "read_volume",
    "to_uint8",
    "windows_of",
]


def read_slices(
    path: str | Path,
    num_slices: int = 10,
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
    window: Window = (-1000, 1000),
) -> np.ndarray:
    """
    Read the slices of one volume.

    Args:
        path (`str` or `Path`):
            A `.nii.gz` or `.nii` whose header yields HU.
        num_slices (`int`, *optional*, defaults to `10`):
            Number of axial planes, evenly spread over the whole depth.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size to resample to, in mm as x, y, z.
        window (`str` or `tuple`, *optional*, defaults to `(-1000, 1000)`):
            HU that become -1 and 1, see [`Volume.slices`].

    Returns:
        `np.ndarray`: float32 of shape `[num_slices, H, W]` in [-1, 1]: superior first, anterior up, the patient's
        right on the left; three windows add an axis of three channels.
    """
    return read_volume(path).slices(num_slices, spacing, window)[0]
