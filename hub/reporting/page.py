"""
The page of a report: one HTML file that needs no network. Its sentences are linked to the slices that they rest on.

All texts are escaped by the template. Should markup get through nevertheless, the browser neither runs nor loads it:
the page's own policy allows the one script and the one style whose hashes it names, and images that are in the page.
"""

import base64
import hashlib
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ct_rate_pairs.hub import templates
from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.reports.sentences import report_sentences
from ct_rate_pairs.shown_text import for_terminal

from .scan_report import WHY_DOUBTFUL, Finding, ScanReport
from .sheet import PNG_LEVEL, THIN, colour_of, evidence_scale, full_evidence, marked, masked, place_told, resting


NAMES = {"lung": "lung", "mediastinum": "mediastinum", "grey": "grey", "model": "the model's view"}
TITLES = {
    "lung": "lung −600 / 1500",
    "mediastinum": "mediastinum 40 / 400",
    "grey": "grey values",
    "model": "the model's view",
}


def format_page(report: ScanReport) -> str:
    """
    The page of a report, as HTML.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report.

    Returns:
        `str`: the page. Each slice is in it once per window, as a PNG image that has lost nothing.
    """
    scale = evidence_scale(report)
    findings = [finding_values(report, finding, scale) for finding in report.findings]
    stated = [finding for finding in findings if finding["stated"]]
    others = [finding for finding in findings if not finding["stated"]]
    slices = slice_values(report, stated)
    style = f":root {{ --width: {report.native.size[0]}; --height: {report.native.size[1]}; }}\n{_read('report.css')}"
    script = _read("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            notice=NOTICE,
            warnings=report.warnings,
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
            names=NAMES,
            titles=TITLES,
            windows=list(slices[0]["images"]),
            sides=report.native.pixel_mm is not None,
            slices=slices,
            pieces=text_pieces(report.text, {finding["index"]: finding for finding in stated}),
            language="zh" if is_chinese(report.text) else "en",
            stated=stated,
            others=sorted(others, key=lambda finding: -(finding["confidence"] or 0.0)),
            full_evidence=full_evidence(scale),
            why_doubtful=WHY_DOUBTFUL,
            thin=THIN if report.masks and report.masks.shown else None,
            made=[*report.how_made, told_of_images(report)],
        )
    )


def finding_values(report: ScanReport, finding: Finding, scale: float) -> dict:
    """What the template shows of a finding. `scale` is the evidence of a full bar, in nats."""
    evidence = finding.evidence or []
    return vars(finding) | {
        "index": LABELS.index(finding.label),
        "name": marked(finding),
        "percent": finding.percent,
        "shares": [round(min(max(nats, 0.0) / scale, 1.0), 3) for nats in evidence],
        "nats": [f"{nats:.1f}" for nats in evidence],
        "mask_slices": report.masks.slices(finding.label) if report.masks else [],
        "target": f"slice-{finding.slices[0]}" if finding.slices else f"finding-{LABELS.index(finding.label)}",
    }


def slice_values(report: ScanReport, stated: list[dict]) -> list[dict]:
    """What the template shows of each slice: its place, the findings that rest on it, and its image in each window."""
    windows = {window: report.native.images(window) for window in report.native.windows} | {"model": report.images}
    return [
        {
            "number": place.number,
            "place": place,
            # The place begins with the depth where the scan does not tell its own.
            "told": f"{place.mm:.0f} mm below the first, " * (place.table_mm is not None) + place_told(place),
            "here": [finding for finding in stated if place.number in finding["slices"]],
            "outlines": outline_values(report, index),
            "images": {window: _source(images[index]) for window, images in windows.items()},
        }
        for index, place in enumerate(report.slices)
    ]


def outline_values(report: ScanReport, index: int) -> list[dict]:
    """
    What the template draws on a slice, in shares of its sides: the outlines of the findings that rest there, and of
    the masks that are on it.
    """
    number = report.slices[index].number
    patches = [("patches", of, of.patches.outline(number)) for of in resting(report, index) if of.patches]
    masks = [("mask", of, report.masks.outline(of.label, number)) for of in masked(report, index)]
    return [
        {
            "kind": kind,
            "finding": LABELS.index(finding.label),
            "name": marked(finding),
            "colour": "#{:02x}{:02x}{:02x}".format(*colour_of(report, finding)),
            "path": " ".join("M{:.4g} {:.4g}L{:.4g} {:.4g}".format(*line) for line in lines),
        }
        for kind, finding, lines in patches + masks
        if lines
    ]


def text_pieces(text: str, stated: dict[int, dict]) -> list[dict]:
    """The text in pieces, one after the other: sentences that state a finding, and what is between them."""
    pieces, end = [], 0
    for sentence in report_sentences(text):
        findings = [stated[label] for label in sentence.labels if label in stated]
        if not findings:
            continue
        slices = [number for finding in findings for number in finding["slices"]]
        pieces.append({"text": text[end : sentence.start], "findings": []})
        pieces.append(
            {
                "text": sentence.text,
                "findings": findings,
                "slices": list(dict.fromkeys(slices)),
                "target": f"slice-{slices[0]}" if slices else findings[0]["target"],
                "doubtful": any(finding["doubtful"] for finding in findings),
            }
        )
        end = sentence.end
    return [*pieces, {"text": text[end:], "findings": []}]


def told_of_images(report: ScanReport) -> str:
    """What the images of the page are."""
    if report.native.pixel_mm is None:
        return "The scan is a folder of pictures, which have no HU: their grey values are shown as they are."
    across, down = report.native.pixel_mm
    return (
        "Lung and mediastinum show the stored images nearest to the planes that the model got, at their own "
        f"resolution (pixels of {across:.2f} x {down:.2f} mm). Nothing is lost by compression."
    )


def _source(image: Image.Image) -> str:
    """An image as an address that holds the image itself."""
    packed = io.BytesIO()
    image.save(packed, format="PNG", compress_level=PNG_LEVEL)
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"


def _hash(text: str) -> str:
    """The hash by which the policy of a page allows a script or a style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (Path(templates.__file__).parent / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Templates that escape every text, and show each unseen character of a text as its escape."""
    return Environment(
        loader=FileSystemLoader(Path(templates.__file__).parent),
        autoescape=True,
        finalize=lambda value: for_terminal(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
