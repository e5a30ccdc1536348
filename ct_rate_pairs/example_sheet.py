"""Draws a sheet of examples: the slices, the negative below them, and the labels and the report on the right."""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from ct_rate_pairs.reports.labels import LABELS

from .rows import RowReader


def draw_sheet(rows: list[dict], reader: RowReader) -> Figure:
    """
    Draw rows of a dataset below each other.

    Args:
        rows (`list[dict]`):
            Rows of the dataset.
        reader ([`~ct_rate_pairs.rows.RowReader`]):
            The dataset's reader, which knows the labels of the partners.

    Returns:
        `matplotlib.figure.Figure`: the sheet. Save it with `savefig`.
    """
    figure = Figure(figsize=(20, 3.2 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 2, width_ratios=(3, 1))
    for line, row in enumerate(rows):
        strips = grid[line, 0].subgridspec(2, 1)
        depths = f"{row['slice_mm'][0]:.0f} to {row['slice_mm'][-1]:.0f} mm below the first slice"
        _draw_strip(figure.add_subplot(strips[0]), row["images"], f"{row['volume']}: {depths}")
        if row["negative_images"]:
            partner = row["negative_volume"]
            title = (
                f"negative: {partner}, {row['label_distance']} of 18 labels differ" if partner else "negative: noise"
            )
            _draw_strip(figure.add_subplot(strips[1]), row["negative_images"], title)
        text = figure.add_subplot(grid[line, 1])
        text.axis("off")
        text.text(0, 1, _describe(row, reader), va="top", fontsize=8, family="DejaVu Sans", transform=text.transAxes)
    return figure


def _draw_strip(axes, images: list, title: str) -> None:
    axes.imshow(np.concatenate([np.asarray(image) for image in images], axis=1), cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=9, loc="left")
    axes.axis("off")


def _describe(row: dict, reader: RowReader) -> str:
    parts = [f"Labels: {_names(row['labels'])}"]
    if row["negative_volume"]:
        split, i = reader.where(row["negative_volume"])
        parts.append(f"Labels of the negative: {_names(reader.labels[split][i])}")
    parts += [f"> {row['prompt'][0]['content']}", *row["completion"][0]["content"].split("\n")]
    lines = [line for part in parts for line in (*textwrap.wrap(part, 72), "")]
    return "\n".join(lines if len(lines) <= 32 else [*lines[:31], "[...]"])


def _names(labels) -> str:
    return ", ".join(name for name, positive in zip(LABELS, labels, strict=True) if positive) or "none"
