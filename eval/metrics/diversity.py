"""Whether a model has collapsed: how many different reports it writes."""

from collections import Counter
from collections.abc import Sequence

from ct_rate_pairs.reports.texts import same_words


def report_diversity(reports: Sequence[str]) -> dict[str, float | int]:
    """
    Counts different reports. A model that recites one template whatever the scan has a ratio of `1 / n`.

    The references set the scale: healthy scans share their report in CT-RATE too, so measure these beside it.

    Args:
        reports (`Sequence[str]`):
            Generated reports; an empty one counts as a report.

    Returns:
        `dict`: `unique_report_ratio`, the number of different reports over `n`; `most_common_report_share`, the share
        of the commonest; `n`, the number of reports. Reports that differ in case or white space alone are the same.

    Raises:
        `ValueError`: for no reports, or for one string in place of a list of strings.
    """
    if isinstance(reports, str) or not len(reports):
        raise ValueError("`reports` must be a list of at least one report.")
    counts = Counter(map(same_words, reports))
    return {
        "unique_report_ratio": len(counts) / len(reports),
        "most_common_report_share": max(counts.values()) / len(reports),
        "n": len(reports),
    }
