"""The sheet of a report: the slices, with frames where a finding rests on a slice, and the evidence."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ct_rate_pairs.eval.figures.style import save_figure

from .reporter import ScanReport


WIDTH, COLUMNS = 13, 5  # width of the sheet in inches; slices per row
EVIDENCE = "#d55e00"


def plot_sheet(report: ScanReport, path: str | Path) -> None:
    """
    Draws the slices of a report, and under them the evidence of each slice for each stated finding.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.reporter.ScanReport`]):
            The report. Only names of labels are drawn from its texts.
        path (`str` or `Path`):
            Image file to write.
    """
    stated = [finding for finding in report.findings if finding.stated]
    rows = -(-len(report.images) // COLUMNS)
    width, height = report.images[0].size
    heights = (WIDTH / COLUMNS * height / width + 0.5) * rows, 1.2 + 0.3 * len(stated)
    figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
    title = f"{report.name}: slices and evidence. Not a medical device."
    if any("BurnedInAnnotation" in warning for warning in report.told):
        title += "\nThe slices hold text that may name the patient (BurnedInAnnotation)."
    figure.suptitle(title, fontsize=11, parse_math=False)
    slices, below = figure.subfigures(2, height_ratios=heights)
    for number, axes in enumerate(slices.subplots(rows, COLUMNS, squeeze=False).flat, start=1):
        axes.set(xticks=[], yticks=[])
        if number > len(report.images):
            axes.axis("off")
            continue
        axes.imshow(report.images[number - 1], cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"slice {number}\n{report.slices[number - 1]}", fontsize=8)
        here = [finding.label for finding in stated if number in finding.slices]
        if here:
            axes.set_xlabel("\n".join(here), fontsize=7, color=EVIDENCE)
        for side in axes.spines.values():
            side.set(color=EVIDENCE if here else "#999999", linewidth=2.5 if here else 0.5)
    axes = below.subplots()
    if not stated:
        axes.axis("off")
        axes.text(0.5, 0.5, "The report states none of the 18 findings.", ha="center", va="center")
    else:
        nats = np.array([finding.evidence for finding in stated])
        # Negative evidence is drawn as 0. A quantile sets the scale, so that one strong finding does not hide others.
        image = axes.imshow(nats, cmap="Oranges", vmin=0, vmax=max(2.0, np.quantile(nats, 0.98)), aspect="auto")
        below.colorbar(image, ax=axes, label="evidence (nats)", pad=0.01)
        for row, finding in enumerate(stated):
            axes.plot([number - 1 for number in finding.slices], [row] * len(finding.slices), "k.", markersize=6)
        axes.set_xticks(range(nats.shape[1]), range(1, nats.shape[1] + 1))
        names = [finding.label + " (doubtful)" * bool(finding.doubtful) for finding in stated]
        axes.set_yticks(range(len(stated)), names, fontsize=8)
        axes.set_xlabel("slice, from the top (dots: the slices that a finding rests on)", fontsize=9)
    save_figure(figure, path, dpi=110)
