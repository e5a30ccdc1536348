"""
Simple measures of a scan, as a model sees it: how large it is, and what it is made of. By them, a scan is compared
with those of a training.
"""

from collections.abc import Sequence

import numpy as np

from .settings import VolumeSettings
from .windows import windows_of


# HU from which each kind of tissue begins. Shares of tissue vary less between scans than shares of the body, because
# they do not depend on how much lung is in the scan, and how full of air it is.
_TISSUES = {
    -150.0: "fat (-150 to -20 HU)",
    -20.0: "soft tissue (-20 to 100 HU)",
    100.0: "dense tissue (100 to 250 HU)",
    250.0: "bone (above 250 HU)",
}
_AIR = -400.0  # HU between air and tissue


def measure(
    pixels: np.ndarray,
    slice_mm: Sequence[float],
    settings: VolumeSettings,
    voxel_mm: tuple[float, float, float] | None = None,
    has_sizes: bool = True,
) -> dict[str, float]:
    """
    Measures the slices of a scan.

    Args:
        pixels (`np.ndarray`):
            The slices, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, superior first.
        slice_mm (`Sequence[float]`):
            Depth of each slice below the first one, in mm.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`]):
            How the scan became slices.
        voxel_mm (`tuple[float, float, float]`, *optional*):
            Size of the stored voxels as x, y, z, in mm; `None` if it is not known.
        has_sizes (`bool`, *optional*, defaults to `True`):
            Whether the size of the scan is known, which it is not of pictures.

    Returns:
        `dict[str, float]`: what is measured, in words, and its value. The body is all tissue and the air that it
        encloses. What the window of the slices does not show is left out.
    """
    channel, (low, high) = 0, windows_of(settings.window)[0]
    if pixels.ndim == 4:
        channel = 2 if settings.slices == "mip" else 0  # of a projection, the plane itself
        pixels = pixels[..., channel]
    hu = pixels.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
    is_air = hu < _AIR if low < _AIR else pixels == 0
    measures = {}
    if has_sizes:
        _, height, width = hu.shape
        across, down, _ = settings.spacing
        measures |= {
            "width of the slices (mm)": width * across,
            "height of the slices (mm)": height * down,
            "depth from the first slice to the last (mm)": slice_mm[-1] - slice_mm[0],
        }
    if has_sizes and voxel_mm is not None:
        measures |= {"width of a pixel (mm)": voxel_mm[0], "distance between planes (mm)": voxel_mm[2]}
    if low < _AIR:
        enclosed = int(_enclosed(is_air).sum())
        measures["share of lung and airways in the body"] = enclosed / max(enclosed + int((~is_air).sum()), 1)
    edges = [edge for edge in _TISSUES if low <= edge < high]
    counts, _ = np.histogram(hu[~is_air], [*edges, np.inf])
    for edge, count in zip(edges, counts.tolist(), strict=True):
        measures[f"share of the tissue that is {_TISSUES[edge]}"] = count / max(int(counts.sum()), 1)
    return {name: float(value) for name, value in measures.items()}


def _enclosed(is_air: np.ndarray) -> np.ndarray:
    """The air within the body: that of each slice which does not reach the edge of the slice, bool `[S, H, W]`."""
    from scipy import ndimage  # noqa: PLC0415  (takes long to import)

    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    areas, _ = ndimage.label(is_air, in_plane)
    edge = np.unique(np.concatenate([areas[:, [0, -1]].ravel(), areas[:, :, [0, -1]].ravel()]))
    return (areas > 0) & ~np.isin(areas, edge)
