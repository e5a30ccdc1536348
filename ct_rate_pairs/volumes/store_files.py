"""The files of whole prepared volumes: NIfTI with normalised values, or plain arrays of HU. Both are memory-mapped."""

import math
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from ct_rate_pairs.whole_files import whole_file

from .slicing import Volume
from .windows import Window, windows_of


ENDINGS = {"preprocessed": ".nii", "preprocessed_numpy": ".npy"}
_STEPS = 2**15 - 1  # of int16 from 0 to 1
_OFFSET = 352  # bytes of a NIfTI header before the voxels


class Facts(NamedTuple):
    """What the table of a copy holds of a volume: its shape `(Z, Y, X)`, voxel size in mm as x, y, z, and lungs."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    lungs: tuple[float, float] | None


def rescaling_of(form: str, window: Window) -> tuple[float, float]:
    """Slope and intercept from the stored whole numbers of a form to HU. `window` is that of normalised values."""
    if form == "preprocessed_numpy":
        return 1.0, 0.0
    ((low, high),) = windows_of(window)
    return (high - low) / 2 / _STEPS, (high + low) / 2


def write_volume(file: Path, form: str, volume: Volume) -> None:
    """Writes a volume of int16 whose slope and intercept are those of [`rescaling_of`]. Its folder must exist."""
    with whole_file(file) as part, part.open("wb") as opened:
        if form == "preprocessed_numpy":
            np.save(opened, np.ascontiguousarray(volume.stored.transpose(0, 2, 1)))  # [Z, X, Y]
        else:
            opened.write(_header(volume.stored.shape, volume.affine))
            opened.write(np.ascontiguousarray(volume.stored))  # x varies fastest, as in NIfTI


def _header(shape: tuple[int, int, int], affine: np.ndarray) -> bytes:
    """The start of a NIfTI file of int16 whose slope gives values in [-1, 1]."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape[::-1])
    header.set_slope_inter(1 / _STEPS, 0)
    header.set_xyzt_units("mm")
    header.set_qform(affine, code="scanner")
    header.set_sform(affine, code="scanner")
    header["vox_offset"] = _OFFSET
    return header.binaryblock.ljust(_OFFSET, b"\0")


def open_volume(name: str, file: Path, form: str, window: Window, facts: Facts) -> Volume:
    """
    A volume whose voxels are read from the disk as they are looked at.

    Args:
        name (`str`):
            Name of the volume, for messages.
        file (`Path`):
            The file.
        form (`str`):
            `"preprocessed"` or `"preprocessed_numpy"`.
        window (`str` or `tuple`):
            The window of normalised values.
        facts ([`Facts`]):
            What the file must hold.

    Returns:
        [`~ct_rate_pairs.volumes.Volume`]: the volume. Its affine is left in the file.

    Raises:
        `ValueError`: if the file does not hold an int16 array of this shape, to its last byte.
        `OSError`: if the file cannot be read.
    """
    if form == "preprocessed_numpy":
        array = np.load(file, mmap_mode="r", allow_pickle=False)  # [Z, X, Y]
        if array.ndim != 3 or array.dtype != np.int16:
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}, but should hold int16 of (z, x, y)")
        stored = array.transpose(0, 2, 1)
    else:
        with file.open("rb") as opened:
            header = nib.Nifti1Header.from_fileobj(opened)
        if header.get_data_dtype() != np.int16 or header["vox_offset"] != _OFFSET:
            raise ValueError("it is no NIfTI file as `ct-rate-pairs prepare` writes it")
        if file.stat().st_size != _OFFSET + 2 * math.prod(facts.shape):
            raise ValueError(f"it has {file.stat().st_size} bytes, which are not those of {facts.shape} voxels")
        stored = np.memmap(file, np.int16, "r", _OFFSET, header.get_data_shape()[::-1])
    lungs = facts.lungs or (0.0, 1.0)
    if not all(0 < side < math.inf for side in facts.spacing) or not 0 <= lungs[0] < lungs[1] <= 1:
        raise ValueError(f"its table says voxels of {facts.spacing} mm and lungs at {facts.lungs} of the depth")
    if stored.shape != facts.shape:
        raise ValueError(f"it holds {stored.shape} voxels as z, y, x, but its table says {facts.shape}")
    slope, intercept = rescaling_of(form, window)
    return Volume(name, stored, facts.spacing, slope, intercept, lungs=facts.lungs, is_checked=True)
