"""
Reads a volume of RAD-ChestCT: an `.npz` file with one array, `ct`, of int16 in HU.

The file has no header. Its geometry is that of the published set: voxels of 0.8 mm, the first axis from superior to
inferior, the second from anterior to posterior, the third from the patient's right to the left, and HU clipped to
[-1000, 1000]. Source: Draelos et al., "Machine-Learning-Based Multiple Abnormality Prediction with Large-Scale Chest
Computed Tomography Volumes", Medical Image Analysis 2021, appendix A.2, and its code,
https://github.com/rachellea/ct-volume-preprocessing.
"""

import zipfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from .files import read_voxels
from .geometry import Grid, display
from .slicing import Volume, VolumeError
from .told import tell


SPACING = (0.8, 0.8, 0.8)  # mm as x, y, z
_MEMBER = "ct.npy"
_MOST_HEADER = 4096  # bytes
_OTHER = (
    "an .npz file is read as RAD-ChestCT has it: one array, `ct`, of int16 with three axes. Write any other format as "
    ".nii.gz."
)


def read_rad_chestct(archive: zipfile.ZipFile, name: str, voxels: Callable[..., np.ndarray] = read_voxels) -> Volume:
    """
    Read a volume of RAD-ChestCT. The voxel size is assumed, which a warning says.

    Args:
        archive (`zipfile.ZipFile`):
            The opened `.npz` file.
        name (`str`):
            Name of the volume in messages.
        voxels (`Callable`, *optional*):
            Reads the voxels: [`~ct_rate_pairs.volumes.files.read_voxels`], or `promised_voxels` beside it.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume.

    Raises:
        `VolumeError`: if the file holds anything else, or is cut or damaged.
    """
    if archive.namelist() != [_MEMBER]:
        raise VolumeError(f"{name}: {_OTHER}")
    with archive.open(_MEMBER) as file:
        shape, dtype = _layout(name, file)
        stored = voxels(name, file, shape[::-1], dtype)  # [x, y, z], the first axis fastest
    tell("%s: it has no header, so its voxels are taken to be 0.8 mm wide, as RAD-ChestCT's are.", name)
    # In LPS, x runs to the left, y to posterior, and z here to inferior.
    grid = Grid.of_lps("RAD-ChestCT's form", np.diag([1.0, 1.0, -1.0]), SPACING)
    stored, spacing, affine = display(name, stored, grid)
    return Volume(name, stored, spacing, slope=1.0, intercept=0.0, affine=affine, axes=grid.axes)


def _layout(name: str, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and data type of the array. The file is then at the voxels."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(np.lib.format.read_magic(file))
    shape, fortran, dtype = read_header(file, max_header_size=_MOST_HEADER) if read_header else ((), True, None)
    if len(shape) != 3 or fortran or dtype != np.int16 or min(shape) < 1:
        raise VolumeError(f"{name}: {_OTHER}")
    return shape, dtype
