"""The public names of `ct_rate_pairs.volumes`, under the module name of earlier releases."""

from .volumes import (
    AIR,
    Volume,
    VolumeError,
    air_value,
    choose_planes,
    fit,
    read_slices,
    read_volume,
    to_uint8,
    windows_of,
)


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
