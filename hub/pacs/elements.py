"""What the DICOM documents of a report share: of whom they are, the images that the model saw, and plain texts."""

from copy import deepcopy

from pydicom import Dataset

from ct_rate_pairs.hub.reporting.scan_report import ScanReport
from ct_rate_pairs.shown_text import for_terminal


# Which a document must have, even if they are empty, and of which images may lack some.
OF_WHOM = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
OF_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime")
_LONGEST = 64  # characters of a short text of DICOM


def seen_images(report: ScanReport, what: str) -> list[Dataset]:
    """
    The images that the model saw, one per slice, each with the patient and the study.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report.
        what (`str`):
            The document that names the images, for messages.

    Raises:
        `ValueError`: if the scan is no DICOM, or if its images lack UIDs.
    """
    if report.instances is None:
        raise ValueError(f"A {what} names the images of its study: report a DICOM scan, not another format.")
    images = report.instances.images
    if not all(image.sop_instance_uid and image.sop_class_uid and image.study_uid for image in images):
        raise ValueError(
            "The images of the scan lack a UID (SOPInstanceUID, SOPClassUID, StudyInstanceUID), so no "
            f"{what} can name them. Export the series again."
        )
    whose = deepcopy(report.instances.header)
    for keyword in (*OF_WHOM, *OF_STUDY):
        if keyword not in whose:
            setattr(whose, keyword, "")
    seen = []
    for image in images:
        seen.append(item := deepcopy(whose))
        item.SOPInstanceUID, item.SOPClassUID = image.sop_instance_uid, image.sop_class_uid
        item.SeriesInstanceUID, item.StudyInstanceUID = image.series_uid, image.study_uid
    return seen


def wrong_value(what: str, error: Exception) -> ValueError:
    """That the header of the scan holds a value that no document may have. The words of `error` quote values."""
    return ValueError(
        f"The header of the scan holds a value that a {what} may not have ({type(error).__name__}), such as a date "
        "that is none. Correct it (dcmodify -m), or export the series again."
    )


def plain_text(text: str) -> str:
    """A text without what DICOM does not allow in one, such as control characters, which are shown as escapes."""
    return for_terminal(text).strip().replace("\n", "\r\n")


def short_text(text: str) -> str:
    """A short text, in which a backslash would begin another value."""
    return plain_text(text).replace("\\", "/").replace("\r\n", " ")[:_LONGEST].strip()
