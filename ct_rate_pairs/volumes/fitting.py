"""Crops slices, or pads them with air, so that a volume and its negative have one size."""

import numpy as np

from .windows import AIR


def fit(slices: np.ndarray, height: int, width: int, air: float | np.ndarray | None = None) -> np.ndarray:
    """
    Crops slices around their centre, or pads them with air, to a given size.

    Args:
        slices (`np.ndarray`):
            Slices of shape `[S, h, w]` or `[S, h, w, 3]`.
        height (`int`):
            New height, in pixels.
        width (`int`):
            New width, in pixels.
        air (`float` or `np.ndarray`, *optional*):
            Value of the padding, or one value per channel. By default the darkest value: -1 for floats, 0 for uint8.

    Returns:
        `np.ndarray`: slices of shape `[S, height, width]` or `[S, height, width, 3]`.
    """
    return fit_volume(slices, (len(slices), height, width), air)


def fit_volume(values: np.ndarray, size: tuple[int, int, int], air: float | np.ndarray | None = None) -> np.ndarray:
    """As [`fit`], along the depth, too: `size` is the new size `(Z, Y, X)`."""
    if air is None:
        air = 0 if values.dtype == np.uint8 else AIR
    fitted = np.empty((*size, *values.shape[3:]), dtype=values.dtype)
    fitted[:] = air
    to, of = zip(*map(_centre, size, values.shape), strict=True)
    fitted[to] = values[of]
    return fitted


def _centre(to: int, of: int) -> tuple[slice, slice]:
    size = min(to, of)
    return slice((to - size) // 2, (to - size) // 2 + size), slice((of - size) // 2, (of - size) // 2 + size)
