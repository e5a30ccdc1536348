"""From the bytes of a scan to the slices that a model sees."""

from .nifti import read_slices, read_volume
from .slicing import AIR, Volume, VolumeError, air_value, choose_planes, fit, to_uint8, windows_of


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
