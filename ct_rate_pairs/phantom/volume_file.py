"""Writes the voxels of a phantom scan as CT-RATE does."""

from pathlib import Path

import numpy as np

from ct_rate_pairs.volumes.nifti_writer import write_nifti


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
    write_nifti(path, volume, affine)
