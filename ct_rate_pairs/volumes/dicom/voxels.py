"""Reads and decodes the pixels of a series, slice by slice. A file has the pixels of its header and no others."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.pixels import iter_pixels
from pydicom.uid import UID

from ..files import MOST_SIDE
from ..slicing import MOST_VOXELS, VolumeError
from ..told import tell
from .codestreams import OFFSETS, Pixels, Stated, stated_pixels
from .headers import AT_PIXELS, REQUIRED, SCALE, Header, read_content, unquoted
from .padding import describe, padding_to_air


_UNDEFINED = 0xFFFFFFFF  # the length of pixels in codestreams
_MOST_HU = 32_767.0  # more than metal has, and what negative values become that are read without their sign
# What says how the pixels of a file are stored.
_STORED = tuple(tag_for_keyword(keyword) for keyword in (*REQUIRED, "NumberOfFrames", "PhotometricInterpretation"))


def read_voxels(name: str, headers: list[Header], places: list[np.ndarray]) -> tuple[np.ndarray, float, float]:
    """The voxels `[K, Y, X]`, their slope and their intercept. Only one more file is in memory at a time."""
    shape = (len(places), int(headers[0]["Rows"]), int(headers[0]["Columns"]))
    if np.prod(shape, dtype=float) > MOST_VOXELS or max(shape) > MOST_SIDE:
        raise VolumeError(f"{name}: the headers promise {shape} voxels, more than any CT has. Export it again.")
    scales = {tuple(h[keyword] for keyword in SCALE) for h in headers}
    slope, intercept = next(iter(scales))[:2] if len(scales) == 1 else (1.0, 0.0)
    stored, read, copies, lossy, told = None, set(), 0, 0, Counter()
    for k, header, pixels, is_lossy in _decode(name, headers, places):
        if pixels.shape != shape[1:]:
            raise VolumeError(f"{name}: slice {k + 1} is no single plane of {shape[1:]}. Export it again.")
        with unquoted(f"{name}: slice {k + 1} has pixels that are no integers"):
            told += padding_to_air(name, pixels, header)
        lossy += is_lossy or _says_lossy(header)
        hu = pixels * np.float32(header["RescaleSlope"]) + np.float32(header["RescaleIntercept"])
        told["high"] += int((hu > _MOST_HU).sum())
        if len(scales) > 1:
            pixels = hu  # noqa: PLW2901
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
    if lossy:
        tell("%s: %d of its %d slices were compressed with loss.", name, lossy, len(headers))
    if told["high"]:
        tell(
            "%s: %.3g %% of its voxels are above %g HU, as in no CT. PixelRepresentation %d may be wrong (1: signed).",
            *(name, 100 * told["high"] / told["all"], _MOST_HU, headers[0]["PixelRepresentation"]),
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


def _says_lossy(header: Header) -> bool:
    """Whether a header says that its pixels lost something, whatever they are compressed by now."""
    flag = header["LossyImageCompression"]
    ratios = re.findall(r"\d+(?:\.\d*)?", header["LossyImageCompressionRatio"])
    return (
        flag.upper() not in ("", "0", "00", "NO", "N")
        or any(float(ratio) > 1 for ratio in ratios)
        or (not flag and header["LossyImageCompressionMethod"] != "")
        or "LOSSY" in header["ImageType"].upper()
    )


def _decode(
    name: str, headers: list[Header], places: list[np.ndarray]
) -> Iterator[tuple[int, Header, np.ndarray, bool]]:
    """
    The number of its slice, each header, its pixels `[Y, X]`, as they are stored, and whether their codestream lost
    something. Each file is read once.
    """
    of_files = defaultdict(dict)  # number of the file -> number of the frame -> number of the slice, header
    for k, place in enumerate(places):
        for i in place:
            of_files[headers[i]["count"]][headers[i]["frame"]] = k, headers[i]
    for frames in of_files.values():
        k, header = frames[min(frames)]
        with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
            dataset = _read_stored(f"{name}: the file of slice {k + 1}", header)
            stated = Stated()
            if UID(header["syntax"]).is_encapsulated:
                stated = stated_pixels(dataset, header["syntax"])
                _check_stated(f"{name}: the compressed pixels of slice {k + 1}", stated, header)
        with closing(iter_pixels(dataset, photometric_interpretation="MONOCHROME2")) as images:  # in any spelling
            for frame in range(max(frames) + 1):
                k, header = frames.get(frame, (k, header))
                with unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                    pixels = next(images)
                if frame in frames:
                    yield k, header, pixels, stated.is_lossy


def _read_stored(name: str, header: Header) -> Dataset:
    """
    The elements of a file that have its pixels and say how they are stored. More or fewer pixels than its header
    describes are refused: it cannot be told which of them are its own.
    """
    tags = []
    dataset = read_partial(
        read_content(header),
        lambda tag, *_: tags.append(tag) or not AT_PIXELS.isdisjoint(tags[-2:-1]),  # one tag behind the pixels
        specific_tags=[*AT_PIXELS, *_STORED, *map(tag_for_keyword, OFFSETS)],
    )
    dataset.file_meta.TransferSyntaxUID = header["syntax"]
    if tags[-2] in AT_PIXELS and tags[-1] in (*AT_PIXELS, *_STORED):
        raise VolumeError(f"{name} has pixels twice, or more of its header behind them. Export the series again.")
    stored = dataset.get_item(next(tag for tag in AT_PIXELS if tag in dataset))
    if UID(header["syntax"]).is_encapsulated:
        return dataset
    if stored.length == _UNDEFINED:
        raise VolumeError(
            f"{name} has compressed pixels, but no TransferSyntaxUID that says how they are compressed. Export the "
            "series again."
        )
    described = int(header["frames"] * header["Rows"] * header["Columns"] * header["BitsAllocated"]) // 8
    if len(stored.value) not in (described, described + described % 2):  # a last byte may make it even
        raise VolumeError(
            f"{name} has {len(stored.value)} bytes of pixels, but its header describes {described}: "
            f"{header['frames']} x {header['Rows']:g} x {header['Columns']:g} values of {header['BitsAllocated']:g} "
            "bits. Export the series again."
        )
    return dataset


def _check_stated(name: str, stated: Stated, header: Header) -> None:
    if stated.number != header["frames"]:
        raise VolumeError(
            f"{name} are {stated.number} images, but its header describes {header['frames']}. Export the series again."
        )
    if others := [pixels for pixels in sorted(stated.sizes) if not _is_of_header(pixels, header)]:
        rows, columns, values, bits = others[0]
        raise VolumeError(
            f"{name} state {rows} x {columns} x {values} values of {bits} "
            f"bits, but its header {header['Rows']:g} x {header['Columns']:g} x 1 of {header['BitsAllocated']:g} "
            "bits, which can be 8 or 16. Export the series again."
        )


def _is_of_header(pixels: Pixels, header: Header) -> bool:
    """Whether a codestream states the pixels of its header, of a size that every decoder here knows."""
    *size, bits = pixels
    allocated = header["BitsAllocated"]
    return size == [header["Rows"], header["Columns"], 1] and allocated in (8, 16) and 2 <= bits <= allocated
