"""
From a MetaImage file (`.mha`) to a `Volume`.

The header is read here, and not by ITK: ITK ends the process for some headers, opens any file that a header names, and
takes compressed voxels whose checksum is wrong. What this module reads, it reads as ITK does.
"""

import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .files import PIECE, open_file, read_voxels
from .geometry import Grid, display, fault_of, in_mm, same_size, tell_if_unset
from .slicing import Volume, VolumeError
from .told import tell


_MOST_HEADER = 2**20  # bytes: ITK writes the elements of a DICOM file into it
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
# Several names of one field, as ITK reads them.
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")
_BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_SLOPE, _OFFSET = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"
# The fields that are read. Others are passed over: they may hold the name of a patient.
_FIELDS = (
    "ObjectType", "NDims", "BinaryData", "CompressedData", "CompressedDataSize", "HeaderSize", "DistanceUnits",
    "AnatomicalOrientation", "ElementSpacing", "ElementSize", "ElementNumberOfChannels", "ElementType",
    "ElementDataFile", "DimSize", _SLOPE, _OFFSET, *_MATRIX, *_ORIGIN, *_BIG_ENDIAN,
)  # fmt: skip
_BY_LOWER = {field.lower(): field for field in _FIELDS}
_YES, _NO = ("true", "t", "1"), ("false", "f", "0")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Of fields that are passed over: how many numbers ITK reads, if need be from the next lines.
_FEWEST = {"CenterOfRotation": 3, "Color": 4, "ElementMin": 1, "ElementMax": 1, "ID": 1, "ParentID": 1}
_BLANK = " \t\n\v\f\r"  # of ASCII, as in ITK: Python strips more
_OPPOSITE = str.maketrans("LRPASI", "RLAPIS")


def read_metaimage(path: Path, name: str, voxels: Callable[..., np.ndarray] = read_voxels) -> Volume:
    """
    Read a `.mha` file in HU, and turn the volume to display order. Axes come from `TransformMatrix`, and the voxel
    size from `ElementSpacing`; what else the header says of them is compared.

    Args:
        path (`Path`):
            The file.
        name (`str`):
            Name of the volume in messages.
        voxels (`Callable`, *optional*):
            Reads the voxels: [`~ct_rate_pairs.volumes.files.read_voxels`], or `promised_voxels` beside it.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume, with the stored values.

    Raises:
        `VolumeError`: if the file is no MetaImage that holds its own voxels, one number per voxel; if it is cut or
            damaged; if its header contradicts itself; or if the volume is tilted, sheared or has an impossible size.
    """
    with open_file(name, path) as file:
        fields = _header(name, file)
        shape, dtype = _layout(name, fields)
        grid = _grid(name, fields)
        if voxels is read_voxels and _is(name, fields, "CompressedData", default=False):
            stored = _read_compressed(name, file, fields, shape, dtype)
        else:
            stored = voxels(name, file, shape, dtype)
    stored, spacing, affine = display(name, stored, grid)
    is_placed = grid.origin is not None
    return Volume(name, stored, spacing, slope=1.0, intercept=0.0, affine=affine, is_placed=is_placed, axes=grid.axes)


def _header(name: str, file: BinaryIO) -> dict[str, str]:
    """The known fields of the text header, of which `ElementDataFile` is the last. The file is then at the voxels."""
    fields: dict[str, str] = {}
    is_open = False  # the line before lacks a mark or numbers, so ITK takes the next line for its end
    while "ElementDataFile" not in fields:
        line = file.readline(_MOST_HEADER - file.tell()).decode("latin-1")
        if not line:
            raise VolumeError(f"{name}: not a MetaImage: its header has no ElementDataFile. Write it again.")
        key, *values = re.split("[=:]", line, maxsplit=1)
        key, value = key.strip(_BLANK), "".join(values).strip(_BLANK)
        known = _BY_LOWER.get(key.lower())
        if known and is_open:
            raise VolumeError(
                f"{name}: the line of its header before {known} has neither = nor :, or too few numbers, so ITK "
                f"passes over {known}. Correct it."
            )
        # A file of other dimensions than three is refused for them, below.
        has_few = len(value.split()) < _FEWEST.get(key, 0) and fields.get("NDims", "3") == "3"
        is_open = (not values and (is_open or bool(key))) or has_few
        if known and re.search(r"[^\t -~]", value):
            raise VolumeError(f"{name}: its header has characters other than ASCII in {known}. Correct it.")
        if known and known != key:
            raise VolumeError(f"{name}: its header has {known} in other letters, which ITK passes over. Correct it.")
        if known and fields.setdefault(known, value) != value:
            raise VolumeError(f"{name}: its header has two values of {known}. Write the scan again.")
    if fields.get("ObjectType", "Image") != "Image":
        raise VolumeError(f"{name}: not a MetaImage: its ObjectType is no Image.")
    # The header could name any other file as the file of the voxels, so only a MetaImage with its own voxels is read.
    if fields["ElementDataFile"].upper() != "LOCAL":
        raise VolumeError(f"{name}: not a MetaImage that holds its own voxels. Write it as one .mha again.")
    return fields


def _layout(name: str, fields: dict[str, str]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and data type of the voxels."""
    dimensions, size = (fields.get(field, "").split() for field in ("NDims", "DimSize"))
    if len(dimensions) != 1 or not re.fullmatch(r"[1-9]\d?", dimensions[0], re.ASCII):
        raise VolumeError(f"{name}: not a MetaImage: its header has no number of dimensions.")
    if dimensions != ["3"] or fields.get("ElementNumberOfChannels", "1") != "1":
        raise VolumeError(f"{name}: a volume has three dimensions and one number per voxel, but this file has others.")
    if len(size) != 3 or not all(re.fullmatch(r"0*[1-9]\d{0,8}", count, re.ASCII) for count in size):
        raise VolumeError(f"{name}: its header has no three sizes in DimSize. Write the scan again.")
    if fields.get("ElementType") not in _TYPES:
        raise VolumeError(f"{name}: its ElementType is not one number per voxel, as HU are. Convert it.")
    if not _is(name, fields, "BinaryData", default=True) or fields.get("HeaderSize", "0") != "0":
        raise VolumeError(
            f"{name}: its voxels are written as text, or do not follow its header (BinaryData, HeaderSize). Write it "
            "as one .mha again."
        )
    order = ">" if _is(name, fields, _only(name, fields, _BIG_ENDIAN), default=False) else "<"
    return tuple(map(int, size)), np.dtype(order + _TYPES[fields["ElementType"]])


def _read_compressed(
    name: str, file: BinaryIO, fields: dict[str, str], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """As [`read_voxels`], from a zlib or gzip stream, which is read to its checksum."""
    start, inflated = file.tell(), _Inflated(file)
    try:
        stored = read_voxels(name, inflated, shape, dtype)
    except EOFError:
        raise VolumeError(f"{name}: its compressed voxels are cut short. Download or write it again.") from None
    except zlib.error:
        raise VolumeError(f"{name}: its compressed voxels are damaged. Download or write it again.") from None
    size, after = file.tell() - start - len(inflated.unused), len(inflated.unused) + len(file.read(PIECE))
    stated = fields.get("CompressedDataSize", str(size))
    if stated != str(size):
        raise VolumeError(
            f"{name}: its compressed voxels take {size} bytes, but its CompressedDataSize says otherwise. Write the "
            "scan again."
        )
    if after:
        tell("%s: bytes follow its compressed voxels and were not read. The volume is whole.", name)
    return stored


class _Inflated(io.RawIOBase):
    """A zlib or gzip stream, inflated piece by piece. Its checksum is at its end."""

    def __init__(self, file: BinaryIO):
        self.file, self.inflater = file, zlib.decompressobj(zlib.MAX_WBITS | 32)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self.inflater.eof:
            piece = self.inflater.unconsumed_tail or self.file.read(PIECE)
            inflated = self.inflater.decompress(piece, len(buffer))
            buffer[: len(inflated)] = inflated
            if inflated:
                return len(inflated)
            if not piece and not self.inflater.eof:
                raise EOFError
        return 0

    @property
    def unused(self) -> bytes:
        """What was read of the file beyond the end of the stream."""
        return self.inflater.unused_data


def _grid(name: str, fields: dict[str, str]) -> Grid:
    """
    The geometry of the header.

    Raises:
        `VolumeError`: if the header does not state the voxel size, or means other values or sizes than ITK takes.
    """
    spacing = _numbers(name, fields, "ElementSpacing") or _numbers(name, fields, "ElementSize")
    if not spacing:
        raise VolumeError(
            f"{name}: its header has no ElementSpacing, so the size of its voxels is unknown. Write the scan again."
        )
    matrix = _numbers(name, fields, _only(name, fields, _MATRIX)) or [1, 0, 0, 0, 1, 0, 0, 0, 1]
    origin = _numbers(name, fields, _only(name, fields, _ORIGIN)) or None
    if [len(spacing), len(matrix), len(origin or spacing)] != [3, 9, 3] or not all(spacing):
        raise VolumeError(
            f"{name}: not a MetaImage of three dimensions: its ElementSpacing, TransformMatrix and Offset have other "
            "numbers than 3 above 0, 9 and 3. Write the scan again."
        )
    slope, offset = (_numbers(name, fields, field) for field in (_SLOPE, _OFFSET))
    unit = fields.get("DistanceUnits", "mm").lower()
    if slope not in ([], [1]) or offset not in ([], [0]) or unit not in ("mm", "?"):
        raise VolumeError(
            f"{name}: its header has an intensity function of slope {slope} and offset {offset}, and "
            f"{unit if len(unit) < 3 else 'an unknown word'} as its unit of length. ITK applies neither. Write the "
            "scan in HU and mm, without these fields."
        )
    # Each row of the file is the direction of one axis. A spacing below 0 turns the axis, as in ITK.
    directions = np.reshape(matrix, (3, 3)).T * np.sign(spacing)
    if fault := fault_of(directions):
        raise VolumeError(f"{name}: its TransformMatrix {fault}, so its axes are unknown. Write the scan again.")
    grid = Grid.of_lps("its header", directions, np.abs(spacing), origin)
    if not np.allclose(np.linalg.norm(directions, axis=0), 1, atol=0.01):
        raise VolumeError(
            f"{name}: the columns of its TransformMatrix are not of length 1, which contradicts its ElementSpacing of "
            f"{in_mm(grid.spacing)}. Write the scan again."
        )
    _tell(name, fields, grid)
    return tell_if_unset(name, grid)


def _tell(name: str, fields: dict[str, str], grid: Grid) -> None:
    """Tells what the header says otherwise than `grid`, and passes over."""
    size = [abs(number) for number in _numbers(name, fields, "ElementSize")] or grid.spacing
    if len(size) != 3 or not same_size(size, grid.spacing):
        tell(
            "%s: its ElementSize is %s, its ElementSpacing %s. The ElementSpacing is taken, as ITK does.",
            name, in_mm(size), in_mm(grid.spacing),
        )  # fmt: skip
    named = fields.get("AnatomicalOrientation", "???")
    shown = named if re.fullmatch("[LRAPSI?]{3}", named) else "an unknown word"
    if not fields.keys() & set(_MATRIX):
        tell(
            "%s: its header has no TransformMatrix (and AnatomicalOrientation %s). Taken instead: left, posterior, "
            "superior (LPS), as in ITK.", name, shown,
        )  # fmt: skip
    # Writers differ in whether a letter is where the axis runs to or where it comes from.
    elif named not in ("???", grid.axes, grid.axes.translate(_OPPOSITE)):
        tell(
            "%s: its AnatomicalOrientation is %s, but by its TransformMatrix its axes run to %s. The TransformMatrix "
            "is taken, as ITK does.", name, shown, grid.axes,
        )  # fmt: skip


def _only(name: str, fields: dict[str, str], names: tuple[str, ...]) -> str:
    """Which of several names for the same a header uses."""
    used = [field for field in names if field in fields]
    if len({fields[field] for field in used}) > 1:
        raise VolumeError(f"{name}: its header has two values of {' and '.join(used)}. Write the scan again.")
    return used[0] if used else names[0]


def _is(name: str, fields: dict[str, str], field: str, default: bool) -> bool:
    """A field that is true or false."""
    value = fields.get(field, str(default)).lower()
    if value not in (*_YES, *_NO):
        raise VolumeError(f"{name}: its header says neither True nor False in {field}. Write the scan again.")
    return value in _YES


def _numbers(name: str, fields: dict[str, str], field: str) -> list[float]:
    """The numbers in a field; none if there is no such field."""
    words = fields.get(field, "").split()
    numbers = [float(word) for word in words if _NUMBER.fullmatch(word)]
    if len(numbers) < len(words) or not np.isfinite(numbers).all():
        raise VolumeError(f"{name}: its header has no numbers in {field}. Write the scan again.")
    return numbers
