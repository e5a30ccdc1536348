"""What all figures share: colours that stay apart for colour-blind readers, axes, and how they are saved."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator


POSITIVE, NEGATIVE, NEUTRAL = "#0072b2", "#d55e00", "#6b6b6b"
GREEN, PURPLE = "#009e73", "#cc79a7"


def clear(axes: Axes) -> None:
    """Takes off the frame's upper and right side, and lays a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def finish(figure: Figure, axes: Axes, path: str | Path) -> None:
    """Clears the only axes of a figure, adds their legend, and saves the figure."""
    clear(axes)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
