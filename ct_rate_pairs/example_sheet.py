"""Draws a sheet of examples: the slices, the negative below them, and the labels and the report on the right."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import text_of

from .rows import RowReader


WIDTH, TEXT_WIDTH, STRIP_HEIGHT = 20.0, 5.0, 2.5  # of the sheet, of the texts, and of a strip at most, in inches
COLOURS = ("red", "orange", "cyan", "lime", "magenta", "yellow", "dodgerblue", "white", "salmon", "violet")
TITLE, LINE, GAP = 0.3, 0.145, 0.2  # height of a title, height of a line of text, and space between rows, in inches


def draw_sheet(rows: list[dict], reader: RowReader) -> Figure:
    """
    Draw rows of a dataset below each other. Masks are outlined.

    Args:
        rows (`list[dict]`):
            Rows of the dataset.
        reader ([`~ct_rate_pairs.rows.RowReader`]):
            The dataset's reader, which knows the labels of the partners.

    Returns:
        `matplotlib.figure.Figure`: the sheet. Save it with `savefig`.
    """
    texts = [_describe(row, reader) for row in rows]
    # All sizes are in inches. A row is as high as its strips, or as its text.
    strips = [_strip_height(row["images"]) for row in rows]
    heights = [
        max((strip + TITLE) * (2 if row["negative_images"] else 1), LINE * (text.count("\n") + 1)) + GAP
        for row, strip, text in zip(rows, strips, texts, strict=True)
    ]
    figure = Figure(figsize=(WIDTH, sum(heights) + GAP))
    top = GAP
    for row, strip, text, height in zip(rows, strips, texts, heights, strict=True):
        depths = f"{row['slice_mm'][0]:.0f} to {row['slice_mm'][-1]:.0f} mm below the first slice"
        axes = _draw_strip(figure, top + TITLE, strip, row["images"], f"{row['volume']}: {depths}")
        for (_, colour), of_finding in zip(_outlined(row), row.get("masks") or (), strict=True):
            _outline(axes, of_finding, colour)
        if row["negative_images"]:
            partner = row["negative_volume"]
            title = (
                f"negative: {partner}, {row['label_distance']} of 18 labels differ" if partner else "negative: noise"
            )
            _draw_strip(figure, top + 2 * TITLE + strip, strip, row["negative_images"], title)
        axes = figure.add_axes((1 - TEXT_WIDTH / WIDTH, 1 - top / figure.get_figheight(), 0.1, 0))
        axes.axis("off")
        axes.text(0, 0, text, va="top", fontsize=8, family="DejaVu Sans", parse_math=False)
        top += height
    return figure


def _strip_height(images: list) -> float:
    """Height of the slices side by side, in inches."""
    width, height = images[0].size
    return min(STRIP_HEIGHT, (WIDTH - TEXT_WIDTH - 2 * GAP) * height / (width * len(images)))


def _draw_strip(figure: Figure, top: float, height: float, images: list, title: str) -> Axes:
    """Draws slices side by side, `top` inches below the upper edge of the figure, with a title above them."""
    pixels = np.concatenate([np.asarray(image) for image in images], axis=1)
    width, whole = height * pixels.shape[1] / pixels.shape[0], figure.get_figheight()
    axes = figure.add_axes((GAP / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.axis("off")
    return axes


def _outlined(row: dict) -> list[tuple[str, str]]:
    """The findings of a row that have masks, each with the colour of its outlines."""
    names = [told["finding"] for told in row.get("mask_findings") or ()]
    return [(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(names)]


def _outline(axes: Axes, images: list, colour: str) -> None:
    """Draws the outlines of a mask over the slices of a strip."""
    mask = np.concatenate([np.asarray(image) for image in images], axis=1)
    if mask.any():  # else matplotlib warns that there is no outline
        axes.contour(mask, levels=[0.5], colors=[colour], linewidths=0.7)


def _describe(row: dict, reader: RowReader) -> str:
    parts = [f"Labels: {_names(row['labels'])}"]
    if row["negative_volume"]:
        split, i = reader.where(row["negative_volume"])
        parts.append(f"Labels of the negative: {_names(reader.labels[split][i])}")
    if outlined := _outlined(row):
        parts.append("Outlines: " + ", ".join(f"{name} ({colour})" for name, colour in outlined))
    parts += [f"> {text_of(row['prompt'][-1])}", *text_of(row["completion"][-1]).split("\n")]
    lines = [line for part in parts for line in (*textwrap.wrap(part, 72), "")]
    return "\n".join(lines if len(lines) <= 32 else [*lines[:31], "[...]"])


def _names(labels) -> str:
    return ", ".join(name for name, positive in zip(LABELS, labels, strict=True) if positive) or "none"
