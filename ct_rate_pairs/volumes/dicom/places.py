"""
Where the slices of a series lie: their order along the normal, and the distance between them.

Some writers round the positions of slices, or cut their decimals off: to whole mm, say. The gaps between evenly spaced
slices then differ. [`rounded_step`] finds the spacing that such positions come from.
"""

import numpy as np

from ..slicing import VolumeError
from ..told import tell
from .headers import Header


SAME_PLACE = 0.01  # mm: slices that are closer lie at the same place
_UNEVEN = 0.2  # of the spacing: a missing slice makes a difference of 1
_MOST_SHEAR = 1.0  # degrees between the stack and the normal of its slices: 5 mm over a chest
_QUANTA = (1.0, 0.5, 0.1)  # mm that positions are rounded to
_FEW = 3  # as many short and long gaps show that positions are rounded; fewer long gaps may be missing slices
_EXACT = 1e-6  # mm: what decimals lose as floats
_DIFFERENT = 0.01  # share by which two statements of a spacing may differ


def normal_of(header: Header) -> np.ndarray:
    """Unit vector `[3]` from one plane to the next, in LPS."""
    return np.cross(*header["ImageOrientationPatient"].reshape(2, 3))


def along_normal(headers: list[Header], normal: np.ndarray) -> np.ndarray:
    """The place of each slice on the line along the normal, in mm, of shape `[N]`."""
    return np.array([header["ImagePositionPatient"] for header in headers]) @ normal


def order_slices(name: str, headers: list[Header]) -> tuple[list[np.ndarray], float]:
    """
    The indices of the headers at each place along the normal, and the distance between places, in mm.

    Raises:
        `VolumeError`: if there is only one place, if the stack is sheared (gantry tilt), or if the places are not
            evenly spaced.
    """
    normal = normal_of(headers[0])
    positions = np.array([header["ImagePositionPatient"] for header in headers])  # [N, 3]
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(along[order]) > SAME_PLACE) + 1)
    if len(headers) == 1:
        raise VolumeError(f"{name}: one slice is no volume. Give the whole series, or choose another with series=.")
    if len(places) == 1:
        raise VolumeError(
            f"{name}: ImagePositionPatient puts all {len(headers)} slices at one place. Export the original series."
        )
    _check_tilt(name, positions - positions[order[0]], normal)
    quantum = quantum_of(positions, normal)
    declared = [headers[0].get(keyword, 0.0) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    numbered = _in_order_of_numbers(headers, along, places)
    if numbered is not None and rounded_step(along[numbered], normal, quantum, declared) is not None:
        places = [np.array([i]) for i in numbered]
    along = along[[place[0] for place in places]]
    step = even_step(along)
    if step is None:
        step = rounded_step(along, normal, quantum, declared)
        if step is None:
            raise VolumeError(f"{name}: {_unevenness(along, quantum)}")
        tell(
            "%s: its positions are rounded or cut to %g mm, so the gaps between its slices are %g to %g mm. They are "
            "taken as evenly spaced by %.3f mm.",
            *(name, quantum, np.diff(along).min().round(3), np.diff(along).max().round(3), step),
        )
    stated = abs(headers[0].get("SpacingBetweenSlices", step))
    if abs(stated - step) > max(_DIFFERENT * step, quantum / len(places)):
        tell(
            "%s: SpacingBetweenSlices is %g mm, but by ImagePositionPatient its slices are %.3f mm apart, and that is "
            "taken. Check that no slice was left out of the export.",
            *(name, stated, step),
        )
    return places, step


def _check_tilt(name: str, offsets: np.ndarray, normal: np.ndarray) -> None:
    """Refuses slices whose places, `offsets` `[N, 3]` from the first one, do not lie along their normal."""
    along = offsets @ normal
    sideways = np.linalg.norm(offsets - np.outer(along, normal), axis=1).max()
    tilt = np.degrees(np.arctan2(sideways, along.max()))
    if tilt > _MOST_SHEAR:
        raise VolumeError(
            f"{name}: its slices are stacked at {tilt:.0f} degrees to their normal (gantry tilt), so they are no "
            "upright grid. Resample the series, or leave it out."
        )


def _in_order_of_numbers(headers: list[Header], along: np.ndarray, places: list[np.ndarray]) -> np.ndarray | None:
    """
    The slices by their InstanceNumber, from the lowest place up. `None` if that says no more than their places do, or
    something else. Where each place has as many slices, these are several volumes. Rounding puts together only some,
    or only those around 0, if decimals are cut.
    """
    alone = sum(len(place) == 1 for place in places)
    at_zero = [abs(along[place[0]]) < SAME_PLACE for place in places if len(place) > 1] == [True]
    numbers = np.array([header.get("InstanceNumber", 0.0) for header in headers])
    if (min(alone, len(places) - alone) < _FEW and not at_zero) or len(np.unique(numbers)) < len(headers):
        return None
    order = np.argsort(numbers)
    order = order if along[order[0]] <= along[order[-1]] else order[::-1]
    return order if np.diff(along[order]).min() >= -SAME_PLACE else None


def even_step(along: np.ndarray) -> float | None:
    """The distance between sorted places, `[N]`, or `None` if they are not evenly spaced."""
    gaps = np.diff(along)
    spacing, step = np.median(gaps), float(along[-1] - along[0]) / len(gaps)
    drift = along - along[0] - step * np.arange(len(along))  # where the spacing changes on the way
    even = (np.abs(gaps - spacing) <= _UNEVEN * spacing).all() and np.ptp(drift) <= step
    return step if even else None


def quantum_of(positions: np.ndarray, normal: np.ndarray) -> float:
    """The mm that all positions `[N, 3]` are multiples of, along the axis that their normal is closest to; or 0."""
    values = positions[:, np.argmax(np.abs(normal))]
    return next((q for q in _QUANTA if np.abs(values / q - np.rint(values / q)).max() < _EXACT), 0.0)


def rounded_step(along: np.ndarray, normal: np.ndarray, quantum: float, declared: list[float]) -> float | None:
    """
    The even distance between places that gives the sorted places `along` `[N]` once each is rounded to a multiple of
    `quantum`, or cut to one; `None` if there is none. A slice that is missing leaves a gap that no rounding explains.
    Where one explanation is as good as the other, one of the `declared` spacings must fit.
    """
    width = quantum * np.abs(normal).sum()  # each coordinate of a position is rounded
    towards_zero = np.where(along > 0, 0.0, -width), np.where(along < 0, 0.0, width)
    rounded = np.full(len(along), -width / 2), np.full(len(along), width / 2)
    for below, above in (rounded, towards_zero):
        low, high, lags = along + below, along + above, range(1, len(along))  # between which the true places lie
        least = max((low[lag:] - high[:-lag]).max() / lag for lag in lags)
        most = min((high[lag:] - low[:-lag]).min() / lag for lag in lags)
        if least > most + _EXACT:
            continue
        if fitting := [step for step in declared if least + _EXACT < step < most - _EXACT]:
            return fitting[0]
        gaps = np.diff(along)
        is_long = gaps > (gaps.min() + gaps.max()) / 2
        if min(is_long.sum(), (~is_long).sum()) >= _FEW:
            return float(least + most) / 2
    return None


def _unevenness(along: np.ndarray, quantum: float) -> str:
    """What is wrong with places that are not evenly spaced, and the remedy."""
    gaps = np.diff(along)
    spacing, slack = float(np.median(gaps)), 0.0
    near = gaps[gaps <= spacing + quantum + _EXACT]
    if quantum > _UNEVEN * spacing and (near > spacing + _EXACT).sum() + (near < spacing - _EXACT).sum() >= _FEW:
        spacing, slack = float(near.mean()), quantum
    uneven = np.flatnonzero(np.abs(gaps - spacing) > max(_UNEVEN * spacing, slack))
    missing = int(sum(max(round(gap / spacing) - 1, 0) for gap in gaps[uneven]))
    cause = f"{missing} missing slices" if missing else "slices out of place"
    listed = ", ".join(f"{along[i]:.1f} to {along[i + 1]:.1f} mm" for i in uneven[:3])
    rounding = f" Its positions are rounded to {quantum:g} mm, which hides the true spacing." if slack else ""
    if quantum and not slack and abs(gaps.max() - gaps.min() - quantum) < _EXACT:
        rounding = (
            f" If no slice is missing, positions were rounded to {quantum:g} mm; then give SpacingBetweenSlices, or "
            "export with decimals."
        )
    where = f"or positions that fit no spacing (about {spacing:.4g} mm)"
    if len(uneven):
        where = f"where {len(uneven)} gaps differ from the spacing of {spacing:.4g} mm ({listed})"
    return f"{cause}, {where}.{rounding} Export the whole series again, or leave it out."
