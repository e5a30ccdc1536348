"""
What compressed slices say of their own size. A decoder believes it: it takes memory for the size that the codestream
states, whatever the header of the file says, and some decoders end the process if there is not enough.
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


def sizes_of(content: BinaryIO, syntax: str) -> set[tuple[int, int, int]]:
    """
    The sizes that the codestreams of a file state, as rows, columns and values per pixel; none if its pixels are not
    compressed, or in a way that states no size.

    Raises:
        `ValueError`: if a codestream states no size before its pixels.
    """
    if syntax in (*JPEG2000TransferSyntaxes, *_HTJ2K):
        size_of = _size_of_jpeg_2000
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        size_of = _size_of_jpeg
    else:
        return set()
    dataset = dcmread(content, specific_tags=["NumberOfFrames", "PixelData", *_OFFSETS])
    content.seek(0)
    offsets = tuple(dataset[keyword].value for keyword in _OFFSETS) if _OFFSETS[0] in dataset else None
    frames = generate_frames(
        dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1), extended_offsets=offsets
    )
    return {size for frame in frames for size in size_of(frame)}


def _size_of_jpeg_2000(frame: bytes) -> set[tuple[int, int, int]]:
    sizes, place = set(), frame.find(_JPEG_2000)
    while place >= 0:
        # The length of the segment, then profile, size, origin, size and origin of tiles, and number of components.
        _, _, right, below, left, above, *_, values = struct.unpack_from(">HHIIIIIIIIH", frame, place + 4)
        sizes.add((below - above, right - left, values))
        place = frame.find(_JPEG_2000, place + 4)
    if not sizes:
        raise ValueError("no JPEG 2000")
    return sizes


def _size_of_jpeg(frame: bytes) -> set[tuple[int, int, int]]:
    """All sizes before the pixels: a second one would be as good for a decoder."""
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
            sizes.add(struct.unpack_from(">HHB", frame, place + 5))
        place += 2 + length
    if not sizes:
        raise ValueError("no size in a JPEG")
    return sizes
