"""Reports of DICOM scans, without a model that writes them."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from ct_rate_pairs.hub.reporting.masks import ScanMasks
from ct_rate_pairs.hub.reporting.scan_report import Finding, ScanReport
from ct_rate_pairs.hub.reporting.seen import SeenScan, see
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volumes.settings import VolumeSettings

from .dicom_series import write
from .tiny_reader import SETTINGS


STATED = {"Cardiomegaly": [3, 4], "Medical material": []}
TEXT = "The heart is enlarged.\nA catheter & a <b>clip</b>."


def report_of(datasets: list[Dataset], masked: bool = False, **changes) -> ScanReport:
    """
    A report that states two findings of a scan; `changes` are fields of it. If it is `masked`, the mask of the first
    finding is what the slices show bright, and that of the second is a chessboard of it.
    """
    settings = VolumeSettings(num_slices=SETTINGS["num_slices"], spacing=tuple(SETTINGS["spacing"]))
    with tempfile.TemporaryDirectory() as folder:
        seen = see(write(Path(folder, "series"), datasets), settings, None)
    findings = [
        Finding(label, label in STATED, 0.75 if label in STATED else 0.004, f"{label} is seen." * (label in STATED))
        for label in LABELS
    ]
    findings = [replace(finding, slices=STATED.get(finding.label, [])) for finding in findings]
    whole = ScanReport(
        name="scan",
        text=TEXT,
        findings=findings,
        sentences=[],
        slices=seen.places,
        seconds={},
        model="USER/model",
        version="4f5e",
        calibration=None,
        images=seen.images,
        native=seen.native,
        instances=seen.instances,
        masks=bright_masks(seen) if masked else None,
    )
    return replace(whole, **changes)


def bright_masks(seen: SeenScan) -> ScanMasks:
    """The masks of what the slices of a scan show brighter than soft tissue."""
    bright = seen.pixels > 150
    shown = dict(zip(STATED, (bright, bright & (np.indices(bright.shape).sum(axis=0) % 2 == 1)), strict=True))
    return ScanMasks(seen.plan, shown, dict.fromkeys(shown, 0.5), [], [], [])
