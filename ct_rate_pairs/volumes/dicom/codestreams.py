"""
What compressed slices say of their own size and bits. A decoder believes it: it takes memory for the size that the
codestream states, whatever the header of the file says. Some decoders end the process if there is not enough, or if
the header has other bits.
"""

import struct
from typing import BinaryIO

from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes


_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_JPEG_2000 = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its size; nowhere else in a codestream
_JPEG, _SCAN = b"\xff\xd8", 0xDA
# What starts a frame of JPEG (in its 13 processes) or of JPEG-LS, with its size.
_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


Pixels = tuple[int, int, int, int]  # rows, columns, values per pixel, bits per value


def stated_pixels(content: BinaryIO, syntax: str) -> set[Pixels]:
    """
    What the codestreams of a file state; nothing if its pixels are not compressed, or in a way that states no size.

    Raises:
        `ValueError`: if a codestream states no size before its pixels.
    """
    if syntax in (*JPEG2000TransferSyntaxes, *_HTJ2K):
        stated_by = _stated_by_jpeg_2000
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        stated_by = _stated_by_jpeg
    else:
        return set()
    dataset = dcmread(content, specific_tags=["NumberOfFrames", "PixelData", *_OFFSETS])
    content.seek(0)
    offsets = tuple(dataset[keyword].value for keyword in _OFFSETS) if _OFFSETS[0] in dataset else None
    frames = generate_frames(
        dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1), extended_offsets=offsets
    )
    return {size for frame in frames for size in stated_by(frame)}


def _stated_by_jpeg_2000(frame: bytes) -> set[Pixels]:
    sizes, place = set(), frame.find(_JPEG_2000)
    while place >= 0:
        # The length of the segment, then profile, size, origin, size and origin of tiles, number of components,
        # and the bits of the first one.
        _, _, right, below, left, above, *_, values, bits = struct.unpack_from(">HHIIIIIIIIHB", frame, place + 4)
        sizes.add((below - above, right - left, values, bits % 128 + 1))
        place = frame.find(_JPEG_2000, place + 4)
    if not sizes:
        raise ValueError("no JPEG 2000")
    return sizes


def _stated_by_jpeg(frame: bytes) -> set[Pixels]:
    """All sizes before the pixels: a decoder may take any of them."""
    if not frame.startswith(_JPEG):
        raise ValueError("no JPEG")
    sizes, place, marker = set(), 2, 0
    while marker != _SCAN:
        start, marker, length = struct.unpack_from(">BBH", frame, place)
        if start != 0xFF or (length < 2 and marker != 0xFF):
            raise ValueError("no segment of a JPEG")
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in _FRAME:
            bits, *size = struct.unpack_from(">BHHB", frame, place + 4)
            sizes.add((*size, bits))
        place += 2 + length
    if not sizes:
        raise ValueError("no size in a JPEG")
    return sizes
