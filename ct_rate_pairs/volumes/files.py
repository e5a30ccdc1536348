"""
Opens the files of scans, reads no more of them than a scan can hold, and turns whatever they cause into a
`VolumeError`.

A file may be damaged or hostile. What its header promises is therefore no limit: each limit here counts bytes that
were read.
"""

import gzip
import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .slicing import VolumeError
from .told import tell


PIECE = 2**19  # bytes that are inflated at a time: they are in memory twice, and fit into the processor's cache
MOST_BYTES = 2**32  # 1,024 x 1,024 x 2,048 voxels of 16 bits: a damaged header must not ask for all memory
MOST_SIDE = 4096  # voxels along an axis: scanners reconstruct 512 to 2,048, and slices are computed in float32
NO_MEMORY = "there is not enough memory to read it. Leave it out, or read it on a larger machine."
_MOST_FILE = 2 * MOST_BYTES  # bytes on disk
# The first bytes of packed files that are not unpacked here.
PACKED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK": "zip",
    b"7z\xbc\xaf": "7-Zip",
}


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """
    Turns every error that a file can cause into a [`VolumeError`] that names the volume. So one bad volume costs no
    more than itself, whichever library it surprised.
    """
    try:
        yield
    except VolumeError:
        raise
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read: {error.strerror or type(error).__name__}.") from error
    except MemoryError as error:
        raise VolumeError(f"{name}: {NO_MEMORY}") from error
    except Exception as error:
        raise VolumeError(
            f"{name}: damaged, or not what its name says ({type(error).__name__}). Download or export it again."
        ) from error


def open_file(name: str, path: str | Path) -> BinaryIO:
    """
    Opens a file of a volume to read it.

    Raises:
        `VolumeError`: if the path leads to a pipe, a socket or a device, which could keep a reader for ever, or to a
            file that is larger than any scan.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise VolumeError(f"{name}: cannot be read: no file, but a folder, a pipe, a socket or a device.")
    if status.st_size > _MOST_FILE:
        raise VolumeError(f"{name}: a file of {status.st_size / 2**30:.0f} GB, which is more than any scan has.")
    return open(path, "rb")


def unpacked(file: BinaryIO) -> BinaryIO:
    """The file, or, if gzip has packed it, its content, which is inflated no further than it is read."""
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    content = gzip.GzipFile(fileobj=file)
    content.myfileobj = file  # closed with the content
    return content


def read_voxels(name: str, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """
    The voxels that follow in a file, of shape `shape`, the first axis fastest. The file is read to its end, where a
    compressed one has its checksum. Bytes after the voxels are told.

    Raises:
        `VolumeError`: if the header promises more than any CT has, or more than the file holds; or if the file holds
            more than any CT.
    """
    promised_voxels(name, file, shape, dtype)
    stored = np.empty(shape, dtype, order="F")  # takes memory only as it is filled
    left = memoryview(stored.reshape(-1, order="F").view(np.uint8))
    while left and (count := file.readinto(left[:PIECE])):
        left = left[count:]
    if left:
        raise VolumeError(
            f"{name}: the header promises {shape} voxels of {dtype}, but the file ends early. Download it again."
        )
    after = 0
    while piece := file.read(PIECE):
        after += len(piece)
        if after > MOST_BYTES:
            raise VolumeError(
                f"{name}: more than {MOST_BYTES / 2**30:.0f} GB follow the {shape} voxels of {dtype} that the header "
                "promises. Download it again."
            )
    if after:
        tell(
            "%s: %d bytes follow the %s voxels of %s that the header promises, and were not read. Check its "
            "dimensions.", name, after, shape, dtype,
        )  # fmt: skip
    return stored


def promised_voxels(name: str, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """
    Zeros in the place of the voxels that a header promises, without memory and without reading the file.

    Raises:
        `VolumeError`: if the header promises more than any CT has.
    """
    if math.prod(shape) * dtype.itemsize > MOST_BYTES or max(shape) > MOST_SIDE:
        raise VolumeError(
            f"{name}: the header promises {shape} voxels of {dtype}, more than any CT has. Download it again."
        )
    return np.broadcast_to(np.zeros((), dtype), shape)


def limited(file: BinaryIO, most: int, error: VolumeError) -> io.BufferedReader:
    """The same file, which raises `error` once more than `most` bytes of it were read, whatever was passed over."""
    return io.BufferedReader(_Limited(file, most, error))


class _Limited(io.RawIOBase):
    name = "a file of a volume"  # pydicom keeps it

    def __init__(self, file: BinaryIO, most: int, error: VolumeError):
        self.file, self.left, self.error = file, most, error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        piece = self.file.read(min(len(buffer), PIECE))
        self.left -= len(piece)
        if self.left < 0:
            raise self.error
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(place, whence)

    def tell(self) -> int:
        return self.file.tell()
