"""
Which part of the slices a place in words covers, such as "the left lower lobe".

Slices do not show where lobes end, so this is an atlas: it knows where the fissures of lungs lie on the average, with
wide borders. The middle of the body and the front, the back and the ends of the lungs are found in the scan.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ct_rate_pairs.reports.places import Place
from ct_rate_pairs.volumes.native_slices import NativeSlices
from ct_rate_pairs.volumes.slice_places import SlicePlace


_AIR = -400.0  # HU between air and tissue
_TO_EDGE = np.array([0, 1])  # from the first and the last pixel to where they begin and end
_LEAST_LUNG = 0.01  # share of a slice; the windpipe alone has less
# The oblique fissure at the back and at the front of the lungs, as shares of their height from the top. Above it lie
# the upper lobe and, on the right and below the horizontal fissure, the middle lobe. These are rough numbers.
_BACK, _FRONT, _HORIZONTAL = 0.25, 0.95, 0.5
_LOBE_BORDER, _SIDE_BORDER = 0.3, 0.08  # width of a border, as a share of the height of the lungs, and of the body


@dataclass(frozen=True)
class ChestFrame:
    """
    Where a chest lies in its slices.

    Args:
        middle (`float`), width (`float`):
            Middle of the body and its width, as shares of the width of a slice, from the left of the image.
        front (`float`), back (`float`):
            Where the lungs begin and end, as shares of the height of a slice.
        depths (`np.ndarray` of shape `[S]`):
            Depth of each slice in the lungs: 0 at their top and 1 at their bottom. Slices above have less than 0, and
            slices below more than 1.
    """

    middle: float
    width: float
    front: float
    back: float
    depths: np.ndarray


def find_chest(native: NativeSlices, places: list[SlicePlace]) -> ChestFrame:
    """
    Finds the chest in the slices of a scan.

    Args:
        native ([`~ct_rate_pairs.volumes.native_slices.NativeSlices`]):
            The slices in HU.
        places (`list[SlicePlace]`):
            Where they lie.

    Returns:
        [`ChestFrame`]: the chest. Where no lungs are found, all slices and three quarters of the depth of the body are
        taken for their extent.
    """
    inside = np.array([bool(place.in_lungs) for place in places])
    inside = inside if inside.any() else np.ones(len(places), bool)
    first, last = np.flatnonzero(inside)[[0, -1]]
    depths = (np.arange(len(places)) - first + 0.5) / (last - first + 1)
    columns, rows, lung_rows = [], [], []
    for values in native.values[first : last + 1]:
        body, lungs = _body_and_lungs(values)
        if body.any():
            columns.append(np.flatnonzero(body.any(axis=0))[[0, -1]])
            rows.append(np.flatnonzero(body.any(axis=1))[[0, -1]])
            lung_rows.append(np.nonzero(lungs)[0])
    height, width = native.values.shape[1:]
    if not columns:
        return ChestFrame(0.5, 1.0, 0.0, 1.0, depths)
    left, right = (np.median(columns, axis=0) + _TO_EDGE) / width
    found = np.concatenate(lung_rows)
    if len(found):
        front, back = (np.quantile(found, (0.01, 0.99)) + _TO_EDGE) / height
    else:
        top, bottom = (np.median(rows, axis=0) + _TO_EDGE) / height
        front, back = top + (bottom - top) / 8, bottom - (bottom - top) / 8
    return ChestFrame((left + right) / 2, right - left, front, back, depths)


def _body_and_lungs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest piece of a slice `[Y, X]` that is not the air around it, and the air inside."""
    air, _ = ndimage.label(values < _AIR)
    edge = np.unique(np.concatenate([air[[0, -1]].ravel(), air[:, [0, -1]].ravel()]))
    outside = (air > 0) & np.isin(air, edge)
    pieces, number = ndimage.label(~outside)
    if not number:
        return np.zeros(values.shape, bool), np.zeros(values.shape, bool)
    body = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    sizes = np.bincount(air.ravel())
    lungs = (air > 0) & ~outside & body & (sizes[air] >= _LEAST_LUNG * values.size)
    return body, lungs


def weights_of(place: Place | None, chest: ChestFrame, size: tuple[int, int]) -> np.ndarray:
    """
    How much each pixel belongs to a place.

    Args:
        place ([`~ct_rate_pairs.reports.places.Place`], *optional*):
            The place, as [`~ct_rate_pairs.reports.places.places`] reads it. `None` stands for the whole slice.
        chest ([`ChestFrame`]):
            Where the chest lies.
        size (`tuple[int, int]`):
            Height and width of a slice in pixels.

    Returns:
        `np.ndarray`: float32 of shape `[S, H, W]`, in [0, 1].
    """
    height, width = size
    if place is None:
        return np.ones((len(chest.depths), height, width), np.float32)
    across = ((np.arange(width) + 0.5) / width - chest.middle) / chest.width  # below 0 on the patient's right
    back = ((np.arange(height) + 0.5) / height - chest.front) / (chest.back - chest.front)
    depth = chest.depths[:, None, None]
    left = _rising(across, _SIDE_BORDER)[None, None, :]
    sides = {"right": 1 - left, "left": left, "both": np.ones_like(left)}
    lower = _rising(depth - (_FRONT + (_BACK - _FRONT) * back[None, :, None]), _LOBE_BORDER)
    low = _rising(depth - _HORIZONTAL, _LOBE_BORDER)
    lobes = {
        "right upper": sides["right"] * (1 - lower) * (1 - low),
        "right middle": sides["right"] * (1 - lower) * low,
        "right lower": sides["right"] * lower,
        "left upper": sides["left"] * (1 - lower),
        "lingula": sides["left"] * (1 - lower) * low,
        "left lower": sides["left"] * lower,
    }
    parts = [lobes[lobe] for lobe in place.lobes] or [sides[place.side]]
    shape = (len(chest.depths), height, width)
    return np.max([np.broadcast_to(part, shape) for part in parts], axis=0).astype(np.float32)


def _rising(distance: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 over a border of some width around the distance 0."""
    return np.clip(0.5 + distance / width, 0, 1)
