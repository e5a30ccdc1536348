"""
Reads the headers of DICOM images: one header per file, or one per frame of an Enhanced CT.

No message may name a patient. So no message quotes the name of a file, a UID, pydicom's words about a value, or a
value that is neither a number nor one of known words.
"""

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from ..slicing import VolumeError
from .plain_files import before_pixels, lacking_of, read_meta


DicomFile = Callable[[], BinaryIO]  # a function that opens one file of the scan
Header = dict[str, object]

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_TEXTS = (
    "AccessionNumber",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ClinicalTrialSubjectID",
    "ClinicalTrialTimePointID",
    "ConcatenationUID",
    "ContentDate",
    "ContentTime",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "DeviceSerialNumber",
    "FilterType",
    "FrameOfReferenceUID",
    "FrameReferenceDateTime",
    "ImageType",
    "InstitutionName",
    "IrradiationEventUID",
    "IssuerOfPatientID",
    "LossyImageCompression",
    "LossyImageCompressionMethod",
    "LossyImageCompressionRatio",
    "Modality",
    "PatientAge",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientPosition",
    "PatientSex",
    "PhotometricInterpretation",
    "RescaleType",
    "ScanOptions",
    "SeriesDate",
    "SeriesInstanceUID",
    "SeriesTime",
    "SOPClassUID",
    "SOPInstanceUID",
    "StackID",
    "StationName",
    "StudyDate",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
    "VolumeBasedCalculationTechnique",
)
# Elements with numbers, and how many numbers each element must hold. `PLANE` is equal in all slices of a volume.
PLANE = {"ImageOrientationPatient": 6, "PixelSpacing": 2, "Rows": 1, "Columns": 1}
SCALE = {"RescaleSlope": 1, "RescaleIntercept": 1, "BitsAllocated": 1, "PixelRepresentation": 1}
REQUIRED = {**PLANE, **SCALE, "ImagePositionPatient": 3, "BitsStored": 1, "SamplesPerPixel": 1}
_OPTIONAL = {
    "AcquisitionNumber": 1,
    "GantryDetectorTilt": 1,
    "HighBit": 1,
    "ImagesInAcquisition": 1,
    "InConcatenationNumber": 1,
    "InConcatenationTotalNumber": 1,
    "InstanceNumber": 1,
    "KVP": 1,
    "NominalPercentageOfCardiacPhase": 1,
    "NumberOfFrames": 1,
    "NumberOfSeriesRelatedInstances": 1,
    "PixelPaddingRangeLimit": 1,
    "PixelPaddingValue": 1,
    "ReconstructionDiameter": 1,
    "SeriesNumber": 1,
    "SliceThickness": 1,
    "SpacingBetweenSlices": 1,
    "TemporalPositionIdentifier": 1,
    "TemporalPositionIndex": 1,
    "TemporalPositionTimeOffset": 1,
    "TriggerTime": 1,
}
_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# All short elements that say how and when an image was made. Slices are compared by them, whatever they mean.
_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020)
_LONG = ("LT", "OB", "OB or OW", "OD", "OF", "OL", "OV", "OW", "ST", "UC", "UN", "UR", "UT")
SHORT = [tag for tag, entry in DicomDictionary.items() if tag >> 16 in _GROUPS and entry[0] not in _LONG]
_READ = {*SHORT, *(tag_for_keyword(keyword) for keyword in (*REQUIRED, *_OPTIONAL, *_FRAMES, *_TEXTS))}
AT_PIXELS = {tag_for_keyword(keyword) for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")}
_PIXELS = 0x0028  # the group of elements that say how pixels are stored: each slice may have its own
# What a frame of an Enhanced CT calls elements that an image of its own calls otherwise.
_OF_FRAMES = {
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameType": "ImageType",
}
# What the functional groups of a frame say of its voxels. The file may say it once more, outside of them.
_OF_GROUPS = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SliceThickness",
    "SpacingBetweenSlices",
)
# Of the warnings of pydicom, those after which pixels may be wrong. Surplus pixels, and elements that are written in
# another way than the meta information says, are found without pydicom. The others are about values that are not
# needed, or that are checked here.
_WRONG_PIXELS = (
    "The decoded RLE segment contains non-conformant padding",
    "The end of the encapsulated pixel data has been reached",
    "The decoding plugin has changed",
)
_MOST_COMPARED = 64  # bytes of a value to compare; a longer one is hashed
_NUMBERS = {1: "a number", 2: "two numbers", 3: "three numbers", 6: "six numbers"}
# What may be shown where a number should be, such as one with a comma. A date or an identifier is not like it.
_NEARLY_A_NUMBER = re.compile(r"[-+]?\d{0,5}([.,]\d{3})?([.,]\d*)?([eE][-+]?\d{1,4})?")
_MOST_SHOWN = 80  # characters
_SAME = 1e-5  # between two readings of one number, which may have other decimals
_LARGEST = 1e9  # a number that is larger, infinite or NaN shows damage
# What a file without TransferSyntaxUID is, by how it is written: with implicit VR, and with the low byte first.
_WRITTEN = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
_MOST_START = 2**18  # bytes that are read of a file to find its study, without a process apart
_LAST_OF_START = tag_for_keyword("Rows")  # the image and its study are known by then
_START = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows")
_MOST_BESIDE = 2**26  # bytes of a file beside its pixels, which are passed over


def read_headers(count: int, file: DicomFile) -> list[Header] | None:
    """
    The header of each image in a file: the elements that are needed, `"file"`, which opens the file again, its number
    `"count"`, how many `"frames"` it has, the number of the `"frame"` in it, from 0, `"Multiframe"`, which is equal in
    the frames of a file or of a concatenation of files, the transfer `"syntax"`, and whether its elements are written
    with `"implicit"` VR. Empty for a DICOM file without an image, and `None` for a file that is not DICOM.
    """
    with unquoted(f"file {count} of the scan is damaged"), file() as opened:
        lacking = lacking_of(opened)
        if lacking is None:
            return None
        meta, plain, _ = read_meta(count, opened)
        tags = []
        dataset = read_partial(
            before_pixels(count, plain), lambda tag, *_: tags.append(tag) or tag in AT_PIXELS, specific_tags=_READ
        )
        if lacking and "SOPClassUID" not in dataset:
            return None  # it only begins like DICOM
        if not _is_image(count, meta, dataset):
            return []
        if twice := [keyword for keyword in REQUIRED if tags.count(tag_for_keyword(keyword)) > 1]:
            raise VolumeError(
                f"file {count} of the scan is damaged: it has {twice[0]} twice. Export the series again."
            )
        written = dataset.get_item("SeriesInstanceUID")
        frames = [(dataset, Dataset())]
        if dataset.get("SOPClassUID") in CT_CLASSES:
            frames = _frames_of(count, dataset)
        of_file = {
            "file": file,
            "count": count,
            "frames": len(frames),
            "syntax": str(meta.get("TransferSyntaxUID") or _WRITTEN[written.is_implicit_VR, written.is_little_endian]),
            "implicit": written.is_implicit_VR,
            "has_pixels": tags[-1] in AT_PIXELS,
            "Multiframe": str(dataset.get("ConcatenationUID") or (f"{count:09}" if len(frames) > 1 else "")),
        }
        return [
            _header(count, image) | of_file | {"frame": frame, "Overridden": _overridden(image, others)}
            for frame, (image, others) in enumerate(frames)
        ]


def study_of(file: DicomFile) -> str | None:
    """
    The UID of an image's study; `""` for a damaged image and `None` for a file that is not a DICOM image. The UID must
    never be shown. Only the start of the file is read, whatever follows or is inflated.
    """
    try:
        with unquoted("a file of the scan is damaged"), file() as opened:
            start = io.BytesIO(opened.read(_MOST_START))
            lacking = lacking_of(start)
            if lacking is None:
                return None
            meta, plain, _ = read_meta(1, start, _MOST_START // 2)  # a start of a deflated file inflates to that
            dataset = read_partial(
                before_pixels(1, plain),
                lambda tag, *_: tag > _LAST_OF_START,
                specific_tags=[tag_for_keyword(keyword) for keyword in _START],
            )
            if (lacking and "SOPClassUID" not in dataset) or not _is_image(1, meta, dataset):
                return None
            return str(dataset.get("StudyInstanceUID", "")).strip()
    except (VolumeError, MemoryError):
        return ""


def _is_image(count: int, meta: Dataset, dataset: Dataset) -> bool:
    """
    Whether a DICOM file has an image. A truncated CT slice is an error: the volume must not silently lack a slice.
    """
    if "SeriesInstanceUID" in dataset and "Rows" in dataset:
        return True
    kind = meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID") or CTImageStorage
    if kind in CT_CLASSES:
        raise VolumeError(
            f"file {count} of the scan is damaged: a truncated CT slice, or one that is written in another way than "
            "its TransferSyntaxUID says. Export it again."
        )
    return False


def read_content(header: Header) -> BinaryIO:
    """The whole file of a header, in memory: it is read to its end, where a zip checks the checksum."""
    pixels = header["frames"] * header["Rows"] * header["Columns"] * header["BitsAllocated"] / 8
    most = int(2 * pixels) + _MOST_BESIDE
    with header["file"]() as opened:
        content = opened.read(most + 1)
    if len(content) <= most:
        plain, whole = read_meta(header["count"], io.BytesIO(content), most)[1:]
        if whole:
            return plain
    raise VolumeError(
        f"file {header['count']} of the scan has more than {most / 2**20:.0f} MB, but its header describes "
        f"{pixels / 2**20:.1f} MB of pixels. Export it again."
    )


def _frames_of(count: int, dataset: Dataset) -> list[tuple[Dataset, Dataset]]:
    """
    The frames of an Enhanced CT: the elements of the file, and over them those of the functional groups that all
    frames share, and of the frame's own. Beside each frame is what these were laid over. An image without frames
    stands for itself.
    """
    shared, own = (dataset.get(keyword) or [] for keyword in _FRAMES)
    if not own:
        return [(dataset, Dataset())]
    if dataset.get("NumberOfFrames", 1) != len(own):
        raise VolumeError(
            f"file {count} of the scan is damaged: NumberOfFrames is {dataset.get('NumberOfFrames', 1)}, but "
            f"PerFrameFunctionalGroupsSequence describes {len(own)} frames. Export the series again."
        )
    # Elements are copied as they were read: one that is not needed may hold what is no value.
    of_file = {tag: dataset.get_item(tag) for tag in tuple(dataset.keys()) if keyword_for_tag(tag) not in _FRAMES}
    first = int(dataset.get("ConcatenationFrameOffsetNumber") or 0) + 1
    frames = []
    for number, group in enumerate(own, start=first):
        frame, others = Dataset(), Dataset()
        frame.update(of_file)
        for element in (element for groups in (*shared, group) for element in groups):
            if element.VR == "SQ" and len(element.value) == 1:
                others.update({tag: frame.get_item(tag) for tag in element.value[0].keys() & frame.keys()})
                frame.update(element.value[0])
            else:
                frame[element.tag] = element  # such as several contrast agents: only to compare
        for theirs, keyword in _OF_FRAMES.items():
            if theirs in frame:
                frame.add_new(keyword, dictionary_VR(keyword), frame[theirs].value)
        # New elements, because those of the file are shared by all frames.
        frame.add_new("InstanceNumber", "IS", number)
        frame.add_new("NumberOfFrames", "IS", 1)
        frames.append((frame, others))
    return frames


def _overridden(frame: Dataset, others: Dataset) -> dict[str, str]:
    """What is said of a frame outside of its own functional group, for messages, where that says something else."""
    differing = {}
    for keyword in _OF_GROUPS:
        if keyword not in others or _shown(others, keyword) == "empty":
            continue
        try:
            taken, other = (np.atleast_1d(np.array(image.get(keyword), dtype=float)) for image in (frame, others))
        except (TypeError, ValueError):
            differing[keyword] = _shown(others, keyword)
            continue
        if taken.shape != other.shape or not np.allclose(taken, other, rtol=_SAME, atol=_SAME):
            differing[keyword] = "\\".join(f"{number:g}" for number in other)
    return differing


def _header(count: int, image: Dataset) -> Header:
    header = {"Compared": _compared(image), "Unreadable": {}}  # before values are converted
    header |= {keyword: str(image.get(keyword, "")).strip() for keyword in _TEXTS}
    for keyword, size in {**REQUIRED, **_OPTIONAL}.items():
        try:
            numbers = np.atleast_1d(np.array(image.get(keyword), dtype=float))
        except (TypeError, ValueError):
            if keyword in REQUIRED:
                stored = _shown(image, keyword)
                point = " DICOM writes decimals with a point." if "," in stored else ""
                raise VolumeError(
                    f"file {count} of the scan: {keyword} is {stored}, which is not {_NUMBERS[size]}.{point} "
                    "Correct it (dcmodify -m), or export the series again."
                ) from None
            continue  # as if it were not there
        if numbers.size == size and (np.abs(numbers) < _LARGEST).all():
            header[keyword] = numbers if size > 1 else float(numbers[0])
        elif keyword in image:
            header["Unreadable"][keyword] = _shown(image, keyword)
    return header


def _shown(image: Dataset, keyword: str) -> str:
    """The value of an element of numbers, for a message. What may be a word is not shown."""
    element = image.get_item(keyword)
    value = "" if element is None else element.value
    if isinstance(value, bytes):
        text = value.decode("latin-1").strip(" \0")
    else:
        parts = value if isinstance(value, MultiValue) else [value]
        text = "\\".join("" if part is None else str(part) for part in parts)
    if len(text) <= _MOST_SHOWN and all(_NEARLY_A_NUMBER.fullmatch(part.strip()) for part in text.split("\\")):
        return repr(text).replace("\\\\", "\\") if text else "empty"
    return f"a text of {len(text)} characters"


def _compared(image: Dataset) -> dict[str, bytes]:
    """The elements that say how and when an image was made, by keyword, as they are stored: only to compare them."""
    compared = {}
    for tag in tuple(image.keys()):
        if (keyword := keyword_for_tag(tag)) and tag.group != _PIXELS and keyword not in _FRAMES:
            value = image.get_item(tag).value
            if not isinstance(value, bytes):
                is_sequence = isinstance(value, Sequence)
                value = str([sorted(_compared(item).items()) for item in value] if is_sequence else value).encode()
            value = (value or b"").strip(b" \0")
            if value:
                compared[keyword] = value if len(value) <= _MOST_COMPARED else hashlib.sha256(value).digest()
    # One of its numbers counts the slices.
    indices = np.atleast_1d(image.get("DimensionIndexValues", [])) if "DimensionIndexValues" in image else []
    for number, index in enumerate(indices, start=1):
        compared[f"DimensionIndexValues ({number} of {len(indices)})"] = b"%d" % index
    return compared


@contextmanager
def unquoted(message: str) -> Iterator[None]:
    """
    Replaces an error of pydicom by a [`VolumeError`] that names only its type, and hides warnings: pydicom quotes
    values of the file, which may be a name or a date. A warning that pixels are wrong is an error here.
    """
    pydicom = logging.getLogger("pydicom")
    told = pydicom.disabled
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for words in _WRONG_PIXELS:
                warnings.filterwarnings("error", message=words)
            pydicom.disabled = True
            yield
    except (VolumeError, MemoryError):
        raise
    except Exception as error:
        raise VolumeError(f"{message} ({type(error).__name__}). Export the series again.") from None
    finally:
        pydicom.disabled = told
