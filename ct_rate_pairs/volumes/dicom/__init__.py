"""From DICOM files to the voxels of one series."""

from .headers import study_of
from .series import Stack, read_series


__all__ = ["Stack", "read_series", "study_of"]
