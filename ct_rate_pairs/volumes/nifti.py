"""From a NIfTI file to a `Volume`: checks the header, inflates the voxels once, and turns the axes."""

import io
import logging
import math
import zlib
from itertools import permutations
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from .slicing import Volume, VolumeError
from .windows import Window


logger = logging.getLogger(__name__)

GZIP_MAGIC = b"\x1f\x8b"
# Display order: slices superior first, rows anterior first, columns from the patient's right. Axes as (x, y, z).
DISPLAY = axcodes2ornt(("L", "P", "I"))
_MM = {1: 1000.0, 3: 0.001}  # NIfTI's codes of metre and micron -> mm; every other code means mm
_VOXEL_MM, _EXTENT_MM = (0.05, 20.0), (40.0, 2000.0)  # allowed size of a voxel and of a volume along each axis
_MOST_BYTES = 2**32  # 1,024 x 1,024 x 2,048 voxels of 16 bits: a damaged header must not ask for all memory
_MOST_EXTENSION = 2**24  # bytes between the header and the voxels
_PIECE = 2**19  # bytes that are inflated at a time: they are in memory twice, and fit into the processor's cache
_MOST_TILT = 20.0  # degrees from the body's axes


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
) -> Volume:
    """
    Read a `.nii.gz` or `.nii` file, and turn the volume to display order by its affine.

    Args:
        source (`str`, `Path` or `bytes`):
            Path of the file, or the bytes of the file.
        name (`str`, *optional*):
            Name of the volume in messages. By default, the path. Give a name together with bytes.
        rescale (`tuple[float, float]`, *optional*):
            Slope and intercept to HU. For CT-RATE's original files, whose header lacks them.
        spacing (`tuple[float, float, float]`, *optional*):
            Voxel size in mm as x, y, z (left-right, front-back, head-feet). For CT-RATE's original files, too.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume, with the stored values.

    Raises:
        `VolumeError`: if the file is missing, is damaged or is not a NIfTI volume; if the volume is tilted or has an
            impossible size; or if both the header and `rescale` rescale its values.
    """
    name = name or ("volume given as bytes" if isinstance(source, bytes) else str(source))
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            # The file is inflated directly into the array of voxels, so nothing else of this size is in memory.
            header, stored = _read(name, igzip.IGzipFile(fileobj=file) if zipped else file)
    except (EOFError, zlib.error, isal_zlib.IsalError, igzip.BadGzipFile) as error:
        raise VolumeError(
            f"{name}: the gzip stream is truncated or damaged ({error}). Download the file again."
        ) from error
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read: {error.strerror}.") from error

    turn = ornt_transform(orientation_of(name, header), DISPLAY)
    stored = apply_orientation(stored, turn).transpose(2, 1, 0)  # [Z, Y, X]
    if spacing is None:
        unit = _MM.get(int(header["xyzt_units"]) % 8, 1.0)
        zooms = [float(zoom) * unit for zoom in header.get_zooms()]
        spacing = tuple(zooms[axis] for axis in np.argsort(turn[:, 0]))
    check_spacing(name, stored.shape[::-1], spacing)
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise VolumeError(f"{name}: the header is damaged ({error}). Download the file again.") from error
    slope, intercept = (1.0, 0.0) if slope is None else (slope, intercept)
    if rescale is not None:
        if (slope, intercept) != (1.0, 0.0):
            raise VolumeError(
                f"{name}: its header rescales to HU already (slope {slope:g}, intercept {intercept:g}), and the "
                f"metadata table would rescale again (slope {rescale[0]:g}, intercept {rescale[1]:g}). Pass "
                "files='fixed'."
            )
        slope, intercept = rescale
    return Volume(name=name, stored=stored, spacing=spacing, slope=slope, intercept=intercept)


def _read(name: str, file: BinaryIO) -> tuple[nib.Nifti1Header, np.ndarray]:
    """The header and the stored voxels. The header is checked first, and the file is then read to its checksum."""
    start = file.read(nib.Nifti1Header.sizeof_hdr)
    kind = nib.Nifti1Header
    if nib.Nifti2Header.sizeof_hdr in (int.from_bytes(start[:4], order) for order in ("little", "big")):
        kind = nib.Nifti2Header
        start += file.read(kind.sizeof_hdr - len(start))
    try:
        header = kind(start)
    except (WrapStructError, HeaderDataError, ImageFileError) as error:
        raise VolumeError(f"{name}: not a NIfTI file ({error}).") from error
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
    while file.read(_PIECE):  # to the end of the file, where gzip checks the checksum
        pass
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


def orientation_of(name: str, header: nib.Nifti1Header) -> np.ndarray:
    """
    The orientation of the array's axes in nibabel's form, `[3, 2]`.

    Raises:
        `VolumeError`: if the axes are so tilted that the planes are not axial.
    """
    directions = header.get_best_affine()[:3, :3]
    lengths = np.linalg.norm(directions, axis=0)
    if not np.isfinite(directions).all() or not lengths.all():
        logger.warning("%s: the affine holds NaN or zeros; taking the axes as left, posterior, superior.", name)
        return axcodes2ornt(("L", "P", "S"))
    cosines = np.abs(directions) / lengths  # [body's axis, array's axis]
    straightest = max(cosines[axes, [0, 1, 2]].min() for axes in permutations(range(3)))
    tilt = np.degrees(np.arccos(min(straightest, 1.0)))
    if tilt > _MOST_TILT:
        raise VolumeError(
            f"{name}: its axes are tilted by {tilt:.0f} degrees against the body's axes (at most {_MOST_TILT:.0f} are "
            "allowed), so its planes are not axial. Resample the volume to an axial grid, or leave it out."
        )
    return io_orientation(header.get_best_affine())


def check_spacing(name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    """Raises a [`VolumeError`] if the voxels or the volume cannot have this size. Axes as x, y, z, spacing in mm."""
    for axis, count, size in zip("xyz", shape, spacing, strict=True):
        if not _VOXEL_MM[0] <= size <= _VOXEL_MM[1] or not _EXTENT_MM[0] <= count * size <= _EXTENT_MM[1]:
            raise VolumeError(
                f"{name}: {count} voxels of {size:g} mm along {axis} cannot be a chest (voxels of {_VOXEL_MM[0]:g} to "
                f"{_VOXEL_MM[1]:g} mm, {_EXTENT_MM[0]:g} to {_EXTENT_MM[1]:g} mm in all). Correct the spacing in the "
                "header of the file, or in the metadata table for files='original'."
            )
