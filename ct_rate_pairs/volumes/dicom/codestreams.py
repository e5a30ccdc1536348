"""
What compressed slices say of their own size and bits, and whether they lost something. A decoder believes it: it takes
memory for the size that the codestream states, whatever the header of the file says. Some decoders end the process if
there is not enough, or if the header has other bits.
"""

import io
import struct
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets, parse_fragments
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes


OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_JPEG_2000 = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its size; nowhere else in a codestream
_CODING, _CODING_OF_COMPONENT, _DATA = 0xFF52, 0xFF53, 0xFF93
_REVERSIBLE = 1  # the 5-3 wavelet, which keeps all values; 0 is the 9-7 wavelet
_JPEG, _SCAN = b"\xff\xd8", 0xDA
_JPEG_LS = 0xF7
# What starts a frame of JPEG (in its 13 processes) or of JPEG-LS, with its size; and those that keep all values.
_FRAME = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF, _JPEG_LS}
_HTJ2K = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")


Pixels = tuple[int, int, int, int]  # rows, columns, values per pixel, bits per value


@dataclass
class Stated:
    """What the codestreams of a file state."""

    sizes: set[Pixels] = field(default_factory=set)
    number: int = 0  # of images
    is_lossy: bool = False


def stated_pixels(dataset: Dataset, syntax: str) -> Stated:
    """
    What the codestreams of a file state. RLE states no size: each of its fragments is an image.

    Raises:
        `ValueError`: if a codestream states no size before its pixels, or if the frames are not in their order.
    """
    pixels = io.BytesIO(dataset.PixelData)
    parse_basic_offsets(pixels)
    places = parse_fragments(pixels)[1]
    offsets = None
    if OFFSETS[0] in dataset:
        offsets = tuple(dataset[keyword].value for keyword in OFFSETS)
        if [place for (place,) in struct.iter_unpack("<Q", offsets[0])] != [place - places[0] for place in places]:
            raise ValueError("an ExtendedOffsetTable that is not that of the fragments")
    if syntax in (*JPEG2000TransferSyntaxes, *_HTJ2K):
        read = _read_jpeg_2000
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        read = _read_jpeg
    else:
        return Stated(number=len(places))
    stated = Stated()
    number = int(dataset.get("NumberOfFrames") or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=number, extended_offsets=offsets):
        read(frame, stated)
    return stated


def _read_jpeg_2000(frame: bytes, stated: Stated) -> None:
    start = frame.find(_JPEG_2000)
    if start < 0:
        raise ValueError("no JPEG 2000")
    while start >= 0:
        # The length of the segment, then profile, size, origin, size and origin of tiles, number of components,
        # and the bits of the first one.
        _, _, right, below, left, above, *_, values, bits = struct.unpack_from(">HHIIIIIIIIHB", frame, start + 4)
        stated.sizes.add((below - above, right - left, values, bits % 128 + 1))
        stated.number += 1
        place, marker = start + 2, 0
        while marker != _DATA:
            marker, length = struct.unpack_from(">HH", frame, place)
            if length < 2 and marker != _DATA:
                raise ValueError("no segment of a JPEG 2000")
            if marker == _CODING:  # its own style, progression, layers; levels, width, height, style, wavelet
                stated.is_lossy |= frame[place + 13] != _REVERSIBLE
            elif marker == _CODING_OF_COMPONENT:  # component and its style; levels, width, height, style, wavelet
                stated.is_lossy |= frame[place + (10 if values < 257 else 11)] != _REVERSIBLE
            place += 2 + length
        start = frame.find(_JPEG_2000, start + 4)


def _read_jpeg(frame: bytes, stated: Stated) -> None:
    """All sizes before the pixels: a decoder may take any of them."""
    if not frame.startswith(_JPEG):
        raise ValueError("no JPEG")
    processes, place, marker = set(), 2, 0
    while marker != _SCAN:
        start, marker, length = struct.unpack_from(">BBH", frame, place)
        if start != 0xFF or (length < 2 and marker != 0xFF):
            raise ValueError("no segment of a JPEG")
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in _FRAME:
            bits, *size = struct.unpack_from(">BHHB", frame, place + 4)
            stated.sizes.add((*size, bits))
            processes.add(marker)
        place += 2 + length
    if not processes:
        raise ValueError("no size in a JPEG")
    # The last bytes of the start of a scan: what JPEG-LS may be off by (in JPEG the predictor), another byte, and in
    # the low half of the last one, how many bits were dropped.
    near, _, dropped = frame[place - 3 : place]
    stated.is_lossy |= not processes <= _LOSSLESS or dropped % 16 > 0 or (_JPEG_LS in processes and near > 0)
    stated.number += 1 + frame.count(_JPEG, place)  # nowhere else in coded pixels
