"""Grey windows: which HU become black and white, and the 8-bit values of a slice."""

import numpy as np


AIR = -1.0  # value of air in the normalised space of the paper's window
AIR_HU = -1000.0

Window = str | tuple[float, float] | tuple[tuple[float, float], ...]
# HU that become black and white. Air is black in all of them.
WINDOWS = {
    "paper": ((-1000.0, 1000.0),),
    "rgb": ((-1000.0, 200.0), (-160.0, 240.0), (-200.0, 1000.0)),  # lung, soft tissue, bone
}


def windows_of(window: Window) -> tuple[tuple[float, float], ...]:
    """
    The one or three (low, high) pairs that `window` stands for.

    Raises:
        `ValueError`: when it is none of the forms that [`~ct_rate_pairs.volumes.slicing.Volume.slices`] takes.
    """
    if isinstance(window, str) and window in WINDOWS:
        return WINDOWS[window]
    if not isinstance(window, str):
        pairs = np.atleast_2d(np.asarray(window, dtype=float))
        if pairs.shape in ((1, 2), (3, 2)) and (pairs[:, 0] < pairs[:, 1]).all():
            return tuple((float(low), float(high)) for low, high in pairs)
    raise ValueError(
        f"window={window!r}: choose one of {', '.join(map(repr, WINDOWS))}, a pair (low, high) of HU, or three pairs."
    )


def air_value(window: Window) -> np.ndarray:
    """What air (-1000 HU) is in the normalised space of each channel of `window`: a scalar, or of shape `[3]`."""
    values = [2 * (np.clip(AIR_HU, low, high) - low) / (high - low) - 1 for low, high in windows_of(window)]
    return np.float32(values[0] if len(values) == 1 else values)


def to_uint8(slices: np.ndarray) -> np.ndarray:
    """8-bit values of [-1, 1]: processors take them, and bf16 inputs keep no more than 8 bits."""
    return np.rint((slices + 1) * 127.5).astype(np.uint8)
