"""TODO."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def _clear(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _finish(figure: Figure, axes, path: str | Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


POSITIVE, NEGATIVE = "#0072b2", "#d55e00"  # colours that stay apart for colour-blind readers
NEUTRAL = "#6b6b6b"
