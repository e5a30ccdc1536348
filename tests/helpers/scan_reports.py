"""Reports of other shapes than the tiny reader writes: many findings, many slices, pictures; and what files say."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ct_rate_pairs.hub.reporting.patches import PatchEvidence
from ct_rate_pairs.hub.reporting.reporter import ScanReport
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volumes.native_slices import NativeSlices


def full_report(report: ScanReport, slices: int, stated: int, **changes) -> ScanReport:
    """The report with another number of slices and of stated findings. Each finding rests on two slices, if it can."""
    rng = np.random.default_rng(0)
    findings, texts = [], []
    for index, finding in enumerate(report.findings):
        if index >= stated:
            none = {"sentence": None, "evidence": None, "slices": [], "doubtful": None, "patches": None}
            findings.append(replace(finding, stated=False, confidence=0.05, **none))
            continue
        evidence = rng.uniform(-1, 4, slices)
        texts.append(f"{LABELS[index]} is seen.")
        rests = [int(number) + 1 for number in np.argsort(-evidence)[:2]]
        values = {"sentence": texts[-1], "evidence": evidence.tolist(), "slices": rests, "doubtful": index % 3 == 1}
        values["patches"] = None
        findings.append(replace(finding, stated=True, confidence=0.9, **values))
    places = [replace(report.slices[0], number=number + 1, mm=8.0 * number) for number in range(slices)]
    of = np.arange(slices) % len(report.slices)
    values = {
        "text": " ".join(texts) or "The lungs are clear.",
        "findings": findings,
        "slices": places,
        "images": [report.images[index] for index in of],
        "native": replace(report.native, values=report.native.values[of]),
    }
    return replace(report, **values | changes)


def without_patches(report: ScanReport) -> ScanReport:
    """The report without outlines, under which pixels would be hidden."""
    return replace(report, findings=[replace(finding, patches=None) for finding in report.findings])


def with_patches(report: ScanReport, patch: tuple[int, int] = (1, 2)) -> ScanReport:
    """The report with evidence for one of 4 x 4 patches (row, column), on the first slice of each finding."""
    edges, findings = np.linspace(0, 1, 5), []
    for finding in report.findings:
        if finding.slices:
            values = np.zeros((len(report.slices), 4, 4), np.float32)
            values[finding.slices[0] - 1, *patch] = 1.0
            finding = replace(finding, patches=PatchEvidence(values, edges, edges))  # noqa: PLW2901
        findings.append(finding)
    return replace(report, findings=findings)


def grey_pictures(report: ScanReport) -> ScanReport:
    """The report as if the scan were a folder of pictures."""
    grey = np.stack([np.asarray(image) for image in report.native.images("lung")])
    return replace(report, native=NativeSlices(grey, None))


def said_in(path: Path) -> bytes:
    """What a file says beside the pixels of its pictures, in which any three letters are there by chance."""
    data = path.read_bytes()
    if path.suffix == ".png":
        image = Image.open(io.BytesIO(data))
        return repr((image.info, dict(image.getexif()))).encode()
    return re.sub(rb"base64,[\w+/=]+", b"", data)
