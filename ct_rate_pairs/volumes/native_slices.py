"""
The slices of a scan as a reader looks at them: stored planes at their own resolution, in the windows of a chest CT.

A model gets slices that are resampled, in a window of its own. On these, a reader can hardly see a small nodule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .pictures import Pictures
from .slicing import Volume
from .windows import to_uint8, windowed


# HU that become black and white: level -600 and width 1500, and level 40 and width 400.
READING_WINDOWS = {"lung": (-1350.0, 150.0), "mediastinum": (-160.0, 240.0)}
GREY = "grey"  # the only "window" of pictures, which have none


@dataclass(frozen=True)
class NativeSlices:
    """
    Stored planes of a scan, superior and anterior first, the patient's right first.

    Args:
        values (`np.ndarray`):
            HU of shape `[S, Y, X]`, int16; for pictures their grey values, uint8.
        pixel_mm (`tuple[float, float]`, *optional*):
            Width and height of a pixel in mm; `None` for pictures, of which neither size nor sides are known.
    """

    values: np.ndarray
    pixel_mm: tuple[float, float] | None

    @property
    def windows(self) -> tuple[str, ...]:
        """The names of the windows that the slices can be shown in, the first one by default."""
        return (GREY,) if self.pixel_mm is None else tuple(READING_WINDOWS)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels at which a slice has the shape of the body. No pixel is lost."""
        _, height, width = self.values.shape
        across, down = self.pixel_mm or (1.0, 1.0)
        finest = min(across, down)
        return round(width * across / finest), round(height * down / finest)

    def images(self, window: str) -> list[Image.Image]:
        """
        The slices in a window, as 8-bit grey images of [`size`].

        Args:
            window (`str`):
                One of [`windows`].
        """
        images = []
        for values in self.values:
            grey = values if window == GREY else to_uint8(windowed(values, READING_WINDOWS[window]))
            image = Image.fromarray(grey)
            images.append(image if image.size == self.size else image.resize(self.size, Image.Resampling.BICUBIC))
        return images

    def box(self, number: int, shares: tuple[float, float, float, float]) -> dict:
        """
        A part of a slice in the pixels of its stored plane, ready for `json.dump`.

        Args:
            number (`int`):
                Number of the slice, counted from 1.
            shares (`tuple[float, float, float, float]`):
                Left, upper, right and lower edge, in shares of the width and the height.

        Returns:
            `dict`: `slice`, the number; `box`, the edges in pixels of the stored plane, counted from its upper left
            corner as it is displayed; and `size_mm`, width and height in mm, `None` for pictures.
        """
        _, height, width = self.values.shape
        left, upper, right, lower = box = [
            round(share * side, 2) for share, side in zip(shares, (width, height) * 2, strict=True)
        ]
        mm = self.pixel_mm and [
            round((right - left) * self.pixel_mm[0], 1), round((lower - upper) * self.pixel_mm[1], 1)
        ]  # fmt: skip
        return {"slice": number, "box": box, "size_mm": mm}


def native_slices(scan: Volume | Pictures, planes: Sequence[int]) -> NativeSlices:
    """
    Stored planes of a scan, at their own resolution.

    Args:
        scan ([`~ct_rate_pairs.volumes.Volume`] or [`~ct_rate_pairs.volumes.pictures.Pictures`]):
            The scan.
        planes (`Sequence[int]`):
            The planes, counted from 1 at the top, as `index` of
            [`~ct_rate_pairs.volumes.slice_places.SlicePlace`] counts them.

    Returns:
        [`NativeSlices`]: the planes in the order of `planes`.

    Raises:
        `VolumeError`: for pictures that cannot be read.
    """
    if isinstance(scan, Pictures):
        return NativeSlices(scan.grey([plane - 1 for plane in planes]), None)
    stored = scan.stored[[plane - 1 for plane in planes]].astype(np.float32)
    hu = np.rint(stored * np.float32(scan.slope) + np.float32(scan.intercept))
    limits = np.iinfo(np.int16)
    return NativeSlices(hu.clip(limits.min, limits.max).astype(np.int16), scan.spacing[:2])
