"""`python -m ct_rate_pairs.show DIR`: a sheet of examples, negative below the slices, report and labels beside."""

import argparse
import sys
import textwrap
from pathlib import Path

import numpy as np
from datasets import load_dataset
from matplotlib.figure import Figure

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volumes.settings import add_settings, take_settings

from .config import NEGATIVES
from .rows import RowReader, reader_of


def draw_sheet(rows: list[dict], reader: RowReader) -> Figure:
    """
    Draw `rows` of a dataset below each other.

    Args:
        rows (`list[dict]`):
            Rows as the dataset gives them.
        reader ([`~ct_rate_pairs.rows.RowReader`]):
            The dataset's reader, for the labels of the partners.

    Returns:
        `matplotlib.figure.Figure`: to be saved with `savefig`.
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


def main():
    parser = argparse.ArgumentParser(
        prog="python -m ct_rate_pairs.show",
        description="Draw examples as training sees them: each volume's slices (superior first, the patient's right "
        "on the left), its negative below, labels, prompt and report beside. Look before you train.",
        epilog="example: python -m ct_rate_pairs.show runs/phantom_cohort --spacing 4.5 4.5 6.5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data_dir", nargs="?", metavar="DIR", help="tree, phantom or prepared copy (default: CT-RATE on the Hub)")
    add("--n", type=int, default=4, help="examples (default: %(default)s)")
    add("--out", default="sheet.png", metavar="PNG", help="image file to write (default: %(default)s)")
    add("--split", default="train", help="train, validation or test (default: %(default)s)")
    add("--negative", choices=NEGATIVES, default="heter", help="kind of negative (default: %(default)s)")
    add("--slices", choices=("uniform", "jitter"), default="uniform", help="choice of planes (default: %(default)s)")
    add_settings(parser)
    add("--seed", type=int, default=0, help="of the choice of examples and of the negatives (default: %(default)s)")
    args = vars(parser.parse_args())
    count, out, seed = args.pop("n"), Path(args.pop("out")), args["seed"]
    if count < 1 or out.suffix != ".png":
        parser.error("give --n 1 or more, and an --out that ends in .png")
    try:
        dataset = load_dataset("ct_rate_pairs", **take_settings(args), **args)
        chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
        rows = [dataset[int(i)] for i in chosen]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(rows, reader_of(dataset)).savefig(out, dpi=110)
    print(f"{out}: {len(rows)} examples of {len(dataset)}")


if __name__ == "__main__":
    main()
