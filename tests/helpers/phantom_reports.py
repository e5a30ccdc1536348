"""Reports, labels and findings of phantom scans, of which no volume is written."""

from functools import cache
from typing import NamedTuple

import numpy as np

from ct_rate_pairs.phantom.cohort import REPORT_KEYS, plan_cohort
from ct_rate_pairs.phantom.findings import Finding
from ct_rate_pairs.phantom.reports import write_report
from ct_rate_pairs.phantom.scan import Scan, stream
from ct_rate_pairs.reports.texts import write_completion


class Cohort(NamedTuple):
    """`N` scans."""

    names: list[str]
    reports: list[str]
    impressions: list[str]
    labels: np.ndarray  # int8 [N, 18]
    patients: list[str]
    findings: list[dict[str, Finding]]


@cache
def cohort(scans: int, split: int = 0) -> Cohort:
    """The first `scans` of a split, 0 for training and 1 for the official validation set."""
    rows = []
    for plan in plan_cohort(scans, split=split):
        scan = Scan(0, (plan.split, plan.patient, plan.scan), plan.labels, [378.0, 252.0, 260.0])
        findings, impression = write_report(stream(0, plan.split, plan.patient, plan.scan, REPORT_KEYS), scan.findings)
        report = write_completion(findings, impression)
        rows.append((plan.name(1), report, write_completion(findings, impression, "impression"), plan.labels))
        rows[-1] += (f"{plan.split}_{plan.patient}", scan.findings)
    names, reports, impressions, labels, patients, findings = zip(*rows, strict=True)
    return Cohort(
        list(names), list(reports), list(impressions), np.array(labels, np.int8), list(patients), list(findings)
    )
