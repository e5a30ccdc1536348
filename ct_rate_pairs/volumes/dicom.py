"""
From DICOM files to the voxels of one series: reads the headers, chooses a series, sorts its slices, then reads pixels.

No message may name a patient. So only the elements in `_TEXTS` and `_NUMBERS` are read, and no message quotes the name
of a file, a UID, or pydicom's words about a value.
"""

import io
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian

from .slicing import MOST_VOXELS, VolumeError
from .windows import AIR_HU


logger = logging.getLogger(__name__)

DicomFile = Callable[[], BinaryIO]  # a function that opens one file of the scan

_TEXTS = (
    "ConvolutionKernel",
    "ImageType",
    "Modality",
    "PhotometricInterpretation",
    "RescaleType",
    "SeriesInstanceUID",
    "StudyInstanceUID",
)
# Elements with numbers, and how many numbers each element must hold. `_SAME` must be equal in all slices of a series.
_SAME = {"Rows": 1, "Columns": 1, "PixelSpacing": 2, "ImageOrientationPatient": 6}
_SCALE = {"RescaleSlope": 1, "RescaleIntercept": 1, "BitsAllocated": 1, "PixelRepresentation": 1}
_REQUIRED = {**_SAME, **_SCALE, "ImagePositionPatient": 3}
_OPTIONAL = {"NumberOfFrames": 1, "PixelPaddingRangeLimit": 1, "PixelPaddingValue": 1, "SeriesNumber": 1}
_NUMBERS = {**_REQUIRED, **_OPTIONAL}

_LARGEST = 1e9  # a number that is larger, infinite or NaN shows damage
_ENOUGH = 10  # slices that a series needs to be chosen without a number: as many as a model sees
_ROUNDING = 1e-3  # rounding error of cosines and voxel sizes that are written as decimals
_SAME_PLACE = 0.01  # mm: slices that are closer lie at the same place
_UNEVEN = 0.2  # of the spacing: some scanners round positions to 0.1 mm, and a missing slice differs by 1
_MOST_SHEAR = 1.0  # degrees between the stack and the normal of its slices: 5 mm over a chest
_AXIAL = np.cos(np.radians(20.0))  # smallest cosine between the normal of an axial slice and the body's axis
# A kernel in the style of Siemens, Canon, Philips or GE (Br59d, FC51, YA, BONEPLUS). Other text might be a name.
_KERNEL = re.compile(
    r"([A-Za-z]{1,2}\d{1,3}[a-z]?|[A-Z]{1,2}|STANDARD|LUNG|SOFT|BONE|BONEPLUS|DETAIL|EDGE|CHST)(, \d)?"
)

Header = dict[str, object]


@dataclass
class Stack:
    """
    The voxels of one series.

    Args:
        name (`str`):
            Name for messages, such as "series 1 of the scan".
        stored (`np.ndarray`):
            Stored values of shape `[K, Y, X]`. The slices are sorted along the normal of their planes.
        affine (`np.ndarray`):
            Matrix from (x, y, k) to RAS in mm, of shape `[4, 4]`. The origin is left out.
        slope (`float`):
            Slope in `HU = stored * slope + intercept`.
        intercept (`float`):
            Intercept of the same equation, in HU.
    """

    name: str
    stored: np.ndarray
    affine: np.ndarray
    slope: float
    intercept: float


def read_series(files: Iterable[DicomFile], number: int | None = None) -> Stack:
    """
    Read one series of DICOM images. Files that are not DICOM, not images, or localizers are left out.

    Args:
        files (`Iterable[Callable[[], BinaryIO]]`):
            One function per file, which opens the file. The order does not matter.
        number (`int`, *optional*):
            Number of the series, from 1, as an error message lists them. It is needed unless exactly one series is an
            axial CT.

    Returns:
        [`Stack`]: the stored values, if all slices share slope and intercept; otherwise HU in float32.

    Raises:
        `VolumeError`: if a file is truncated, if no series or more than one series fits, or if the chosen series is
            not a regular, upright stack of CT slices in HU. Such a series has, for example, another modality, another
            photometric interpretation, several frames per file, a compression that cannot be decoded, missing slices,
            two slices at one place, a gantry tilt, or slices of several sizes.
    """
    every = _series(files)
    name, headers = _choose(every, number)
    _check(name, headers)
    normal = _normal(headers[0])
    places, spacing = _order(name, headers, normal)
    stored, slope, intercept = _read_voxels(name, headers, places)
    # Cosines are written as decimals: without their rounding, the columns have exactly the length of the spacing.
    across, down = headers[0]["ImageOrientationPatient"].reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0] = across / np.linalg.norm(across) * headers[0]["PixelSpacing"][1]
    affine[:3, 1] = down / np.linalg.norm(down) * headers[0]["PixelSpacing"][0]
    affine[:3, 2] = normal / np.linalg.norm(normal) * round(spacing, 6)
    return Stack(name, stored, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, slope, intercept)  # from DICOM's LPS to RAS


def _series(files: Iterable[DicomFile]) -> list[list[Header]]:
    """The headers of each series. The series are sorted by their numbers."""
    groups, count, localizers, passed = defaultdict(list), 0, 0, 0
    for count, file in enumerate(files, start=1):
        header = _read_header(count, file)
        if header is None:
            passed += 1
            continue
        if "LOCALIZER" in header["ImageType"]:
            localizers += 1
            continue
        groups[header.pop("SeriesInstanceUID")].append(header)
    if not groups:
        if localizers:
            raise VolumeError(f"the scan: only localizers among its {count} files. Give the files of a CT series.")
        raise VolumeError(
            f"the scan: no DICOM image among its {count} files. Give the folder or zip of one CT series, whose files "
            "have DICOM's preamble (128 bytes, then DICM). Unpack a zip of a volume in another format."
        )
    if passed:
        logger.warning("%d of the scan's %d files are not DICOM images and were skipped.", passed, count)
    # Series with the same number are sorted by their UID, which is never shown.
    numbers = {uid: min(h.get("SeriesNumber", np.inf) for h in headers) for uid, headers in groups.items()}
    return [groups[uid] for uid in sorted(groups, key=lambda uid: (numbers[uid], uid))]


def _read_header(count: int, file: DicomFile) -> Header | None:
    """The elements that are needed, and how to open the file again; `None` if the file is not a DICOM image."""
    with _unquoted(f"file {count} of the scan is damaged"), file() as opened:
        try:
            read_preamble(opened, force=False)
        except InvalidDicomError:
            return None
        meta = read_dataset(opened, False, True, stop_when=lambda tag, *_: tag.group != 2)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax == DeflatedExplicitVRLittleEndian:  # pydicom would inflate the whole file, whatever its size
            raise VolumeError(f"file {count} of the scan is deflated. Write it again uncompressed (dcmconv +te).")
        opened.seek(0)
        dataset = dcmread(opened, stop_before_pixels=True, specific_tags=[*_TEXTS, *_NUMBERS])
        if "SeriesInstanceUID" not in dataset or "Rows" not in dataset:
            # A truncated CT slice is an error: the volume must not silently lack a slice.
            if meta.get("MediaStorageSOPClassUID", CTImageStorage) == CTImageStorage:
                raise VolumeError(f"file {count} of the scan is damaged: a truncated CT slice. Export it again.")
            return None
        header = {keyword: str(dataset.get(keyword, "")) for keyword in _TEXTS}
        for keyword, size in _NUMBERS.items():
            numbers = np.atleast_1d(np.array(dataset.get(keyword), dtype=float))
            if numbers.size == size and (np.abs(numbers) < _LARGEST).all():
                header[keyword] = numbers if size > 1 else float(numbers[0])
        return header | {"file": file, "syntax": syntax}


def study_of(file: DicomFile) -> str | None:
    """
    The UID of an image's study; `""` for a damaged image and `None` for a file that is not a DICOM image. The UID must
    never be shown.
    """
    try:
        header = _read_header(1, file)
    except VolumeError:
        return ""
    return header and header["StudyInstanceUID"]


@contextmanager
def _unquoted(message: str) -> Iterator[None]:
    """
    Replaces an error of pydicom by a [`VolumeError`] that names only its type, and hides all warnings: pydicom quotes
    values of the file, which may be a name or a date.
    """
    pydicom = logging.getLogger("pydicom")
    told = pydicom.disabled
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pydicom.disabled = True
            yield
    except (VolumeError, MemoryError):
        raise
    except Exception as error:
        raise VolumeError(f"{message} ({type(error).__name__}). Export the series again.") from None
    finally:
        pydicom.disabled = told


def _choose(every: list[list[Header]], number: int | None) -> tuple[str, list[Header]]:
    fitting = [n for n, headers in enumerate(every, start=1) if len(every) == 1 or _is_axial_ct(headers)]
    numbers = fitting if number is None else [number]
    if len(numbers) != 1 or not 1 <= numbers[0] <= len(every):
        listed = "\n".join(f"  {n}: {_describe(headers)}" for n, headers in enumerate(every, start=1))
        asked = (
            f"{len(fitting)} of its {len(every)} series are axial CT of {_ENOUGH} slices or more"
            if number is None
            else f"there is no series={number}"
        )
        raise VolumeError(f"the scan: {asked}. Choose one by its number, as series=1:\n{listed}")
    return f"series {numbers[0]} of the scan", every[numbers[0] - 1]


def _is_axial_ct(headers: list[Header]) -> bool:
    upright = all("ImageOrientationPatient" in h and abs(_normal(h)[2]) >= _AXIAL for h in headers)
    return upright and len(headers) >= _ENOUGH and all(h["Modality"] == "CT" for h in headers)


def _describe(headers: list[Header]) -> str:
    """Modality, slices, spacing and kernel. The description of a series is left out: free text may hold a name."""
    first = headers[0]
    modality = first["Modality"] if re.fullmatch("[A-Z]{2,4}", first["Modality"]) else "no modality"
    words = [modality, f"{int(sum(h.get('NumberOfFrames', 1) for h in headers))} slices"]
    if all(keyword in h for h in headers for keyword in ("ImageOrientationPatient", "ImagePositionPatient")):
        along = np.unique([round(float(h["ImagePositionPatient"] @ _normal(first)), 2) for h in headers])
        words += [f"{np.median(np.diff(along)):g} mm apart"] if len(along) > 1 else []
    if "PixelSpacing" in first:
        words.append("pixels of {:g} x {:g} mm".format(*first["PixelSpacing"]))
    kernel = first["ConvolutionKernel"].strip("[]").replace("'", "")  # the list as pydicom writes it
    return ", ".join(words + [f"kernel {kernel}"] * bool(_KERNEL.fullmatch(kernel)))


def _normal(header: Header) -> np.ndarray:
    """Unit vector `[3]` from one plane to the next, in LPS."""
    return np.cross(*header["ImageOrientationPatient"].reshape(2, 3))


def _check(name: str, headers: list[Header]) -> None:
    """Refuse a series that does not consist of CT slices of one size, each with its geometry and scale."""
    if any(h["Modality"] != "CT" for h in headers):
        raise VolumeError(f"{name} is {_describe(headers)}: this is no CT. Choose a CT series.")
    if any("NumberOfFrames" in h and (h["NumberOfFrames"] > 1 or "ImagePositionPatient" not in h) for h in headers):
        raise VolumeError(
            f"{name}: Enhanced (multi-frame) CT is not supported. Convert it to one file per slice, or to NIfTI "
            "(dcm2niix)."
        )
    if any(h["PhotometricInterpretation"] != "MONOCHROME2" for h in headers):
        raise VolumeError(f"{name}: CT in HU is MONOCHROME2, these images are not. Choose the original series.")
    for keyword in _REQUIRED:
        if missing := sum(keyword not in h for h in headers):
            raise VolumeError(
                f"{name}: {keyword} is missing or unreadable in {missing} of its {len(headers)} files. Choose the "
                "original series, or export it again."
            )
    if any(h["RescaleType"] not in ("", "HU", "US") for h in headers) or any(not h["RescaleSlope"] for h in headers):
        raise VolumeError(f"{name}: its values do not rescale to HU. Choose the original series.")
    for keyword in _SAME:
        values = np.array([h[keyword] for h in headers]).reshape(len(headers), -1)
        if np.ptp(values, axis=0).max() > _ROUNDING:
            kinds, counts = np.unique(values.round(3), axis=0, return_counts=True)
            listed = ", ".join(f"{kind.tolist()} in {count}" for kind, count in zip(kinds, counts, strict=True))
            raise VolumeError(
                f"{name}: its slices differ in {keyword} ({listed}). Give only the slices of one volume."
            )
    if abs(np.linalg.norm(_normal(headers[0])) - 1) > _ROUNDING or min(headers[0]["PixelSpacing"]) <= 0:
        raise VolumeError(f"{name}: its orientation or pixel spacing spans no plane. Export the series again.")
    for syntax in sorted({h["syntax"] for h in headers}):
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise VolumeError(f"{name}: pydicom does not know its transfer syntax. Write it uncompressed.") from None
        if not decoder.is_available:
            raise VolumeError(
                f"{name}: its pixels are compressed as {UID(syntax).name}, which needs a plug-in of pydicom: "
                "pip install 'ct-rate-pairs[dicom]'."
            )


def _order(name: str, headers: list[Header], normal: np.ndarray) -> tuple[list[np.ndarray], float]:
    """The indices of the headers at each place along the normal, and the distance between places, in mm."""
    positions = np.array([h["ImagePositionPatient"] for h in headers])  # [N, 3]
    along = positions @ normal
    order = np.argsort(along)
    places = np.split(order, np.flatnonzero(np.diff(along[order]) > _SAME_PLACE) + 1)
    along = np.array([along[place[0]] for place in places])
    if len(places) < 2:
        raise VolumeError(f"{name}: one slice is no volume. Give the whole series, or choose another with series=.")
    extent = along[-1] - along[0]
    offsets = positions - positions[order[0]]
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1).max()
    tilt = np.degrees(np.arctan2(sideways, extent))
    if tilt > _MOST_SHEAR:
        raise VolumeError(
            f"{name}: its slices are stacked at {tilt:.0f} degrees to their normal (gantry tilt), so they are no "
            "upright grid. Resample the series, or leave it out."
        )
    gaps = np.diff(along)
    spacing = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - spacing) > _UNEVEN * spacing)
    if len(uneven):
        missing = int(sum(max(round(gap / spacing) - 1, 0) for gap in gaps[uneven]))
        cause = f"{missing} missing slices" if missing else "slices out of place"
        listed = ", ".join(f"{along[i]:.1f} to {along[i + 1]:.1f} mm" for i in uneven[:3])
        raise VolumeError(
            f"{name}: {cause}, where {len(uneven)} gaps differ from the spacing of {spacing:g} mm ({listed}). Export "
            "the whole series again, or leave it out."
        )
    return places, extent / len(gaps)


def _read_voxels(name: str, headers: list[Header], places: list[np.ndarray]) -> tuple[np.ndarray, float, float]:
    """The voxels `[K, Y, X]`, their slope and their intercept. Only one more slice is in memory at a time."""
    shape = (len(places), int(headers[0]["Rows"]), int(headers[0]["Columns"]))
    if np.prod(shape, dtype=float) > MOST_VOXELS:
        raise VolumeError(f"{name}: the headers promise {shape} voxels, more than any CT has. Export it again.")
    scales = {tuple(h[keyword] for keyword in _SCALE) for h in headers}
    slope, intercept = next(iter(scales))[:2] if len(scales) == 1 else (1.0, 0.0)
    stored, copies = None, 0
    for k, place in enumerate(places):
        for i in place:
            with _unquoted(f"{name}: slice {k + 1} cannot be decoded"):
                pixels = _read_pixels(headers[i], in_hu=len(scales) > 1)
            if stored is None:
                stored = np.empty(shape, pixels.dtype)
            if pixels.shape != shape[1:]:
                raise VolumeError(f"{name}: slice {k + 1} is no single plane of {shape[1:]}. Export it again.")
            if i == place[0]:
                stored[k] = pixels
            elif np.array_equal(stored[k], pixels):
                copies += 1
            else:
                raise VolumeError(
                    f"{name}: slice {k + 1} (of {len(places)}) is there {len(place)} times, with different pixels. "
                    "Give only the files of one volume: one phase, one reconstruction."
                )
    if copies:
        logger.warning("%s: %d files repeat a slice, pixel by pixel, and were dropped.", name, copies)
    return stored, slope, intercept


def _read_pixels(header: Header, in_hu: bool) -> np.ndarray:
    """The pixels of a slice, `[Y, X]`, as stored values or in HU. Padding becomes air."""
    with header["file"]() as opened:
        pixels = pixel_array(io.BytesIO(opened.read()))  # read to the end, where a zip checks the checksum
    slope, intercept, kinds = header["RescaleSlope"], header["RescaleIntercept"], np.iinfo(pixels.dtype)
    if "PixelPaddingValue" in header:
        ends = [header["PixelPaddingValue"], header.get("PixelPaddingRangeLimit", header["PixelPaddingValue"])]
        # Some files write -2000 as the unsigned 63536. In the data type of the pixels, both are the same value.
        low, high = sorted(np.array(ends).astype(np.int64).astype(pixels.dtype))
        air = np.clip(np.rint((AIR_HU - intercept) / slope), kinds.min, kinds.max)
        pixels[(pixels >= low) & (pixels <= high)] = air
    return pixels * np.float32(slope) + np.float32(intercept) if in_hu else pixels
