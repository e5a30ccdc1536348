"""From a NIfTI file to a `Volume`: inflates the voxels once, and turns the axes."""

import io
import logging
import math
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from .apart import read_apart
from .files import MOST_BYTES, PACKED, open_file, read_voxels
from .geometry import display
from .nifti_header import compare_with_header, grid_of_header, grid_of_table, rescaling_of
from .slicing import Volume, VolumeError
from .told import tell
from .windows import Window


_UNHEARD = logging.Logger("nibabel's checks of a header", logging.CRITICAL + 1)  # they tell what they replace

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_ERRORS = (EOFError, zlib.error, isal_zlib.IsalError, igzip.BadGzipFile)
_MOST_EXTENSION = 2**24  # bytes between the header and the voxels
_INPUT = 2**12  # compressed bytes that are looked through at a time: a member of a gzip stream may be as short as 20
T = TypeVar("T")
_MOST_ZEROS = 9  # zeros at the end of a whole gzip stream, which an empty member has


def read_slices(
    path: str | Path,
    num_slices: int = 10,
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
    window: Window = (-1000, 1000),
) -> np.ndarray:
    """
    Read the slices of one volume.

    Args:
        path (`str` or `Path`):
            A `.nii.gz` or `.nii` file whose header rescales the stored values to HU.
        num_slices (`int`, *optional*, defaults to `10`):
            Number of axial planes, evenly spread over the whole depth.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size to resample to, in mm as x, y, z.
        window (`str` or `tuple`, *optional*, defaults to `(-1000, 1000)`):
            HU that become -1 and 1, see [`Volume.slices`].

    Returns:
        `np.ndarray`: float32 of shape `[num_slices, H, W]` in [-1, 1]: superior first, anterior up, the patient's
        right on the left. With three windows, the shape is `[num_slices, H, W, 3]`.

    Raises:
        `VolumeError`: if the file cannot be read or does not hold a chest CT in HU, or if it has too few planes.
    """
    return read_volume(path, use=lambda volume: volume.slices(num_slices, spacing, window)[0])


def read_volume(
    source: str | Path | bytes,
    name: str | None = None,
    rescale: tuple[float, float] | None = None,
    spacing: tuple[float, float, float] | None = None,
    orientation: tuple[float, ...] | None = None,
    use: Callable[[Volume], T] = Volume.whole,
) -> T:
    """
    Read a `.nii.gz` or `.nii` file, and turn the volume to display order.

    Axes and voxel size come from one matrix of the header: from the sform if its code is above 0 and it holds three
    directions, otherwise from such a qform. A header without such a matrix is read with axes to the left, back and
    head, as ITK reads it, with a warning. What else the header says of axes and sizes must agree.

    Args:
        source (`str`, `Path` or `bytes`):
            Path of the file, or the bytes of the file.
        name (`str`, *optional*):
            Name of the volume in messages. By default, the path. Give a name together with bytes.
        rescale (`tuple[float, float]`, *optional*):
            Slope and intercept to HU. For CT-RATE's original files, whose header lacks them.
        spacing (`tuple[float, float, float]`, *optional*):
            Voxel size in mm along the axes of the stored array. For CT-RATE's original files, too: the geometry is
            then not read from the header, but a header that says something else is told. The affine of the volume has
            the origin 0, because the table does not tell where the first voxel lies.
        orientation (`tuple[float, ...]`, *optional*):
            DICOM's `ImageOrientationPatient`: six cosines of the first two axes of the stored array, in LPS. Used
            together with `spacing`. By default, the axes run to the left, back and head.
        use (`Callable[[Volume], T]`, *optional*):
            Takes from the volume what is needed, such as its slices. It is called in the process that reads the
            volume, see [`~ct_rate_pairs.volumes.apart`], so only its result is copied. By default, all is taken.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume, with the stored values; or what `use` returns.

    Raises:
        `VolumeError`: if the file is missing, is damaged or is not a NIfTI volume; if its header contradicts itself;
            if the volume is tilted, sheared or has an impossible size; or if both the header and `rescale` rescale its
            values.
        `ValueError`: if there is an `orientation` without `spacing`.
    """
    if orientation is not None and spacing is None:
        raise ValueError("orientation has no effect without spacing: give both, or none to use the header's geometry.")
    name = name or ("volume given as bytes" if isinstance(source, bytes) else str(source))
    return read_apart(name, partial(read_nifti, source, name, rescale, spacing, orientation), use)


def read_nifti(
    source: str | Path | bytes,
    name: str,
    rescale: tuple[float, float] | None = None,
    spacing: tuple[float, float, float] | None = None,
    orientation: tuple[float, ...] | None = None,
    voxels: Callable[..., np.ndarray] = read_voxels,
) -> Volume:
    """
    As [`read_volume`], in this process. A file can cause any error. `voxels` reads the voxels:
    [`~ct_rate_pairs.volumes.files.read_voxels`], or `promised_voxels` beside it.
    """
    header, stored = read_array(source, name, voxels)
    if spacing is None:
        grid = grid_of_header(name, header)
    else:
        grid = grid_of_table(spacing, orientation)
        compare_with_header(name, grid, header)
    stored, spacing, affine = display(name, stored, grid)
    slope, intercept = rescaling_of(name, header)
    if rescale is not None:
        if (slope, intercept) != (1.0, 0.0):
            raise VolumeError(
                f"{name}: its header rescales to HU already (slope {slope:g}, intercept {intercept:g}), and the "
                f"metadata table would rescale again (slope {rescale[0]:g}, intercept {rescale[1]:g}). Pass "
                "files='fixed'."
            )
        slope, intercept = rescale
    is_placed = grid.origin is not None
    return Volume(name, stored, spacing, slope, intercept, affine, is_placed=is_placed, axes=grid.axes)


def read_array(
    source: str | Path | bytes, name: str, voxels: Callable[..., np.ndarray] = read_voxels, dimensions: int = 3
) -> tuple[nib.Nifti1Header, np.ndarray]:
    """
    The header and the voxels of a file as they are stored, read in this process. `dimensions` is 3 for a volume, and 4
    for a row of volumes.

    Raises:
        `VolumeError`: as [`read_volume`], as far as the voxels themselves are concerned.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_file(name, source) as file:
            zipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            return (_read_zipped if zipped else _read)(name, file, voxels, dimensions)
    except EOFError as error:
        raise VolumeError(f"{name}: the gzip stream is truncated ({error}). Download the file again.") from error
    except _GZIP_ERRORS as error:
        raise VolumeError(f"{name}: the gzip stream is damaged ({error}). Download the file again.") from error


def _read_zipped(name: str, file: BinaryIO, voxels: Callable, dimensions: int) -> tuple[nib.Nifti1Header, np.ndarray]:
    """As [`_read`], from a gzip stream, which may have several members. Other bytes after it are told."""
    try:
        # The file is inflated directly into the array of voxels, so nothing else of this size is in memory.
        found = _read(name, igzip.IGzipFile(fileobj=file), voxels, dimensions)
    except _GZIP_ERRORS:
        members, after = _whole_members(file)
        try:
            found = _read(name, igzip.IGzipFile(fileobj=io.BytesIO(members)), voxels, dimensions)
        except (*_GZIP_ERRORS, VolumeError):
            found = None
        if found is None:
            raise
        tell("%s: %d bytes follow the gzip stream and were not read. The volume is whole.", name, after)
        return found
    file.seek(-_MOST_ZEROS - 1, io.SEEK_END)
    if not any(file.read()):
        tell("%s: zeros follow the gzip stream and were not read. The volume is whole.", name)
    return found


def _whole_members(file: BinaryIO) -> tuple[bytes, int]:
    """The members of a gzip stream up to the first one that is cut or damaged, and the number of bytes after them."""
    file.seek(0)
    content = file.read()
    end = inflated = 0
    while content.startswith(GZIP_MAGIC, end):
        member, place = isal_zlib.decompressobj(wbits=31), end
        try:
            while not member.eof and place < len(content) and inflated <= MOST_BYTES:
                inflated += len(member.decompress(content[place : place + _INPUT]))
                place += _INPUT
        except _GZIP_ERRORS:
            break
        if not member.eof:
            break
        end = min(place, len(content)) - len(member.unused_data)
    return content[:end], len(content) - end


def _read(name: str, file: BinaryIO, voxels: Callable, dimensions: int) -> tuple[nib.Nifti1Header, np.ndarray]:
    """
    The header as it is stored, and the stored voxels. The header is checked first, and `voxels` then reads the file,
    to its checksum if it is `read_voxels`.
    """
    start = file.read(nib.Nifti1Header.sizeof_hdr)
    kind = nib.Nifti1Header
    if nib.Nifti2Header.sizeof_hdr in (int.from_bytes(start[:4], order) for order in ("little", "big")):
        kind = nib.Nifti2Header
        start += file.read(kind.sizeof_hdr - len(start))
    try:
        header = kind(start, check=False)
        header.copy().check_fix(_UNHEARD)  # raises; what it replaces, such as a voxel size of 0, is read as it is
    except (WrapStructError, HeaderDataError, ImageFileError) as error:
        raise VolumeError(f"{name}: {_damage(start, error)}") from error
    if bytes(header["magic"]).startswith(b"ni"):
        raise VolumeError(
            f"{name}: the header of a pair (.hdr, .img), which has its voxels in a second file. Write both as one "
            ".nii.gz."
        )
    shape, dtype = _check_layout(name, header, dimensions)
    if voxels is read_voxels and float(header["vox_offset"]) == 0:
        return _voxels_without_offset(name, file, header, shape, dtype)
    extension = (float(header["vox_offset"]) or len(start)) - len(start)
    if not 0 <= extension <= _MOST_EXTENSION:
        raise VolumeError(
            f"{name}: the header is damaged (voxels from byte {header['vox_offset']}). Download the file again."
        )
    file.read(int(extension))
    return header, voxels(name, file, shape, dtype)


def _damage(start: bytes, error: Exception) -> str:
    """What is wrong with a file whose header is not read, by its first bytes, and what to do."""
    order = "little" if int.from_bytes(start[:4], "little") == nib.Nifti1Header.sizeof_hdr else "big"
    dimensions = int.from_bytes(start[40:42], order, signed=True)
    if start[344:348] not in (b"n+1\0", b"ni1\0"):
        return f"not a NIfTI file: {_what_it_is(start)}"
    if not 1 <= dimensions <= 7:
        return f"its header is damaged: it says {dimensions} dimensions (dim[0]). Set it to 3, or export it again."
    return f"its header is damaged ({error}). Download or export it again."


_PACKED_AGAIN = {b"\x1f\x8b": "gzip", **PACKED}
_LFS = "it is a pointer of Git LFS to a file that was not fetched. Run `git lfs pull`, or use `hf download`."
_OTHER_FILES = (  # where in a file which bytes stand, and what the file is then
    (0, b"version https://git-lfs", _LFS),
    (128, b"DICM", "it is DICOM. Give the folder of its series."),
    (257, b"ustar", "it is a tar archive. Unpack it first."),
    *((0, magic, f"it is packed once more, as {kind}. Unpack it first.") for magic, kind in _PACKED_AGAIN.items()),
)


def _what_it_is(start: bytes) -> str:
    """What a file is that is not NIfTI, by its first bytes, and what to do."""
    if not start:
        return "it is empty. Download or export it again."
    for place, magic, told in _OTHER_FILES:
        if start.startswith(magic, place):
            return told
    if start.lstrip().startswith((b"<", b"{")):
        return (
            "it is a text (HTML, XML or JSON), such as a page that asks to sign in or tells an error. Download it "
            "again, with access to it."
        )
    if len(start) < nib.Nifti1Header.sizeof_hdr:
        return f"its {len(start)} bytes are fewer than a header has. Download or export it again."
    return "it has no such header. Download or export it again, or give it the ending of its own format."


def _voxels_without_offset(
    name: str, file: BinaryIO, header: nib.Nifti1Header, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[nib.Nifti1Header, np.ndarray]:
    """
    Header and voxels of a file that does not say where its voxels begin. nibabel and ITK take the end of the header,
    and NIfTI the end of the four bytes after it: the size of the file tells.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > MOST_BYTES:
        read_voxels(name, file, shape, dtype)  # refuses it
    content = file.read(size + 5)
    surplus = len(content) - size
    if surplus == 4:
        tell(
            "%s: its header does not say where its voxels begin (vox_offset 0). By the size of the file they begin 4 "
            "bytes after the header, as in NIfTI; nibabel and ITK would read them shifted. Correct the header.", name
        )  # fmt: skip
    elif surplus > 0:
        raise VolumeError(
            f"{name}: its header does not say where its voxels begin (vox_offset 0), and the size of the file does "
            "not tell either. Set vox_offset in the header to the byte of the first voxel, which is 352 in most files."
        )
    return header, read_voxels(name, io.BytesIO(content[max(surplus, 0) :]), shape, dtype)


def _check_layout(name: str, header: nib.Nifti1Header, dimensions: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and data type of the voxels. A file that does not hold a single volume, or a row of them, is refused."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    while len(shape) > dimensions and shape[-1] == 1:
        shape = shape[:-1]
    if not 1 <= header["dim"][0] <= 7 or len(shape) != dimensions or min(shape) < 1:
        kind = "a volume has three" if dimensions == 3 else "a row of volumes has four"
        raise VolumeError(
            f"{name}: {kind} dimensions, but its header says {int(header['dim'][0])} (dim[0]), of shape "
            f"{shape}. Split it into its volumes, or if it is one volume, set dim[0] to 3."
        )
    if dtype.kind not in "iuf":
        raise VolumeError(f"{name}: its voxels are {dtype}, but HU are one number per voxel. Convert the file.")
    return shape, dtype
