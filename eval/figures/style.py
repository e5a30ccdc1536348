"""Shared style of all figures: colours that colour-blind readers can tell apart, axes, and saving."""

import logging
import warnings
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ct_rate_pairs.whole_files import whole_file


logger = logging.getLogger(__name__)

POSITIVE, NEGATIVE, NEUTRAL = "#0072b2", "#d55e00", "#6b6b6b"
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Microsoft YaHei",
    "PingFang SC",
)
GREEN, PURPLE = "#009e73", "#cc79a7"


@cache
def chinese_fonts() -> tuple[str, ...]:
    """The fonts here that have Chinese letters. It is told once if there is none: a figure then shows boxes."""
    installed = set(font_manager.get_font_names())
    found = tuple(font for font in CHINESE_FONTS if font in installed)
    if not found:
        logger.warning("No font here has Chinese letters, so figures show boxes: install one, such as fonts-noto-cjk.")
    return found


def clear(axes: Axes) -> None:
    """Removes the upper and right sides of the frame, and draws a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def log_axis(axes: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers as labels."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def finish(figure: Figure, axes: Axes, path: str | Path) -> None:
    """Applies [`clear`] to the only axes of a figure, adds their legend, and saves the figure."""
    clear(axes)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Saves a figure as a whole, in the format that its name ends with."""
    with whole_file(path) as part, warnings.catch_warnings():
        # Of Chinese letters, `chinese_fonts` tells once.
        warnings.filterwarnings("ignore", r"Glyph .*(?:CJK|IDEOGRAPHIC|FULLWIDTH).* missing from ")
        figure.savefig(part, format=Path(path).suffix[1:], dpi=dpi)
