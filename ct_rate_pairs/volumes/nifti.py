"""From a NIfTI file to a `Volume`: checks the header, inflates the voxels once, and turns the axes."""

import io
import logging
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from .geometry import (
    EMPTY,
    UNSET,
    Grid,
    compare_directions,
    display,
    fault_of,
    in_mm,
    rounded_like,
    same_size,
    tell_if_unset,
)
from .slicing import Volume, VolumeError
from .windows import Window


logger = logging.getLogger(__name__)

_UNHEARD = logging.Logger("nibabel's checks of a header", logging.CRITICAL + 1)  # they tell what they replace

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_ERRORS = (EOFError, zlib.error, isal_zlib.IsalError, igzip.BadGzipFile)
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes of unknown, metre, mm and micron -> mm
_MOST_BYTES = 2**32  # 1,024 x 1,024 x 2,048 voxels of 16 bits: a damaged header must not ask for all memory
_MOST_EXTENSION = 2**24  # bytes between the header and the voxels
_PIECE = 2**19  # bytes that are inflated at a time: they are in memory twice, and fit into the processor's cache
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
    return read_volume(path).slices(num_slices, spacing, window)[0]


def read_volume(
    source: str | Path | bytes,
    name: str | None = None,
    rescale: tuple[float, float] | None = None,
    spacing: tuple[float, float, float] | None = None,
    orientation: tuple[float, ...] | None = None,
) -> Volume:
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
            then not read from the header, but a header that says something else is told.
        orientation (`tuple[float, ...]`, *optional*):
            DICOM's `ImageOrientationPatient`: six cosines of the first two axes of the stored array, in LPS. Used
            together with `spacing`. By default, the axes run to the left, back and head.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume, with the stored values.

    Raises:
        `VolumeError`: if the file is missing, is damaged or is not a NIfTI volume; if its header contradicts itself;
            if the volume is tilted, sheared or has an impossible size; or if both the header and `rescale` rescale its
            values.
    """
    name = name or ("volume given as bytes" if isinstance(source, bytes) else str(source))
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            header, stored = _read_zipped(name, file) if zipped else _read(name, file)
    except EOFError as error:
        raise VolumeError(f"{name}: the gzip stream is truncated ({error}). Download the file again.") from error
    except _GZIP_ERRORS as error:
        raise VolumeError(f"{name}: the gzip stream is damaged ({error}). Download the file again.") from error
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read: {error.strerror}.") from error

    if spacing is None:
        grid = _grid_of(name, header)
    else:
        grid = _grid_of_table(spacing, orientation)
        _compare_with_header(name, grid, header)
    stored, spacing = display(name, stored, grid)
    slope, intercept = _rescaling(name, header)
    if rescale is not None:
        if (slope, intercept) != (1.0, 0.0):
            raise VolumeError(
                f"{name}: its header rescales to HU already (slope {slope:g}, intercept {intercept:g}), and the "
                f"metadata table would rescale again (slope {rescale[0]:g}, intercept {rescale[1]:g}). Pass "
                "files='fixed'."
            )
        slope, intercept = rescale
    return Volume(name=name, stored=stored, spacing=spacing, slope=slope, intercept=intercept)


def _read_zipped(name: str, file: BinaryIO) -> tuple[nib.Nifti1Header, np.ndarray]:
    """As [`_read`], from a gzip stream, which may have several members. Other bytes after it are told."""
    try:
        # The file is inflated directly into the array of voxels, so nothing else of this size is in memory.
        found = _read(name, igzip.IGzipFile(fileobj=file))
    except _GZIP_ERRORS:
        members, after = _whole_members(file)
        try:
            found = _read(name, igzip.IGzipFile(fileobj=io.BytesIO(members)))
        except (*_GZIP_ERRORS, VolumeError):
            found = None
        if found is None:
            raise
        logger.warning("%s: %d bytes follow the gzip stream and were not read. The volume is whole.", name, after)
        return found
    file.seek(-_MOST_ZEROS - 1, io.SEEK_END)
    if not any(file.read()):
        logger.warning("%s: zeros follow the gzip stream and were not read. The volume is whole.", name)
    return found


def _whole_members(file: BinaryIO) -> tuple[bytes, int]:
    """The members of a gzip stream up to the first one that is cut or damaged, and the number of bytes after them."""
    file.seek(0)
    content = file.read()
    end = 0
    while content[end:].startswith(GZIP_MAGIC):
        member, place = isal_zlib.decompressobj(wbits=31), end
        try:
            while not member.eof and place < len(content):
                member.decompress(content[place : place + _PIECE // 8])
                place += _PIECE // 8
        except _GZIP_ERRORS:
            break
        if not member.eof:
            break
        end = min(place, len(content)) - len(member.unused_data)
    return content[:end], len(content) - end


def _read(name: str, file: BinaryIO) -> tuple[nib.Nifti1Header, np.ndarray]:
    """
    The header as it is stored, and the stored voxels. The header is checked first, and the file is then read to its
    checksum.
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
        raise VolumeError(f"{name}: not a NIfTI file ({error}).") from error
    if bytes(header["magic"]).startswith(b"ni"):
        raise VolumeError(
            f"{name}: the header of a pair (.hdr, .img), which has its voxels in a second file. Write both as one "
            ".nii.gz."
        )
    shape, dtype = _check_layout(name, header)
    extension = float(header["vox_offset"]) - len(start)
    if not 0 <= extension <= _MOST_EXTENSION:
        raise VolumeError(
            f"{name}: the header is damaged (voxels from byte {header['vox_offset']}). Download the file again."
        )
    file.read(int(extension))
    stored = np.empty(shape, dtype, order="F")
    left = memoryview(stored.reshape(-1, order="F").view(np.uint8))
    while left and (count := file.readinto(left[:_PIECE])):
        left = left[count:]
    if left:
        raise VolumeError(
            f"{name}: the header promises {shape} voxels of {dtype}, but the file ends early. Download it again."
        )
    after = 0
    while piece := file.read(_PIECE):  # to the end of the file, where gzip checks the checksum
        after += len(piece)
    if after:
        logger.warning(
            "%s: %d bytes follow the %s voxels of %s that the header promises, and were not read. Check its "
            "dimensions.", name, after, shape, dtype,
        )  # fmt: skip
    return header, stored


def _check_layout(name: str, header: nib.Nifti1Header) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and data type of the voxels. A file that does not hold a single volume is refused."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise VolumeError(
            f"{name}: a volume has three dimensions, but this file has shape {shape}. Split it into its volumes."
        )
    if math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise VolumeError(
            f"{name}: the header promises {shape} voxels of {dtype}, more than any CT has. Download it again."
        )
    if dtype.kind not in "iuf":
        raise VolumeError(f"{name}: its voxels are {dtype}, but HU are one number per voxel. Convert the file.")
    return shape, dtype


def _grid_of(name: str, header: nib.Nifti1Header) -> Grid:
    """The geometry of the header, by one of its matrices."""
    pixdim = _pixdim(name, header)
    grids, faults = _matrices(header)
    if not grids and not all(fault.endswith(EMPTY) for fault in faults):
        raise VolumeError(
            f"{name}: {' and '.join(faults)}, so its axes are unknown. Correct the header, or leave the file out."
        )
    grid = grids[0] if grids else Grid.of_lps("its pixdim", np.eye(3), pixdim)
    if faults or not grids:
        because = " and ".join(faults) or "its header does not say where its axes point (sform and qform have code 0)"
        taken = grid.source if grids else "left, posterior, superior (LPS), as in ITK"
        logger.warning("%s: %s. Taken instead: %s.", name, because, taken)
    for other in grids[1:]:
        compare_directions(name, grid, other)
    if not same_size(grid.spacing, pixdim):
        raise VolumeError(
            f"{name}: {grid.source} says voxels of {in_mm(grid.spacing)}, but its pixdim {in_mm(pixdim)}. One of them "
            "is wrong, and with it the depth of the slices. Correct the header (in nibabel, `set_sform` and "
            "`set_zooms`), or leave the file out."
        )
    grid = replace(grid, spacing=rounded_like(grid.spacing, pixdim))
    tell_if_unset(name, grid, _origin(header, grid))
    return grid


def _pixdim(name: str, header: nib.Nifti1Header) -> tuple[float, float, float]:
    """The voxel size in mm along the array's axes, as the header states it beside its matrices."""
    code = int(header["xyzt_units"]) % 8
    sizes = [float(size) for size in header["pixdim"][1:4]]
    if code not in _MM:
        logger.warning("%s: its unit of length has the unknown code %d: mm is taken.", name, code)
    if not all(0 < size < math.inf for size in sizes):
        raise VolumeError(
            f"{name}: its pixdim is {in_mm(sizes)}, but a voxel has three sizes above 0. Readers differ in what they "
            "make of it: correct the header, or leave the file out."
        )
    return tuple(size * _MM.get(code, 1.0) for size in sizes)


def _matrices(header: nib.Nifti1Header) -> tuple[list[Grid], list[str]]:
    """What the sform and the qform say, if their codes are above 0: grids, and what is wrong with the others."""
    grids, faults = [], []
    unit = _MM.get(int(header["xyzt_units"]) % 8, 1.0)
    for form, matrix_of in (("sform", _sform), ("qform", _qform)):
        if header[f"{form}_code"] > 0:
            matrix = matrix_of(header) * unit
            if fault := fault_of(matrix):
                faults.append(f"its {form} {fault}")
            else:
                grids.append(Grid.of_matrix(f"its {form}", matrix))
    return grids, faults


def _sform(header: nib.Nifti1Header) -> np.ndarray:
    return header.get_sform()[:3, :3]


def _qform(header: nib.Nifti1Header) -> np.ndarray:
    """The matrix of quaternion, pixdim and the sign of the third axis; without directions if there is no rotation."""
    try:
        turn = quat2mat(header.get_qform_quaternion()).astype(float)
    except ValueError:  # longer than 1
        turn = np.ones((3, 3))
    return turn * np.abs(header["pixdim"][1:4].astype(float)) * [1, 1, -1 if header["pixdim"][0] < 0 else 1]


def _origin(header: nib.Nifti1Header, grid: Grid) -> np.ndarray:
    """The place of the first voxel, by the matrix of `grid`."""
    if grid.source == "its sform":
        return header.get_sform()[:3, 3]
    return np.array([header[f"qoffset_{axis}"] for axis in "xyz"])


def _grid_of_table(spacing: tuple[float, float, float], orientation: tuple[float, ...] | None) -> Grid:
    """The geometry that the metadata table gives: the third axis is the normal of the first two, as in DICOM."""
    first, second = np.reshape(orientation or (1, 0, 0, 0, 1, 0), (2, 3))
    directions = np.stack([first, second, np.cross(first, second)], axis=1)
    directions = directions / np.linalg.norm(directions, axis=0)  # they are written as decimals
    return Grid.of_lps("the metadata table", directions, spacing)


def _compare_with_header(name: str, grid: Grid, header: nib.Nifti1Header) -> None:
    """Tells what the header of an original file says otherwise than the metadata table. Voxels of 1 mm say nothing."""
    said = [other for other in _matrices(header)[0] if not same_size(other.spacing, UNSET)]
    said = [other for other in said if other.axes != grid.axes or not same_size(other.spacing, grid.spacing)]
    if said:
        logger.warning(
            "%s: the metadata table says %s, but %s says %s. The table is taken.", name, grid, said[0].source, said[0]
        )


def _rescaling(name: str, header: nib.Nifti1Header) -> tuple[float, float]:
    """
    Slope and intercept of the header; 1 and 0 if it has none.

    Raises:
        `VolumeError`: if they are no numbers, or if readers differ in what they mean.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope and not math.isnan(slope):
        if not math.isfinite(slope) or not math.isfinite(intercept):
            raise VolumeError(
                f"{name}: the header is damaged (slope {slope:g}, intercept {intercept:g}). Download the file again."
            )
        return slope, intercept
    if intercept and not math.isnan(intercept):
        raise VolumeError(
            f"{name}: its scl_slope is {slope:g}, which means no rescaling, but its scl_inter is {intercept:g}. ITK "
            "adds the intercept, nibabel does not. Correct the header: slope 1 if the intercept holds, otherwise "
            "intercept 0."
        )
    return 1.0, 0.0
