"""Writes voxels as a NIfTI file. The same voxels always give the same bytes, and nothing else is in the file."""

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from ct_rate_pairs.whole_files import whole_file


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """
    Writes a `.nii.gz`. After a kill the file is whole, or it is the old one.

    Args:
        path (`Path`):
            File to write. Its folder must exist.
        voxels (`np.ndarray` of shape `[x, y, z]`):
            Voxels: HU, int16; or a mask, uint8.
        affine (`np.ndarray` of shape `[4, 4]`):
            Matrix from the place (x, y, z) of a voxel to RAS in mm.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    with (
        whole_file(path) as part,
        part.open("wb") as file,
        igzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream_out,
    ):
        holder = nib.FileHolder(fileobj=stream_out)
        image.to_file_map({"header": holder, "image": holder})
