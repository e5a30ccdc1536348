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
    return [NOTICE, *warnings_of(report)]
