"""
Writes a report as a DICOM Structured Report, which stands in its study beside the images.

It is a Comprehensive SR, built as a basic diagnostic imaging report is (PS3.16, TID 2000): a text for people, and each
stated finding as a code with its confidence, its sentence and the images that it rests on. A measurement report (TID
1500) would need places within the images, which the model does not give.

By its nature, a Structured Report names the patient and the study. It is the one output of this project that does.
"""

from copy import deepcopy
from importlib.metadata import version

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ComprehensiveSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    NumContentItem,
    ObserverContext,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.hub.reporting.scan_report import Finding, ScanReport
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.volumes.instances import Instance

from .finding_codes import CODES, PRIVATE
from .server import unheard


DESCRIPTION = "Report of a model, unverified. Not a medical device."  # of its series
SERIES_NUMBER = 9000  # far from those of scanners
UNREAD = "Written by a model: no radiologist has read it"
# Which a Structured Report must have, even if they are empty, and of which images may lack some.
OF_WHOM = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
OF_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime")
_LONGEST = 64  # characters of a short text of DICOM


def make_structured_report(report: ScanReport) -> ComprehensiveSR:
    """
    A report as a DICOM Structured Report: PARTIAL, PRELIMINARY and UNVERIFIED, because no person has read it.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report of a DICOM scan.

    Returns:
        `ComprehensiveSR`: the document, in a new series of the study of the scan. It names the patient.

    Raises:
        `ValueError`: if the scan is no DICOM, or if its header lacks UIDs or holds values that no document may have.

    Example:

    ```python
    report = load_reporter("USER/model").report("dicom_folder")
    make_structured_report(report).save_as("report.dcm")
    ```
    """
    if report.instances is None:
        raise ValueError("A Structured Report names the images of its study: report a DICOM scan, not another format.")
    images = report.instances.images
    if not all(image.sop_instance_uid and image.sop_class_uid and image.study_uid for image in images):
        raise ValueError(
            "The images of the scan lack a UID (SOPInstanceUID, SOPClassUID, StudyInstanceUID), so no Structured "
            "Report can name them. Export the series again."
        )
    try:
        with unheard():
            document = ComprehensiveSR(
                evidence=_evidence(report),
                content=_content(report),
                series_instance_uid=generate_uid(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="ct-rate-pairs",
                manufacturer_model_name=_short(report.model) or "unnamed model",
                software_versions=(_short(report.version) or "unknown", _short(version("ct-rate-pairs"))),
                series_description=DESCRIPTION,
                coding_schemes=[
                    CodingSchemeIdentificationItem(PRIVATE, name="Findings of CT-RATE without another code")
                ],
                specific_character_set="ISO_IR 192",
            )
    except Exception as error:
        # Its words quote values of the patient.
        raise ValueError(
            f"The header of the scan holds a value that a Structured Report may not have ({type(error).__name__}), "
            "such as a date that is none. Correct it (dcmodify -m), or export the series again."
        ) from None
    document.CompletionFlagDescription = UNREAD
    return document


def _evidence(report: ScanReport) -> list[Dataset]:
    """The images that the model saw, each with the patient and the study."""
    whose = deepcopy(report.instances.header)
    for keyword in (*OF_WHOM, *OF_STUDY):
        if keyword not in whose:
            setattr(whose, keyword, "")
    evidence = []
    for image in report.instances.images:
        evidence.append(item := deepcopy(whose))
        item.SOPInstanceUID, item.SOPClassUID = image.sop_instance_uid, image.sop_class_uid
        item.SeriesInstanceUID, item.StudyInstanceUID = image.series_uid, image.study_uid
    return evidence


def _content(report: ScanReport) -> ContentSequence:
    """The document: what is to be known first, the report, its findings, and the images that the model saw."""
    root = ContainerContentItem(codes.LN.CTChestReport)
    root.ContentSequence = ContentSequence(
        [
            *([] if report.unread else LanguageOfContentItemAndDescendants(_language(report.text))),
            *ObserverContext(codes.DCM.Device, _observer(report)),
            *(_comment(caveat, "CONTAINS") for caveat in [NOTICE, *report.warnings]),
            _findings(report),
            _image_library(report),
        ]
    )
    return ContentSequence([root], is_root=True)


def _observer(report: ScanReport) -> DeviceObserverIdentifyingAttributes:
    return DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[report.model, report.version]),
        name=_text(report.model) or "unnamed model",
        manufacturer_name="ct-rate-pairs",
        model_name=f"{_text(report.model) or 'unnamed model'}, version {_text(report.version) or 'unknown'}",
    )


def _language(text: str) -> CodedConcept:
    value, meaning = ("zh", "Chinese") if is_chinese(text) else ("en", "English")
    return CodedConcept(value, "RFC5646", meaning)


def _comment(text: str, relationship: str) -> TextContentItem:
    return TextContentItem(codes.DCM.Comment, _text(text), relationship)


def _findings(report: ScanReport) -> ContainerContentItem:
    """The text of the report, each finding that it states, and the others in one comment, which no one can misread."""
    items: list[ContentItem] = [
        TextContentItem(codes.DCM.Finding, _text(report.text) or "The model wrote no report.", "CONTAINS")
    ]
    items += [_finding(finding, report.instances.images) for finding in report.findings if finding.stated]
    if not (report.unread or report.cut):
        others = [finding for finding in report.findings if not finding.stated]
        told = (f.label if f.confidence is None else f"{f.label} ({f.percent})" for f in others)
        items.append(_comment(f"Not stated (with the calibrated probability): {', '.join(told)}.", "CONTAINS"))
    section = ContainerContentItem(codes.LN.Findings, relationship_type="CONTAINS")
    section.ContentSequence = ContentSequence(items)
    return section


def _finding(finding: Finding, images: list[Instance]) -> CodeContentItem:
    """A finding with its confidence in percent, its sentence, and the images that it rests on."""
    value, scheme, meaning = CODES[finding.label]
    item = CodeContentItem(codes.DCM.Finding, CodedConcept(value, scheme, meaning), "CONTAINS")
    below: list[ContentItem] = []
    if finding.confidence is not None:
        percent = round(100 * finding.confidence, 1)
        below.append(NumContentItem(codes.DCM.CertaintyOfFinding, percent, codes.UCUM.Percent, None, "HAS PROPERTIES"))
    below += [_comment(finding.sentence, "HAS PROPERTIES")] if finding.sentence else []
    if finding.doubtful:
        below.append(_comment("Doubtful: its confidence is below the threshold of its label.", "HAS PROPERTIES"))
    below += [
        _image(codes.DCM.BestIllustrationOfFinding, images[number - 1], "INFERRED FROM") for number in finding.slices
    ]
    if below:
        item.ContentSequence = ContentSequence(below)
    return item


def _image_library(report: ScanReport) -> ContainerContentItem:
    """The images nearest to the slices that the model saw, from the top."""
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type="CONTAINS")
    seen = dict.fromkeys(report.instances.images)  # slices of a thick scan may share an image
    library.ContentSequence = ContentSequence([_image(codes.DCM.SourceImage, image, "CONTAINS") for image in seen])
    return library


def _image(name: CodedConcept, image: Instance, relationship: str) -> ImageContentItem:
    return ImageContentItem(
        name, image.sop_class_uid, image.sop_instance_uid, image.frame, relationship_type=relationship
    )


def _text(text: str) -> str:
    """A text without what DICOM does not allow in one, such as control characters, which are shown as escapes."""
    return for_terminal(text).strip().replace("\n", "\r\n")


def _short(text: str) -> str:
    """A short text, in which a backslash would begin another value."""
    return _text(text).replace("\\", "/").replace("\r\n", " ")[:_LONGEST].strip()
