"""Grey windows (which HU become black and white), and the 8-bit values of slices."""

import numpy as np


AIR = -1.0  # air, as a value in [-1, 1] with the paper's window
AIR_HU = -1000.0  # air, in HU

Window = str | tuple[float, float] | tuple[tuple[float, float], ...]
# HU that become black and white in each window. Air is black in all windows.
WINDOWS = {
    "paper": ((-1000.0, 1000.0),),
    "rgb": ((-1000.0, 200.0), (-160.0, 240.0), (-200.0, 1000.0)),  # lung, soft tissue, bone
}


def windows_of(window: Window) -> tuple[tuple[float, float], ...]:
    """
    The one or three pairs (low, high) of HU that `window` stands for. Pairs may also be given one after the other, as
    two or six numbers.

    Raises:
        `ValueError`: if `window` has none of the forms that [`~ct_rate_pairs.volumes.slicing.Volume.slices`] accepts.
    """
    if isinstance(window, str):
        if window in WINDOWS:
            return WINDOWS[window]
    else:
        try:
            hu = np.asarray(window, dtype=float)
        except (TypeError, ValueError, OverflowError):
            hu = np.empty(0)
        pairs = hu.reshape(-1, 2) if hu.shape in ((2,), (6,)) else hu
        if pairs.shape in ((1, 2), (3, 2)) and np.isfinite(pairs).all() and (pairs[:, 0] < pairs[:, 1]).all():
            return tuple((float(low), float(high)) for low, high in pairs)
    raise ValueError(
        f"window={window!r}: choose one of {', '.join(map(repr, WINDOWS))}, a pair (low, high) of HU, or three pairs."
    )


def plain_window(window: Window) -> Window:
    """The name of a window, or its one or three pairs as tuples, so that equal windows are equal."""
    pairs = windows_of(window)
    return window if isinstance(window, str) else pairs if len(pairs) > 1 else pairs[0]


def air_value(window: Window) -> np.ndarray:
    """The value in [-1, 1] of air (-1000 HU) with `window`: a scalar, or one value per channel of shape `[3]`."""
    values = [2 * (np.clip(AIR_HU, low, high) - low) / (high - low) - 1 for low, high in windows_of(window)]
    return np.float32(values[0] if len(values) == 1 else values)


def to_uint8(slices: np.ndarray) -> np.ndarray:
    """Values in [-1, 1] as 8-bit values: processors take these, and bfloat16 inputs keep no more than 8 bits."""
    return np.rint((slices + 1) * 127.5).astype(np.uint8)


def windowed(hu: np.ndarray, window: Window) -> np.ndarray:
    """HU as values in [-1, 1] of the same shape, float32; with three windows, each is a channel along a last axis."""
    channels = [
        (hu.clip(low, high) - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
        for low, high in windows_of(window)
    ]
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
