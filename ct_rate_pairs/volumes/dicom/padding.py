"""
Padding: what lies outside the field of view, and has a value that the scanner declares. It becomes air.

The declared value may be a value of the anatomy, too, by chance or by mistake. So padding is only what reaches from
the border of a slice inwards, along a row or a column, without a gap. That finds all that lies outside a field of view
without dents, such as a circle or a turned rectangle, and nothing inside the patient. What has a value of tissue, and
a shape that is no surrounding of a field of view, is refused.
"""

from collections import Counter

import numpy as np

from ..slicing import VolumeError
from ..windows import AIR_HU
from .headers import Header


_MOST_AIR = -950.0  # HU: below, a voxel is air or less, and may become air wherever it is
_TRACE = 0.001  # share of a slice, below which what reaches its border is noise, not padding
_DENTS = 0.01  # share of the padding that may lie between two voxels of the field of view: noise at its edge


def padding_to_air(name: str, pixels: np.ndarray, header: Header) -> Counter:
    """
    Turns the padding of a slice, `pixels` `[Y, X]` as they are stored, to air, in place.

    Returns:
        `Counter`: what is to be told of a declared padding that has values of tissue: the number of voxels that became
        `"air"`, those that were `"kept"`, and `"all"` voxels.

    Raises:
        `VolumeError`: if it cannot be told whether such values are padding or tissue.
    """
    told = Counter(all=pixels.size)
    if "PixelPaddingValue" not in header:
        return told
    slope, intercept = header["RescaleSlope"], header["RescaleIntercept"]
    low, high = declared_range(header, pixels.dtype)
    is_declared = (pixels >= low) & (pixels <= high)
    hu = sorted((low * slope + intercept, high * slope + intercept))
    if hu[0] <= _MOST_AIR < hu[1]:  # a range from below air up to tissue
        tissue = is_declared & (pixels * np.float32(slope) + np.float32(intercept) > _MOST_AIR)
        told["kept"] = int(tissue.sum())
        is_declared &= ~tissue
    outside = _from_border(is_declared)
    if hu[0] > _MOST_AIR:
        inside = is_declared & ~outside
        if outside.mean() < _TRACE:
            outside, inside = np.zeros_like(outside), is_declared
        dents = _between(~outside) & outside
        if dents.sum() > _DENTS * outside.sum():
            raise VolumeError(
                f"{name} declares padding ({describe(header)}) that is a value of tissue. It fills "
                f"{outside.mean():.0%} of a slice from its border on, but surrounds no field of view, and "
                f"{inside.mean():.0%} inside. "
                "So padding and tissue cannot be told apart. If the series has no padding, remove PixelPaddingValue "
                "(dcmodify -e PixelPaddingValue); else export the original series."
            )
        told["air"], told["kept"] = int(outside.sum()), int(inside.sum())
    kinds = np.iinfo(pixels.dtype)
    pixels[outside] = np.clip(np.rint((AIR_HU - intercept) / slope), kinds.min, kinds.max)
    return told


def declared_range(header: Header, dtype: np.dtype) -> tuple[int, int]:
    """
    The lowest and the highest stored value that is declared as padding. Some files write -2000 as the unsigned 63536,
    or with more bits than are stored. In the bits that are stored, both are the same value.
    """
    bits = min(int(header.get("BitsStored", 64)), 8 * dtype.itemsize)
    value = header["PixelPaddingValue"]
    ends = []
    for end in (value, header.get("PixelPaddingRangeLimit", value)):
        stored = int(end) % 2**bits
        ends.append(stored - 2**bits if dtype.kind == "i" and stored >= 2 ** (bits - 1) else stored)
    return min(ends), max(ends)


def describe(header: Header) -> str:
    """The declaration, as stored and in HU."""
    value = header["PixelPaddingValue"]
    words = [f"PixelPaddingValue {value:g}"]
    if "PixelPaddingRangeLimit" in header:
        words.append(f"PixelPaddingRangeLimit {header['PixelPaddingRangeLimit']:g}")
    low, high = declared_range(header, np.dtype(f"{'ui'[int(header['PixelRepresentation'])]}{_bytes(header)}"))
    hu = sorted({end * header["RescaleSlope"] + header["RescaleIntercept"] for end in (low, high)})
    return f"{', '.join(words)}: {' to '.join(f'{value:g}' for value in hu)} HU"


def _bytes(header: Header) -> int:
    return max(int(header["BitsAllocated"]) // 8, 1)


def _from_border(mask: np.ndarray) -> np.ndarray:
    """What of a mask `[Y, X]` reaches from the border inwards along a row or a column."""
    reached = np.zeros_like(mask)
    for axis in (0, 1):
        reached |= np.logical_and.accumulate(mask, axis=axis)
        reached |= np.flip(np.logical_and.accumulate(np.flip(mask, axis), axis=axis), axis)
    return reached


def _between(field: np.ndarray) -> np.ndarray:
    """What lies between two voxels of a field `[Y, X]`, in a row or in a column."""
    between = np.zeros_like(field)
    for axis in (0, 1):
        before = np.logical_or.accumulate(field, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(field, axis), axis=axis), axis)
        between |= before & after
    return between
