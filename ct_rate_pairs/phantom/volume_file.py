"""Writes the voxels of a phantom scan as CT-RATE does."""

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from ct_rate_pairs.whole_files import whole_file


def write_volume(path: Path, volume: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """
    Write a `.nii.gz` whose array axes run toward the patient's left, back and head, as in CT-RATE.

    Args:
        path (`Path`):
            File to write.
        volume (`np.ndarray`):
            HU, int16 of shape `[x, y, z]`; or a mask, uint8.
        spacing (`tuple[float, float, float]`):
            Size of a voxel along x, y, z, in mm.
    """
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # NIfTI's own axes run right, front, head
    affine[:3, 3] = [spacing[0] * (volume.shape[0] - 1) / 2, spacing[1] * (volume.shape[1] - 1) / 2, 0]
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    with (
        whole_file(path) as part,
        part.open("wb") as file,
        igzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream_out,
    ):
        holder = nib.FileHolder(fileobj=stream_out)
        image.to_file_map({"header": holder, "image": holder})
