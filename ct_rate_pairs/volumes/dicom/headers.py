"""
Reads the headers of DICOM images: one header per file, or one per frame of an Enhanced CT.

No message may name a patient. So only the elements in `_TEXTS` and `_NUMBERS` are read, and no message quotes the name
of a file, a UID, or pydicom's words about a value.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from ..files import limited
from ..slicing import VolumeError


DicomFile = Callable[[], BinaryIO]  # a function that opens one file of the scan
Header = dict[str, object]

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_TEXTS = (
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "ConvolutionKernel",
    "FrameOfReferenceUID",
    "ImageType",
    "IrradiationEventUID",
    "LossyImageCompression",
    "Modality",
    "PhotometricInterpretation",
    "RescaleType",
    "SeriesInstanceUID",
    "SOPClassUID",
    "StackID",
    "StudyInstanceUID",
)
# Elements with numbers, and how many numbers each element must hold. `PLANE` is equal in all slices of a volume.
PLANE = {"ImageOrientationPatient": 6, "PixelSpacing": 2, "Rows": 1, "Columns": 1}
SCALE = {"RescaleSlope": 1, "RescaleIntercept": 1, "BitsAllocated": 1, "PixelRepresentation": 1}
REQUIRED = {**PLANE, **SCALE, "ImagePositionPatient": 3}
_OPTIONAL = {
    "AcquisitionNumber": 1,
    "BitsStored": 1,
    "HighBit": 1,
    "InstanceNumber": 1,
    "KVP": 1,
    "NominalPercentageOfCardiacPhase": 1,
    "NumberOfFrames": 1,
    "PixelPaddingRangeLimit": 1,
    "PixelPaddingValue": 1,
    "SeriesNumber": 1,
    "SliceThickness": 1,
    "SpacingBetweenSlices": 1,
    "TemporalPositionIdentifier": 1,
    "TriggerTime": 1,
}
_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# What a frame of an Enhanced CT calls elements that an image of its own calls otherwise.
_OF_FRAMES = {
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameType": "ImageType",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
_LARGEST = 1e9  # a number that is larger, infinite or NaN shows damage
_MOST_HEADER = (
    2**25
)  # bytes that are read of the elements before the pixels: 4,000 frames of an Enhanced CT have 16 MB
_MOST_BESIDE = 2**26  # bytes of a file beside its pixels, which are passed over


def read_headers(count: int, file: DicomFile) -> list[Header]:
    """
    The header of each image in a file: the elements that are needed, `"file"`, which opens the file again, its number
    `"count"`, how many `"frames"` it has, the number of the `"frame"` in it, from 0, `"Multiframe"`, the file's number
    once more if it holds several frames, and the transfer `"syntax"`. Empty if the file holds no DICOM image.
    """
    with unquoted(f"file {count} of the scan is damaged"), file() as opened:
        try:
            meta, plain, _ = _read_meta(count, opened, _MOST_HEADER)
        except InvalidDicomError:
            return []
        dataset = dcmread(
            _header_of(count, plain),
            stop_before_pixels=True,
            specific_tags=[*_TEXTS, *REQUIRED, *_OPTIONAL, *_FRAMES],
        )
        if "SeriesInstanceUID" not in dataset or "Rows" not in dataset:
            # A truncated CT slice is an error: the volume must not silently lack a slice.
            if meta.get("MediaStorageSOPClassUID", CTImageStorage) in CT_CLASSES:
                raise VolumeError(f"file {count} of the scan is damaged: a truncated CT slice. Export it again.")
            return []
        syntax = str(meta.get("TransferSyntaxUID", ""))
        frames = _frames_of(count, dataset) if dataset.get("SOPClassUID") in CT_CLASSES else [dataset]
        of_file = {"file": file, "count": count, "frames": len(frames), "syntax": syntax}
        if len(frames) > 1:
            of_file["Multiframe"] = float(count)
        return [_header(image) | of_file | {"frame": frame} for frame, image in enumerate(frames)]


def study_of(file: DicomFile) -> str | None:
    """
    The UID of an image's study; `""` for a damaged image and `None` for a file that is not a DICOM image. The UID must
    never be shown.
    """
    try:
        headers = read_headers(1, file)
    except (VolumeError, MemoryError):
        return ""
    return headers[0]["StudyInstanceUID"] if headers else None


def read_content(header: Header) -> BinaryIO:
    """The whole file of a header, in memory: it is read to its end, where a zip checks the checksum."""
    pixels = header["frames"] * header["Rows"] * header["Columns"] * header["BitsAllocated"] / 8
    most = int(2 * pixels) + _MOST_BESIDE
    with header["file"]() as opened:
        content = opened.read(most + 1)
    if len(content) <= most:
        plain, whole = _read_meta(header["count"], io.BytesIO(content), most)[1:]
        if whole:
            return plain
    raise VolumeError(
        f"file {header['count']} of the scan has more than {most / 2**20:.0f} MB, but its header describes "
        f"{pixels / 2**20:.1f} MB of pixels. Export it again."
    )


def _header_of(count: int, opened: BinaryIO) -> BinaryIO:
    """The file, of which no more can be read than the elements before the pixels have."""
    most = f"file {count} of the scan has more than {_MOST_HEADER / 2**20:.0f} MB of elements before its pixels."
    return limited(opened, _MOST_HEADER, VolumeError(f"{most} Export it again."))


def _read_meta(count: int, opened: BinaryIO, most: int) -> tuple[Dataset, BinaryIO, bool]:
    """
    The file's meta information, the file from its start, and whether that is the whole file: a deflated file is
    inflated to `most` bytes.
    """
    header = _header_of(count, opened)
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


def _frames_of(count: int, dataset: Dataset) -> list[Dataset]:
    """
    The frames of an Enhanced CT: the elements of the file, and over them those of the functional groups that all
    frames share, and of the frame's own. An image without frames stands for itself.
    """
    shared, own = (dataset.get(keyword) or [] for keyword in _FRAMES)
    if not own:
        return [dataset]
    if dataset.get("NumberOfFrames", 1) != len(own):
        raise VolumeError(
            f"file {count} of the scan is damaged: NumberOfFrames is {dataset.get('NumberOfFrames', 1)}, but "
            f"PerFrameFunctionalGroupsSequence describes {len(own)} frames. Export the series again."
        )
    frames = []
    for number, group in enumerate(own, start=1):
        frame = Dataset()
        frame.update({element.tag: element for element in dataset if element.keyword not in _FRAMES})
        for element in (element for groups in (*shared, group) for element in groups):
            if element.VR == "SQ" and len(element.value) == 1:
                frame.update(element.value[0])
        for theirs, keyword in _OF_FRAMES.items():
            if theirs in frame:
                frame.add_new(keyword, dictionary_VR(keyword), frame[theirs].value)
        # New elements, because those of the file are shared by all frames.
        frame.add_new("InstanceNumber", "IS", number)
        frame.add_new("NumberOfFrames", "IS", 1)
        frames.append(frame)
    return frames


def _header(image: Dataset) -> Header:
    header = {keyword: str(image.get(keyword, "")).strip() for keyword in _TEXTS}
    for keyword, size in {**REQUIRED, **_OPTIONAL}.items():
        try:
            numbers = np.atleast_1d(np.array(image.get(keyword), dtype=float))
        except (TypeError, ValueError):
            if keyword in REQUIRED:
                raise
            continue  # as if it were not there
        if numbers.size == size and (np.abs(numbers) < _LARGEST).all():
            header[keyword] = numbers if size > 1 else float(numbers[0])
    return header


@contextmanager
def unquoted(message: str) -> Iterator[None]:
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
