"""
The bytes of a DICOM file as pydicom reads them: with what the file lacks before its first element, and inflated.
"""

import io
import zlib
from typing import BinaryIO

from pydicom import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from ..files import limited
from ..slicing import VolumeError


# Bytes that are read of the elements before the pixels: 4,000 frames of an Enhanced CT have 16 MB.
MOST_HEADER = 2**25
_MOST_FIRST = 2**16  # bytes of the first element of a file without preamble


def lacking_of(opened: BinaryIO) -> bytes | None:
    """
    What a file lacks before its first element: nothing, DICOM's preamble, or the preamble and a meta information that
    tells the transfer syntax. `None` if it does not begin as DICOM files do.
    """
    start = opened.read(132)
    opened.seek(0)
    preamble = bytes(128) + b"DICM"
    is_explicit = start[4:6].decode("latin-1") in list(VR)
    if start[128:] == b"DICM":
        return b""
    if start[:2] == b"\x02\0" and is_explicit:
        return preamble
    if start[:2] == b"\x08\0" and (is_explicit or int.from_bytes(start[4:8], "little") < _MOST_FIRST):
        syntax = ExplicitVRLittleEndian if is_explicit else ImplicitVRLittleEndian
    elif start[:2] == b"\0\x08" and is_explicit:
        syntax = ExplicitVRBigEndian
    else:
        return None
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return preamble + b"\x02\0\x10\0UI" + len(value).to_bytes(2, "little") + value


def read_meta(count: int, opened: BinaryIO, most: int | None = None) -> tuple[Dataset, BinaryIO, bool]:
    """
    The file's meta information, the file from its start, and whether that is the whole file: a deflated file is
    inflated to `most` bytes, by default to `MOST_HEADER`. What a file lacks before its first element is put there, and
    `most` bytes behind it.
    """
    most = most or MOST_HEADER
    if lacking := lacking_of(opened):
        opened = io.BytesIO(lacking + opened.read(most))
    header = before_pixels(count, opened)
    read_preamble(header, force=False)
    meta = read_dataset(header, False, True, stop_when=lambda tag, *_: tag.group != 2)
    end = header.tell()
    opened.seek(0)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return meta, opened, True
    # pydicom would inflate the whole file, whatever its size.
    start, inflater = opened.read(end), zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(opened.read(most), most)
    if not inflater.eof and len(inflated) < most:
        raise EOFError
    plain = ExplicitVRLittleEndian.ljust(len(DeflatedExplicitVRLittleEndian), "\0")  # as long as before
    start = start.replace(DeflatedExplicitVRLittleEndian.encode(), plain.encode())
    return meta, io.BytesIO(start + inflated), inflater.eof


def before_pixels(count: int, opened: BinaryIO) -> BinaryIO:
    """The file, of which no more can be read than the elements before the pixels have."""
    most = f"file {count} of the scan has more than {MOST_HEADER / 2**20:.0f} MB of elements before its pixels."
    return limited(opened, MOST_HEADER, VolumeError(f"{most} Export it again."))
