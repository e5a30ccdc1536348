"""What must be known before a report is read, in words: it stands at the top of each document."""

from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.hub.reporting.scan_report import ScanReport
from ct_rate_pairs.hub.reporting.sheet import warnings_of


def caveats(report: ScanReport) -> list[str]:
    """
    What makes a report doubtful, the notice first.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report.

    Returns:
        `list[str]`: sentences without anything of the patient.
    """
    told = [NOTICE]
    if report.forced:
        told.append("The model refuses such a scan, and was forced: the report says nothing about it.")
    told.append(
        "It is not known what the model was trained on, so the scan may be unlike that."
        if report.trained_on is None
        else f"The model was trained on {report.trained_on}."
    )
    if report.unlike:
        told.append(f"The scan is unlike those, and the report may be wrong for it: {'; '.join(report.unlike)}.")
    return told + warnings_of(report)
