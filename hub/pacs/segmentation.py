"""
Writes the masks of a report as a DICOM Segmentation, which stands in its study beside the images.

Each stated finding with a mask is a segment. Its frames are the images that the slices were taken from, and no other
images: nothing is known of those between them. By its nature, a Segmentation names the patient and the study.
"""

from importlib.metadata import version

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, generate_uid

from ct_rate_pairs.hub.reporting.masks import ScanMasks
from ct_rate_pairs.hub.reporting.scan_report import ScanReport
from ct_rate_pairs.masks.in_scan import in_file_order
from ct_rate_pairs.volumes.instances import Instance

from .elements import seen_images, short_text, wrong_value
from .finding_codes import CODES
from .server import unheard


WHAT = "Segmentation"
SERIES_NUMBER = 9001  # beside that of the Structured Report
DESCRIPTION = "Coarse masks of a model, unverified. Not a medical device."
_LPS = np.array([-1.0, -1.0, 1.0])  # from RAS
_DECIMALS = 9  # of a number, which has at most 16 letters in DICOM
_ABNORMAL = CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure")
_OBJECT = CodedConcept("260787004", "SCT", "Physical object")


def make_segmentation(report: ScanReport) -> Segmentation | None:
    """
    The masks of a report as a binary DICOM Segmentation.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report of a DICOM scan, by a model with a mask head.

    Returns:
        `Segmentation` or `None`: the document, in a new series of the study of the scan. It names the patient. `None`
        if no finding that the report states has a mask: a Segmentation cannot be empty.

    Raises:
        `ValueError`: if the model has no mask head, if the scan is no DICOM, or if its header lacks UIDs or holds
            values that no document may have.

    Example:

    ```python
    report = load_reporter("USER/model").report("dicom_folder")
    make_segmentation(report).save_as("masks.dcm")
    ```
    """
    if report.masks is None:
        raise ValueError("There are no masks to write: the model has no mask head (mask_head.safetensors).")
    images = seen_images(report, WHAT)
    if not report.masks.shown:
        return None
    if not images[0].get("FrameOfReferenceUID"):
        raise ValueError(
            "The images of the scan lack a FrameOfReferenceUID, so no Segmentation can tell where its masks lie. "
            "Export the series again."
        )
    frames = _frames(report)
    sources = [_placed(images[numbers[0]], report, numbers[0]) for numbers in frames]
    try:
        with unheard():
            document = Segmentation(
                source_images=sources,
                pixel_array=_pixels(report.masks, frames),
                segmentation_type=SegmentationTypeValues.BINARY,
                segment_descriptions=_segments(report),
                series_instance_uid=generate_uid(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="ct-rate-pairs",
                manufacturer_model_name=short_text(report.model) or "unnamed model",
                software_versions=(short_text(report.version) or "unknown", short_text(version("ct-rate-pairs"))),
                device_serial_number="none",
                content_label="FINDINGS",
                content_description=DESCRIPTION,
                series_description=DESCRIPTION,
                specific_character_set="ISO_IR 192",
            )
    except Exception as error:
        raise wrong_value(WHAT, error) from None
    if report.instances.images[0].frame is not None:
        _name_frames(document, [report.instances.images[numbers[0]] for numbers in frames])
    return document


def _frames(report: ScanReport) -> list[list[int]]:
    """The slices that each image shows, counted from 0: slices of a thick scan may share an image."""
    slices: dict[Instance, list[int]] = {}
    for number, image in enumerate(report.instances.images):
        slices.setdefault(image, []).append(number)
    return list(slices.values())


def _pixels(masks: ScanMasks, frames: list[list[int]]) -> np.ndarray:
    """The masks on the images, as their pixels are stored, uint8 `[frames, rows, columns, segments]`."""
    pixels = []
    for numbers in frames:
        planes = [masks.plan.in_plane(shown[numbers].any(axis=0)) for shown in masks.shown.values()]  # [Y, X] each
        pixels.append([in_file_order(plane[None], masks.plan)[0][..., 0].T for plane in planes])
    return np.moveaxis(np.array(pixels, np.uint8), 1, -1)


def _placed(image: Dataset, report: ScanReport, number: int) -> Dataset:
    """An image with its size and its place, as highdicom asks for them."""
    plan = report.masks.plan
    rows_last, affine = in_file_order(np.empty((1, *plan.shape[1:]), bool), plan)
    image.Columns, image.Rows = rows_last.shape[:2]
    across, down, deep = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = [affine[:3, 0] / across * _LPS, affine[:3, 1] / down * _LPS]
    image.ImageOrientationPatient = np.concatenate(cosines).round(_DECIMALS).tolist()
    image.ImagePositionPatient = list(report.instances.images[number].position)
    image.PixelSpacing = [round(down, _DECIMALS), round(across, _DECIMALS)]
    image.SOPClassUID = CTImageStorage  # of a frame, too, see `_name_frames`
    image.SliceThickness = image.get("SliceThickness") or round(deep, _DECIMALS)
    return image


def _name_frames(document: Segmentation, images: list[Instance]) -> None:
    """
    Completes what refers to one Enhanced CT. highdicom takes a whole file of that class, and not some of its frames.
    So it has got each frame as an image of its own, and all of them share a UID.
    """
    series = document.ReferencedSeriesSequence[0]
    document.SourceImageSequence = document.SourceImageSequence[:1]
    series.ReferencedInstanceSequence = series.ReferencedInstanceSequence[:1]
    named = [document.SourceImageSequence[0], series.ReferencedInstanceSequence[0]]
    places = np.array([image.position for image in images])
    for frame in document.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        off = places - np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        source.ReferencedFrameNumber = images[np.abs(off).sum(axis=1).argmin()].frame
        named.append(source)
    for reference in named:
        reference.ReferencedSOPClassUID = images[0].sop_class_uid


def _segments(report: ScanReport) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=short_text(report.model) or "unnamed model",
        family=codes.DCM.ArtificialIntelligence,
        version=short_text(report.version) or "unknown",
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=_OBJECT if label == "Medical material" else _ABNORMAL,
            segmented_property_type=CodedConcept(*CODES[label]),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, label in enumerate(report.masks.shown, start=1)
    ]
