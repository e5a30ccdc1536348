"""Diversity of the reports that a model writes: a collapsed model writes few different reports."""

from collections import Counter
from collections.abc import Sequence

from ct_rate_pairs.reports.texts import same_words


def report_diversity(reports: Sequence[str]) -> dict[str, float | int]:
    """
    Counts different reports. A model that recites one report for every scan has a ratio of `1 / n`.

    Measure the reference reports too, as a scale: in CT-RATE, many healthy scans have the same report.

    Args:
        reports (`Sequence[str]`):
            Generated reports. An empty report counts as a report.

    Returns:
        `dict`: `unique_report_ratio`, the number of different reports divided by `n`; `most_common_report_share`, the
        share of the most common report; `n`, the number of reports. Reports that differ only in case or white space
        count as the same.

    Raises:
        `ValueError`: for no reports, or for a string instead of a list of strings.
    """
    if isinstance(reports, str) or not len(reports):
        raise ValueError("`reports` must be a list of at least one report.")
    counts = Counter(map(same_words, reports))
    return {
        "unique_report_ratio": len(counts) / len(reports),
        "most_common_report_share": max(counts.values()) / len(reports),
        "n": len(reports),
    }
