"""Figures of an evaluation: findings by label, loss gaps, calibration of the confidences, and the operating curve."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ct_rate_pairs.eval.looking.other_volumes import VOLUMES
from ct_rate_pairs.eval.metrics.calibration import bins_of, calibration_error

from .style import GREEN, NEGATIVE, POSITIVE, PURPLE, clear, finish, save_figure


# Colour of each kind of other volume.
COLORS = {"negative": NEGATIVE, "shuffled": POSITIVE, "noise": GREEN, "blank": PURPLE}


def plot_labels(per_label: Mapping[str, Mapping], n: int, path: str | Path) -> None:
    """
    Draws recall, precision and prevalence of each label. The prevalence is the precision that chance reaches.

    Args:
        per_label (`Mapping[str, Mapping]`):
            Maps each label to its `recall`, `precision` and `support`, as in `results.json`. `None` gets no bar.
        n (`int`):
            Number of reports.
        path (`str` or `Path`):
            Image file to write.
    """
    names = sorted(per_label, key=lambda name: per_label[name]["support"])  # the most frequent on top
    places = np.arange(len(names))
    figure = Figure(figsize=(8, 1.2 + 0.36 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for key, shift, color in (("recall", 0.19, POSITIVE), ("precision", -0.19, NEGATIVE)):
        values = [per_label[name][key] or 0.0 for name in names]
        title = "recall (Coverage)" if key == "recall" else key
        axes.barh(places + shift, values, height=0.36, color=color, label=title)
    prevalence = [per_label[name]["support"] / n for name in names]
    axes.plot(prevalence, places, "|", color="black", markersize=14, label="prevalence: precision by chance")
    axes.set_yticks(places, [f"{name} ({per_label[name]['support']})" for name in names])
    axes.set(xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))
    axes.set_title(f"Findings of {n} reports, by label (number of scans)")
    finish(figure, axes, path)


def plot_gaps(gaps: Mapping[str, Sequence[float]], path: str | Path, means: Mapping[str, float]) -> None:
    """
    Draws histograms of the loss gaps: how much less likely each true report is under other volumes.

    Args:
        gaps (`Mapping[str, Sequence[float]]`):
            Maps the kind of the other volume (a key of `VOLUMES`) to the gap of each report in nats per token.
        path (`str` or `Path`):
            Image file to write.
        means (`Mapping[str, float]`):
            Maps the kind to the loss gap in the table: the mean over all tokens, in which long reports count more
            than in the mean of `gaps`.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    everything = np.concatenate([np.asarray(values) for values in gaps.values()])
    low, high = min(0.0, *np.quantile(everything, [0.005, 0.005])), np.quantile(everything, 0.995)
    bins = np.linspace(low, max(high, low + 1e-3), 41)
    for kind, values in gaps.items():
        title, color = VOLUMES[kind], COLORS[kind]
        inside = np.clip(values, bins[0], bins[-1])
        label = f"{title}: {means[kind]:.3f} over all tokens, {np.mean(np.asarray(values) > 0):.0%} of reports above 0"
        axes.hist(inside, bins, histtype="step", linewidth=1.6, color=color, label=label)
    axes.axvline(0, color="black", linewidth=1, linestyle=":")
    axes.set(xlabel="loss gap of the true report (nats per token); 0: the volume does not matter", ylabel="reports")
    axes.set_title("Loss under another volume less loss under its own")
    finish(figure, axes, path)


def plot_calibration(confidence: Sequence[float], correct: Sequence[bool], path: str | Path) -> None:
    """
    Draws how often the model chooses the right report, against its confidence in the choice.

    Args:
        confidence (`Sequence[float]`):
            Probability of each choice, in [0, 1].
        correct (`Sequence[bool]`):
            Whether each choice was right.
        path (`str` or `Path`):
            Image file to write.
    """
    confidence, correct = np.asarray(confidence), np.asarray(correct, dtype=float)
    places = bins_of(confidence)
    counts = np.bincount(places)
    filled = np.flatnonzero(counts)
    x = np.bincount(places, confidence)[filled] / counts[filled]
    y = np.bincount(places, correct)[filled] / counts[filled]
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":", label="calibrated")
    axes.plot(x, y, color=POSITIVE, linewidth=1)
    axes.scatter(x, y, s=20 + 200 * counts[filled] / counts.max(), color=POSITIVE, label="choices (by number)")
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="probability of the chosen report", ylabel="share correct")
    error = calibration_error(confidence, correct)
    axes.set_title(f"Report matching, {len(confidence)} scans: calibration error {error:.3f}")
    finish(figure, axes, path)


def plot_reliability(per_label: Mapping[str, Mapping], path: str | Path) -> None:
    """
    Draws for each of the 18 labels how often scans have it, against the confidence that they have it.

    Args:
        per_label (`Mapping[str, Mapping]`):
            The numbers of each label from [`~ct_rate_pairs.eval.scoring.label_calibration.judge_each`].
        path (`str` or `Path`):
            Image file to write.
    """
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    grid = figure.subplots(3, 6, sharex=True, sharey=True)
    for axes, (label, own) in zip(grid.flat, per_label.items(), strict=True):
        n, p, share = (np.array([one[key] for one in own["bins"]]) for key in ("n", "p", "share"))
        axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=":")
        axes.plot(p, share, color=POSITIVE, linewidth=1)
        axes.scatter(p, share, s=8 + 72 * n / n.sum(), color=POSITIVE, clip_on=False, zorder=3)
        clear(axes)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(textwrap.fill(f"{label} ({own['support']})", 20), fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("confidence that the scan has the finding (size of a dot: share of the scans)", fontsize=9)
    figure.supylabel("share of the scans that have it", fontsize=9)
    scans = sum(one["n"] for one in own["bins"])
    figure.suptitle(f"Calibration of each label on {scans} scans (in brackets: scans with the finding)", fontsize=10)
    save_figure(figure, path)


def plot_operating_curve(model: Mapping, curve: Mapping[str, Mapping], path: str | Path) -> None:
    """
    Draws Coverage and precision of findings lines at several operating points, beside those of the reports.

    Args:
        model (`Mapping`):
            The row `model` of `results.json`: the reports, and the lines that they were written below.
        curve (`Mapping[str, Mapping]`):
            Maps `"f1"` and each sensitivity to the numbers of the lines, see
            [`~ct_rate_pairs.eval.scoring.findings_lines.operating_curve`]. `None` is not drawn.
        path (`str` or `Path`):
            Image file to write.
    """
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axes = figure.add_subplot()
    places = {point: (s["coverage"], s["precision_micro"]) for point, s in curve.items()}
    drawn = {point: place for point, place in places.items() if None not in place}
    along = [place for point, place in drawn.items() if point != "f1"]
    x, y = np.reshape(along, (-1, 2)).T
    axes.plot(x, y, "o-", color=POSITIVE, markersize=5, label="lines at a sensitivity asked for")
    for point, place in drawn.items():
        axes.annotate(point, place, xytext=(5, 5), textcoords="offset points", fontsize=8)
    point = model.get("operating_point")
    if "f1" in drawn and point != "f1":  # else the lines of the reports are these
        axes.plot(*drawn["f1"], "s", color=GREEN, markersize=8, label="lines at the best F1")
    chosen = "as the model chose" if point is None else "at the best F1" if point == "f1" else f"at {point}"
    for title, marker, keys in (
        (f"lines {chosen}", "D", ("line_coverage", "line_precision_micro")),
        (f"text of the reports, lines {chosen}", "*", ("coverage", "precision_micro")),
    ):
        if None not in (place := [model[key] for key in keys]):
            # Hollow, so that the point of the curve is seen through it.
            axes.plot(*place, marker, color=NEGATIVE, fillstyle="none", markersize=9, label=title)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="Coverage", ylabel="precision")
    axes.set_title(f"Operating curve of the findings lines, {model['n']} scans")
    finish(figure, axes, path)
