"""Volumes that show by their voxels how they were turned."""

from pathlib import Path

import nibabel as nib
import numpy as np


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def marked_volume() -> np.ndarray:
    """L, P, S array (x to the left, y to the back, z up) with a mark at the patient's right, front and top."""
    array = np.full((20, 16, 12), -900, dtype=np.int16)
    array[:10, :8, 6:] = 300  # x low: right; y low: anterior; z high: superior
    return array
