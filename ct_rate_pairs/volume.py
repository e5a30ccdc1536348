"""From a NIfTI file to the slices that a model sees: HU, orientation, resampling, window.

Only the planes asked for are computed, and the gzip stream is inflated once: most of the time goes into inflating.
"""

import io
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError


logger = logging.getLogger(__name__)

AIR = -1.0  # value of air in the normalised space, and of every padding

GZIP_MAGIC = b"\x1f\x8b"
# Slices superior first, rows anterior first, columns from the patient's right: the array axes as (x, y, z).
_DISPLAY = axcodes2ornt(("L", "P", "I"))


class VolumeError(ValueError):
    """A volume that cannot become an example: unreadable, or not a chest CT in HU. The message names the file."""


@dataclass
class Volume:
    """
    A volume in memory, in display order.

    Args:
        name (`str`):
            Name of the file, for messages.
        stored (`np.ndarray`):
            Stored values of shape `[Z, Y, X]`: superior first, anterior first, patient's right first. A view, still in
            the file's own data type.
        spacing (`tuple[float, float, float]`):
            Voxel size in mm as x, y, z.
        slope (`float`), intercept (`float`):
            `HU = stored * slope + intercept`.
    """

    name: str
    stored: np.ndarray
    spacing: tuple[float, float, float]
    slope: float
    intercept: float

    def slices(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
        window: tuple[float, float] = (-1000, 1000),
    ) -> tuple[np.ndarray, list[float]]:
        """
        Resample to `spacing` (trilinear, `align_corners=False`), take the planes `floor((i + 0.5) * D / num_slices)`,
        clip to `window` and map it to [-1, 1] (paper, section 6.2).

        Returns:
            `tuple[np.ndarray, list[float]]`: float32 slices of shape `[num_slices, H, W]`, superior first, and the
            depth of each below the first in mm.

        Raises:
            `VolumeError`: for fewer resampled planes than `num_slices`, or values that cannot be HU of a chest.
        """
        depth, height, width = (
            int(n * own / target)
            for n, own, target in zip(self.stored.shape, self.spacing[::-1], spacing[::-1], strict=True)
        )
        if depth < num_slices or min(height, width) < 1:
            raise VolumeError(
                f"{self.name}: {self.stored.shape[::-1]} voxels of {self.spacing} mm give {depth} planes of {height} "
                f"x {width} at {tuple(spacing)} mm, but {num_slices} slices are asked for. Check the file's spacing, "
                "or pass a smaller `num_slices` or a finer `spacing`."
            )
        planes = [int((i + 0.5) * depth / num_slices) for i in range(num_slices)]
        hu = self._planes_hu(planes, depth)  # [num_slices, Y, X]
        _check_hu(self.name, hu)
        hu = F.interpolate(torch.from_numpy(hu)[:, None], size=(height, width), mode="bilinear", align_corners=False)[
            :, 0
        ].numpy()  # [num_slices, H, W]
        low, high = window
        slices = (hu.clip(low, high) - low) * np.float32(2 / (high - low)) - np.float32(1)
        gap = self.stored.shape[0] * self.spacing[2] / depth  # mm between resampled planes, close to spacing[2]
        return slices, [(plane - planes[0]) * gap for plane in planes]

    def _planes_hu(self, planes: list[int], depth: int) -> np.ndarray:
        """HU at the `planes` of a grid of `depth` planes, by linear interpolation between the stored planes."""
        count = self.stored.shape[0]
        hu = np.empty((len(planes), *self.stored.shape[1:]), dtype=np.float32)
        for i, plane in enumerate(planes):
            position = min(max((plane + 0.5) * count / depth - 0.5, 0.0), count - 1.0)
            below, weight = int(position), position - int(position)
            hu[i] = self.stored[below]
            if weight:
                hu[i] += np.float32(weight) * (self.stored[below + 1].astype(np.float32) - hu[i])
        hu *= np.float32(self.slope)
        hu += np.float32(self.intercept)
        return hu


def read_volume(source: str | Path | bytes, name: str | None = None) -> Volume:
    """
    Read a `.nii.gz` or `.nii`, as a path or as its bytes, and turn it to display order by its affine.

    Raises:
        `VolumeError`: when the file is missing, truncated, not NIfTI, not three-dimensional or has no usable spacing.
    """
    name = name or str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise VolumeError(f"{name}: cannot be read: {error.strerror}.") from error
    if data[:2] == GZIP_MAGIC:
        try:
            data = igzip.decompress(data)
        except (EOFError, isal_zlib.IsalError, zlib.error, igzip.BadGzipFile) as error:
            raise VolumeError(
                f"{name}: the gzip stream is truncated or damaged ({error}). Download the file again."
            ) from error
    try:
        header = nib.Nifti1Header.from_fileobj(io.BytesIO(data))
    except (WrapStructError, HeaderDataError, ImageFileError) as error:
        raise VolumeError(f"{name}: not a NIfTI file ({error}).") from error
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if len(shape) != 3:
        raise VolumeError(f"{name}: a volume has three dimensions, this file has shape {shape}.")
    offset = int(header["vox_offset"])
    if len(data) < offset + int(np.prod(shape)) * dtype.itemsize:
        raise VolumeError(
            f"{name}: the header promises {shape} voxels of {dtype}, but the file ends early. Download it again."
        )
    stored = np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape, order="F")
    affine, zooms = header.get_best_affine(), header.get_zooms()
    if not np.all(np.isfinite(zooms)) or min(zooms) <= 0:
        raise VolumeError(f"{name}: the header gives a voxel size of {tuple(map(float, zooms))} mm.")
    if np.isfinite(affine).all():
        orientation = io_orientation(affine)
    else:
        logger.warning("%s: the affine holds NaN; taking the axes as left, posterior, superior.", name)
        orientation = axcodes2ornt(("L", "P", "S"))
    turn = ornt_transform(orientation, _DISPLAY)
    x, y, z = (float(zooms[axis]) for axis in np.argsort(turn[:, 0]))
    slope, intercept = header.get_slope_inter()
    return Volume(
        name=name,
        stored=apply_orientation(stored, turn).transpose(2, 1, 0),
        spacing=(x, y, z),
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
    )


def read_slices(
    path: str | Path,
    num_slices: int = 10,
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
    window: tuple[float, float] = (-1000, 1000),
) -> np.ndarray:
    """
    Read the slices of one volume.

    Args:
        path (`str` or `Path`):
            A `.nii.gz` or `.nii` whose header yields HU.
        num_slices (`int`, *optional*, defaults to `10`):
            Number of axial planes, evenly spread over the whole depth.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size to resample to, in mm as x, y, z.
        window (`tuple[float, float]`, *optional*, defaults to `(-1000, 1000)`):
            HU that become -1 and 1.

    Returns:
        `np.ndarray`: float32 of shape `[num_slices, H, W]` in [-1, 1]: superior first, anterior up, the patient's
        right on the left.
    """
    return read_volume(path).slices(num_slices, spacing, window)[0]


def fit(slices: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre-crop `slices` of shape `[S, h, w]`, or pad them with air, to `[S, height, width]`."""
    fitted = np.full((len(slices), height, width), AIR, dtype=slices.dtype)
    (to_y, from_y), (to_x, from_x) = (_centre(n, m) for n, m in ((height, slices.shape[1]), (width, slices.shape[2])))
    fitted[:, to_y, to_x] = slices[:, from_y, from_x]
    return fitted


def _centre(to: int, of: int) -> tuple[slice, slice]:
    size = min(to, of)
    return slice((to - size) // 2, (to - size) // 2 + size), slice((of - size) // 2, (of - size) // 2 + size)


def _check_hu(name: str, hu: np.ndarray) -> None:
    """Rescaling twice, or not at all, is the best-known silent bug of CT-RATE users: the range gives it away."""
    if not np.isfinite(hu).all():
        raise VolumeError(f"{name}: the volume holds NaN or infinite values.")
    lowest, soft_tissue = float(hu.min()), float(np.percentile(hu[:, ::4, ::4], 99))
    if soft_tissue < -200:
        raise VolumeError(
            f"{name}: 99 % of the voxels lie below {soft_tissue:.0f} HU, so no soft tissue is left. The volume was "
            "probably rescaled twice: `*_fixed` files are HU already, through their NIfTI header."
        )
    if lowest > -500:
        raise VolumeError(
            f"{name}: the lowest value is {lowest:.0f} HU, so there is no air in this chest. The volume was probably "
            "never rescaled: use the `*_fixed` files, whose NIfTI header yields HU."
        )
