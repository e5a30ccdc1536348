"""
Writes a report as a DICOM Structured Report, which stands in its study beside the images.

It is a Comprehensive SR, built as a basic diagnostic imaging report is (PS3.16, TID 2000): a text for people, and each
stated finding as a code with its confidence, its sentence and the images that it rests on. A measurement report (TID
1500) would need places within the images, which the model does not give.

By its nature, a Structured Report names the patient and the study, as a Segmentation does and no other output.
"""

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
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.hub.reporting.scan_report import WHY_DOUBTFUL, Finding, ScanReport
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.volumes.instances import Instance

from .elements import plain_text, seen_images, short_text, wrong_value
from .finding_codes import CODES, PRIVATE
from .server import unheard


DESCRIPTION = "Report of a model, unverified. Not a medical device."  # of its series
SERIES_NUMBER = 9000  # far from those of scanners
UNREAD = "Written by a model: no radiologist has read it"
WHAT = "Structured Report"


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
    evidence = seen_images(report, WHAT)
    try:
        with unheard():
            document = ComprehensiveSR(
                evidence=evidence,
                content=_content(report),
                series_instance_uid=generate_uid(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="ct-rate-pairs",
                manufacturer_model_name=short_text(report.model) or "unnamed model",
                software_versions=(short_text(report.version) or "unknown", short_text(version("ct-rate-pairs"))),
                series_description=DESCRIPTION,
                coding_schemes=[
                    CodingSchemeIdentificationItem(PRIVATE, name="Findings of CT-RATE without another code")
                ],
                specific_character_set="ISO_IR 192",
            )
    except Exception as error:
        raise wrong_value(WHAT, error) from None
    document.CompletionFlagDescription = UNREAD
    return document


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
        name=plain_text(report.model) or "unnamed model",
        manufacturer_name="ct-rate-pairs",
        model_name=f"{plain_text(report.model) or 'unnamed model'}, version {plain_text(report.version) or 'unknown'}",
    )


def _language(text: str) -> CodedConcept:
    value, meaning = ("zh", "Chinese") if is_chinese(text) else ("en", "English")
    return CodedConcept(value, "RFC5646", meaning)


def _comment(text: str, relationship: str) -> TextContentItem:
    return TextContentItem(codes.DCM.Comment, plain_text(text), relationship)


def _findings(report: ScanReport) -> ContainerContentItem:
    """The text of the report, each finding that it states, and the others in one comment, which no one can misread."""
    items: list[ContentItem] = [
        TextContentItem(codes.DCM.Finding, plain_text(report.text) or "The model wrote no report.", "CONTAINS")
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
        below.append(_comment(WHY_DOUBTFUL, "HAS PROPERTIES"))
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
