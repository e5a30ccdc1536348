"""Reports, labels and findings of phantom scans, of which no volume is written."""

from functools import cache
from typing import NamedTuple

import numpy as np

from ct_rate_pairs.phantom.cohort import REPORT_KEYS, Plan, plan_cohort
from ct_rate_pairs.phantom.findings import Finding
from ct_rate_pairs.phantom.reports import write_report
from ct_rate_pairs.phantom.scan import Scan
from ct_rate_pairs.random_streams import random_stream
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
def make(plan: Plan, language: str = "en") -> tuple:
    """Name, report, impression, labels, patient and findings of a scan. Cohorts of all sizes share it."""
    scan = Scan(0, (plan.split, plan.patient, plan.scan), plan.labels, [378.0, 252.0, 260.0])
    rng = random_stream(0, plan.split, plan.patient, plan.scan, REPORT_KEYS)
    findings, impression = write_report(rng, scan.findings, language)
    texts = (write_completion(findings, impression), write_completion(findings, impression, "impression"))
    return plan.name(1), *texts, plan.labels, f"{plan.split}_{plan.patient}", scan.findings


def chinese_cohort(scans: int) -> Cohort:
    """The first `scans` of the training split, with reports in Chinese."""
    return cohort(scans, language="zh")


@cache
def cohort(scans: int, split: int = 0, language: str = "en") -> Cohort:
    """The first `scans` of a split, 0 for training and 1 for the official validation set."""
    names, reports, impressions, labels, patients, findings = zip(
        *(make(plan, language) for plan in plan_cohort(scans, split=split)), strict=True
    )
    return Cohort(
        list(names), list(reports), list(impressions), np.array(labels, np.int8), list(patients), list(findings)
    )
