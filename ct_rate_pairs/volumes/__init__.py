"""
From the bytes of a scan to the slices that a model sees. Names are imported at first use, because most need torch.
"""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "nifti": ["read_slices", "read_volume"],
        "slice_places": ["SlicePlace"],
        "fitting": ["fit"],
        "planes": ["choose_planes"],
        "slicing": ["Volume", "VolumeError"],
        "windows": ["AIR", "air_value", "to_uint8", "windows_of"],
    },
)
