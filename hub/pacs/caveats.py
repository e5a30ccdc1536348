"""What must be known before a report is read, in words: it stands at the top of each document."""

from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.hub.reporting.reporter import CUT, ScanReport


def caveats(report: ScanReport) -> list[str]:
    """
    What makes a report doubtful, the notice first.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.reporter.ScanReport`]):
            The report.

    Returns:
        `list[str]`: sentences without anything of the patient.
    """
    told = [NOTICE]
    told += [f"This report met its limit of tokens. {CUT}"] if report.cut else []
    told += [f"{report.unread} This says nothing about the scan."] if report.unread else []
    told += [f"Written below a findings line that was set by {report.line_set_by}."] if report.line_set_by else []
    return told + [f"Read with a warning: {warning}" for warning in report.told]
