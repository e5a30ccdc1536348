"""A sheet of scans: slices, and beneath them the reference report beside the generated report."""

import textwrap
from collections.abc import Collection, Iterable
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.eval.scoring.places import misplaced
from ct_rate_pairs.reports.findings_line import report_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import places
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.reports.sentence_spans import split_sentences

from .style import NEUTRAL, chinese_fonts, save_figure


# Sign and colour of each outcome of a finding. In print and for colour-blind readers, the sign alone tells.
OUTCOMES = {
    "correct": ("+", "#00734f"),
    "misplaced": ("≠", "#b8860b"),
    "missed": ("−", "#d55e00"),
    "invented": ("!", "#8e24aa"),
}
LEGEND = {"correct": "correct", "misplaced": "wrong side or lobe", "missed": "missed", "invented": "invented"}
MOST_LINES = 80  # of a report; a model may repeat itself without end


def report_lines(
    report: str, other: np.ndarray, unmatched: str, width: int, wrong_places: Collection[int] = ()
) -> list[tuple[str, str]]:
    """
    Breaks a report into lines, and gives each line a colour.

    Args:
        report (`str`):
            Reference or generated report.
        other (`np.ndarray` of shape `[18]`):
            Findings of the report on the other side, 0 or 1.
        unmatched (`str`):
            Outcome of a finding that the other side lacks: `"missed"` for a reference report, `"invented"` for a
            generated report.
        width (`int`):
            Characters per line.
        wrong_places (`Collection[int]`, *optional*):
            Indices of the findings that the two reports place differently, from
            [`~ct_rate_pairs.eval.scoring.places.misplaced`].

    Returns:
        `list[tuple[str, str]]`: lines and their colours. A sentence that states a finding starts a new line with the
        sign of its outcome; all other sentences follow each other in grey.
    """
    sentences = split_sentences(report)
    if not sentences:
        return [("(empty report)", NEUTRAL)]
    outcomes = []
    for sentence, stated in zip(sentences, label_predictions(sentences)[0].astype(bool), strict=True):
        # One wrong finding makes the whole sentence wrong, and so does one wrong place that the sentence names.
        matched = "misplaced" if any(label in wrong_places for label in places(sentence)) else "correct"
        outcomes.append((matched if other[stated].all() else unmatched) if stated.any() else None)
    lines = []
    for outcome, group in groupby(zip(sentences, outcomes, strict=True), key=lambda pair: pair[1]):
        texts = [f"{sentence}{'。' if is_chinese(sentence) else '.'}" for sentence, _ in group]
        if outcome is None:
            lines += [
                ("   " + line, NEUTRAL) for line in _wrap(("" if is_chinese(texts[0]) else " ").join(texts), width - 3)
            ]
        else:
            sign, color = OUTCOMES[outcome]
            for text in texts:
                first, *rest = _wrap(text, width - 3)
                lines += [(f"{sign}  {first}", color)] + [(f"   {line}", color) for line in rest]
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], ("   (and more)", NEUTRAL)]


def label_marks(
    labels: np.ndarray, stated: np.ndarray, width: float, wrong_places: Collection[int] = ()
) -> list[list[tuple[float, str, str]]]:
    """Findings of a scan, correct ones first, in rows of up to `width` inches: `(x in inches, text, colour)` each."""
    placed = np.array([label not in wrong_places for label in range(len(LABELS))])
    outcomes = [
        ("correct", labels & stated & placed),
        ("misplaced", labels & stated & ~placed),
        ("missed", labels & ~stated),
        ("invented", ~labels & stated),
    ]
    rows, x = [[]], 0.0
    for outcome, mask in outcomes:
        sign, color = OUTCOMES[outcome]
        for index in np.flatnonzero(mask):
            text = f"{sign} {LABELS[index]}"
            length = 0.067 * (len(text) + 3)  # a monospaced letter of 8 points is 0.067 inches wide
            if x + length > width:
                rows, x = [*rows, []], 0.0
            rows[-1].append((x, text, color))
            x += length
    return rows


def _family(line: str) -> list[str]:
    """The fonts of a line, in the order in which they are asked for a letter."""
    return ["DejaVu Sans Mono", *(chinese_fonts() if is_chinese(line) else ())]


def _wrap(text: str, width: int) -> list[str]:
    """Lines of a text. A Chinese letter is as wide as two Latin ones, and lines may end behind each."""
    return textwrap.wrap(text, width // 2 if is_chinese(text) else width)


def plot_reports(rows: Iterable[dict], generated: Iterable[str], path: str | Path, n: int = 3) -> None:
    """
    Draws a sheet of scans: the slices of each, and beneath them its reference report beside its generated report.

    A sentence that states a finding is marked by sign and colour: `+` if both reports state the finding, `−` if the
    generated report misses it, `!` if the generated report invents it, and `≠` if both reports state it, but on other
    sides or in other lobes. The line under the slices compares the true labels with those of the generated report.

    Args:
        rows (`Iterable[dict]`):
            Rows of the dataset. Only the first `n` are read.
        generated (`Iterable[str]`):
            Generated reports in the rows' order.
        path (`str` or `Path`):
            Image file to write.
        n (`int`, *optional*, defaults to `3`):
            Number of scans to show.
    """
    width, margin, line_height, characters = 14.0, 0.1, 0.145, 100  # inches; characters per column
    scans, height = [], 0.45
    for row, report in islice(zip(rows, generated, strict=False), n):
        labels, stated = np.asarray(row["labels"], dtype=bool), label_predictions([report])[0][0].astype(bool)
        reference = report_of(row["completion"][-1])
        wrong_places = misplaced(report, reference)
        slices = np.concatenate([np.asarray(image) for image in row["images"]], axis=1)  # [H, S * W]
        scan = {
            "top": height,
            "heading": f"{row['volume']}: {(labels & stated).sum()} of {labels.sum()} findings stated, "
            f"{(~labels & stated).sum()} invented, {len(wrong_places)} in a wrong place",
            "slices": slices,
            "slice_height": width * slices.shape[0] / slices.shape[1],
            "marks": label_marks(labels, stated, width - 2 * margin, wrong_places),
            "Reference": report_lines(reference, stated, "missed", characters, wrong_places),
            "Generated": report_lines(report, labels, "invented", characters, wrong_places),
        }
        scans.append(scan)
        height += 0.85 + scan["slice_height"] + 0.18 * len(scan["marks"])
        height += line_height * max(len(scan["Reference"]), len(scan["Generated"]))

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one canvas in inches, y downwards
    axes.axis("off")

    def write(x: float, y: float, text: str, size: float, color: str = "black", **style) -> None:
        """Writes text with its upper left corner at `(x, y)` inches."""
        axes.text(x, y, text, fontsize=size, color=color, va="top", parse_math=False, **style)

    for x, (outcome, (sign, color)) in zip((0, 0.9, 2.6, 3.45), OUTCOMES.items(), strict=True):
        write(margin + x, 0.12, f"{sign} {LEGEND[outcome]}", 9, color, weight="bold")
    for scan in scans:
        y = scan["top"]
        write(margin, y, scan["heading"], 10, weight="bold")
        y += 0.25
        extent = (0, width, y + scan["slice_height"], y)
        axes.imshow(scan["slices"], cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        y += scan["slice_height"] + 0.08
        for marks in scan["marks"]:
            for x, text, color in marks:
                write(margin + x, y, text, 8, color, weight="bold", family="monospace")
            y += 0.18
        for title, left in (("Reference", margin), ("Generated", width / 2 + margin / 2)):
            write(left, y + 0.04, title, 9, weight="bold")
            for index, (line, color) in enumerate(scan[title]):
                write(left, y + 0.24 + index * line_height, line, 7, color, family=_family(line))
    axes.set(xlim=(0, width), ylim=(height, 0))
    save_figure(figure, path, dpi=110)
