"""Stores an instance, such as a Structured Report, on a DICOMweb server (STOW-RS)."""

from pydicom import Dataset

from .retrieve import list_series
from .server import DicomWebServer, PacsError
from .structured_report import DESCRIPTION


def reports_before(server: DicomWebServer, study: str) -> int:
    """How many Structured Reports of `ct-rate-pairs report` a study has on a server."""
    series = list_series(server, study).values()
    return sum(of_study.get("SeriesDescription") == DESCRIPTION for of_study in series)


def store_instance(server: DicomWebServer, instance: Dataset) -> None:
    """
    Stores an instance in its study on a server.

    Args:
        server ([`~ct_rate_pairs.hub.pacs.server.DicomWebServer`]):
            The server.
        instance (`pydicom.Dataset`):
            The instance, such as a report by
            [`~ct_rate_pairs.hub.pacs.structured_report.make_structured_report`].

    Raises:
        [`~ct_rate_pairs.hub.pacs.server.PacsError`]: if the server does not confirm that it has stored the instance.
    """
    study, uid = str(instance.StudyInstanceUID), str(instance.SOPInstanceUID)
    answer = server.ask("take the report", lambda client: client.store_instances([instance], study))
    if failed := answer.get("FailedSOPSequence"):
        reason = failed[0].get("FailureReason")
        told = "no reason" if reason is None else f"reason {reason:04X}H of DICOM"
        raise PacsError(f"{server.host} has not stored the report, with {told}. Ask who runs the server.")
    stored = [str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or []]
    if uid not in stored:
        raise PacsError(f"{server.host} does not confirm that it has stored the report. Look there before you repeat.")
