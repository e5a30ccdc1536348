"""Reads and decodes the pixels of a series, slice by slice."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from pydicom.pixels import iter_pixels

from ..files import MOST_SIDE
from ..slicing import MOST_VOXELS, VolumeError
from ..told import tell
from .codestreams import Pixels, stated_pixels
from .headers import SCALE, Header, read_content, unquoted
from .padding import describe, padding_to_air


def read_voxels(name: str, headers: list[Header], places: list[np.ndarray]) -> tuple[np.ndarray, float, float]:
    """The voxels `[K, Y, X]`, their slope and their intercept. Only one more file is in memory at a time."""
    shape = (len(places), int(headers[0]["Rows"]), int(headers[0]["Columns"]))
    if np.prod(shape, dtype=float) > MOST_VOXELS or max(shape) > MOST_SIDE:
        raise VolumeError(f"{name}: the headers promise {shape} voxels, more than any CT has. Export it again.")
    scales = {tuple(h[keyword] for keyword in SCALE) for h in headers}
    slope, intercept = next(iter(scales))[:2] if len(scales) == 1 else (1.0, 0.0)
    stored, read, copies, told = None, set(), 0, Counter()
    for k, header, pixels in _decode(name, headers, places):
        if pixels.shape != shape[1:]:
            raise VolumeError(f"{name}: slice {k + 1} is no single plane of {shape[1:]}. Export it again.")
        with unquoted(f"{name}: slice {k + 1} has pixels that are no integers"):
            told += padding_to_air(name, pixels, header)
        if len(scales) > 1:
            pixels = pixels * np.float32(header["RescaleSlope"]) + np.float32(header["RescaleIntercept"])  # noqa: PLW2901
        if stored is None:
            stored = np.empty(shape, pixels.dtype.newbyteorder("="))
        if k not in read:
            stored[k] = pixels
            read.add(k)
        elif np.array_equal(stored[k], pixels):
            copies += 1
        else:
            raise VolumeError(
                f"{name}: slice {k + 1} (of {len(places)}) is there {len(places[k])} times, with different pixels. "
                "Give only the files of one volume: one phase, one reconstruction. (Or positions were cut to whole "
                "mm, and two slices fell together: then export them with decimals.)"
            )
    if copies:
        tell("%s: %d files repeat a slice, pixel by pixel, and were dropped.", name, copies)
    if told["kept"] or told["air"]:
        tell(
            "%s declares padding (%s) that is a value of tissue: %.1f %% of its voxels, from the border of the slices "
            "on, became air; %.1f %% have such a value elsewhere, and were kept.",
            *(name, describe(headers[0]), 100 * told["air"] / told["all"], 100 * told["kept"] / told["all"]),
        )
    return stored, slope, intercept


def _decode(name: str, headers: list[Header], places: list[np.ndarray]) -> Iterator[tuple[int, Header, np.ndarray]]:
    """The pixels `[Y, X]` of each header, as they are stored, and the number of its slice. Each file is read once."""
    of_files = defaultdict(dict)  # number of the file -> number of the frame -> number of the slice, header
    for k, place in enumerate(places):
        for i in place:
            of_files[headers[i]["count"]][headers[i]["frame"]] = k, headers[i]
    for frames in of_files.values():
        k, header = frames[min(frames)]
        with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
            content = read_content(header)
            stated = stated_pixels(content, header["syntax"])
        if others := [pixels for pixels in sorted(stated) if not _is_of_header(pixels, header)]:
            rows, columns, values, bits = others[0]
            raise VolumeError(
                f"{name}: the compressed pixels of slice {k + 1} state {rows} x {columns} x {values} values of {bits} "
                f"bits, but its header {header['Rows']:g} x {header['Columns']:g} x 1 of {header['BitsAllocated']:g} "
                "bits, which can be 8 or 16. Export the series again."
            )
        with closing(iter_pixels(content, photometric_interpretation="MONOCHROME2")) as images:  # in any spelling
            for frame in range(max(frames) + 1):
                k, header = frames.get(frame, (k, header))
                with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                    pixels = next(images)
                if frame in frames:
                    yield k, header, pixels
            with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                if "Multiframe" not in header and next(images, None) is not None:
                    raise VolumeError(f"{name}: slice {k + 1} holds more frames than NumberOfFrames says.")


def _is_of_header(pixels: Pixels, header: Header) -> bool:
    """Whether a codestream states the pixels of its header, of a size that every decoder here knows."""
    *size, bits = pixels
    allocated = header["BitsAllocated"]
    return size == [header["Rows"], header["Columns"], 1] and allocated in (8, 16) and 2 <= bits <= allocated
