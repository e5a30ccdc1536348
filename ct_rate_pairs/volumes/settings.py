"""The settings that decide which volumes are read and how they become slices. A prepared copy has them fixed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from ct_rate_pairs.command_line import given_options
from ct_rate_pairs.number_ranges import SHARE, Range

from .windows import plain_window, windows_of


FILES = ("fixed", "original")
RECONSTRUCTIONS = ("first", "all")
FORMS = ("slices", "preprocessed", "preprocessed_numpy")  # of a prepared copy
RULES = ("uniform", "jitter", "lung", "mip", "key")
OF_TRAINING = ("jitter", "key")  # rules that choose planes in the split `train` alone; elsewhere they are "uniform"
OF_SLICES = ("num_slices", "z_range", "slices")  # settings that choose the slices of a volume, and not its voxels
MOST_SLICES = 2048
FINEST, COARSEST = 0.1, 100.0  # voxel sizes in mm; finer ones than a CT has would only take memory


@dataclass(frozen=True)
class VolumeSettings:
    """
    Which volumes are read, and how they become slices.

    Args:
        files (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`: the volumes in `train_fixed` and `valid_fixed`, whose NIfTI header gives HU and geometry.
            `"original"`: the volumes in `train` and `valid`, for which the metadata table gives rescaling, spacing
            and orientation.
        reconstructions (`str`, *optional*, defaults to `"first"`):
            Which reconstructions of a scan are rows: `"first"` or `"all"`. All reconstructions share one report.
        num_slices (`int`, *optional*, defaults to `10`):
            Axial planes per volume.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size after resampling, in mm as x, y, z (paper, section 6.2).
        window (`str` or `tuple`, *optional*, defaults to `"paper"`):
            HU that become black and white: `"paper"` (-1000 to 1000), `"rgb"` (lung, soft tissue and bone as the
            three channels), a pair (low, high), or three pairs.
        z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Part of the depth that the planes are spread over, as shares of the depth from the top. With
            `slices="lung"`, it is a part of the extent of the lungs.
        slices (`str`, *optional*, defaults to `"uniform"`):
            How planes are chosen. The depth is divided into `num_slices` bins. `"uniform"`: the middle plane of each
            bin. `"jitter"`: in the split `train`, a random plane of each bin, drawn anew in each epoch, so that the
            slices are uneven; elsewhere as `"uniform"`. `"lung"`: the middle planes of bins over the extent of the
            lungs, found from HU. A volume in which no lungs are found is refused. `"mip"`: colour images of each bin,
            with the maximum of its planes as red, their mean as green, and the middle plane as blue. `"key"`: in the
            split `train`, the plane of each bin that shows most of the findings, by the dataset's `masks`; elsewhere
            as `"uniform"`, because nobody knows yet where a new scan has findings.

    Raises:
        `ValueError`: if a value is not allowed.
    """

    files: str = field(
        default="fixed",
        metadata={"choices": FILES, "help": "HU from the headers (fixed) or from the metadata table (original)."},
    )
    reconstructions: str = field(
        default="first", metadata={"choices": RECONSTRUCTIONS, "help": "Which reconstructions of each scan are used."}
    )
    num_slices: int = field(default=10, metadata={"range": Range(2, MOST_SLICES), "help": "Axial slices per volume."})
    spacing: tuple[float, float, float] = field(
        default=(0.75, 0.75, 1.5),
        metadata={"range": Range(FINEST, COARSEST), "help": "Voxel size after resampling, in mm as x y z."},
    )
    window: str | tuple = field(
        default="paper",
        metadata={
            "words": True,
            "range": Range(-math.inf),
            "help": "paper (-1000 to 1000 HU), rgb, two HU (low high), or six HU (low high of three windows, which "
            "become red, green and blue).",
        },
    )
    z_range: tuple[float, float] = field(
        default=(0.0, 1.0),
        metadata={
            "range": SHARE,
            "help": "Part of the depth that the slices are spread over, as two shares from the top.",
        },
    )
    slices: str = field(
        default="uniform",
        metadata={
            "choices": RULES,
            "help": "How planes are chosen: the middle of each bin, a random one in training (jitter), bins over the "
            "lungs alone (lung), maximum, mean and middle of each bin as red, green and blue (mip), or in training "
            "the plane of each bin that shows most of the masks (key).",
        },
    )

    def __post_init__(self):
        one_of("files", self.files, FILES)
        one_of("reconstructions", self.reconstructions, RECONSTRUCTIONS)
        one_of("slices", self.slices, RULES)
        num_slices = plain_number(self.num_slices)
        if type(num_slices) is not int or num_slices < 2:
            raise ValueError(
                f"num_slices={self.num_slices!r}: give a whole number of at least two, so that they have a distance."
            )
        if num_slices > MOST_SLICES:
            raise ValueError(f"num_slices={num_slices}: give at most {MOST_SLICES}, more than a CT has.")
        spacing, z_range = _floats(self.spacing), _floats(self.z_range)
        if len(spacing) != 3 or not all(0 < size < math.inf for size in spacing):
            raise ValueError(f"spacing={self.spacing!r}: give three voxel sizes in mm, as x, y, z: (0.75, 0.75, 1.5).")
        if min(spacing) < FINEST or max(spacing) > COARSEST:
            raise ValueError(f"spacing={self.spacing}: give sizes from {FINEST} to {COARSEST} mm.")
        if len(z_range) != 2 or not 0 <= z_range[0] < z_range[1] <= 1:
            raise ValueError(f"z_range={self.z_range!r}: give two shares of the depth, 0 <= low < high <= 1.")
        # YAML and JSON give lists. As tuples of floats, equal settings compare equal.
        object.__setattr__(self, "num_slices", num_slices)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "z_range", z_range)
        object.__setattr__(self, "window", plain_window(self.window))
        if self.slices == "mip" and len(windows_of(self.window)) > 1:
            raise ValueError(
                f"slices='mip' fills the three channels of an image, and so does window={self.window!r}: give one "
                "window (low, high), or slices='uniform'."
            )

    @property
    def channels(self) -> int:
        """Channels of a slice: 1 for grey, 3 for colours."""
        return 3 if self.slices == "mip" else len(windows_of(self.window))


def plain_number(value: object) -> object:
    """A number of numpy, or a whole one that is written as a float, as Python's own; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) or float(value).is_integer() else float(value)


def _floats(values: object) -> tuple[float, ...]:
    """A sequence of numbers; empty for anything else, such as a string."""
    try:
        return () if isinstance(values, str) else tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        return ()


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the allowed values, unless `value` is one of them."""
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is unknown: choose one of {', '.join(map(repr, allowed))}.")


def whole_number(option: str, value: int, least: int, most: int) -> None:
    """Raise a `ValueError` that names the range, unless `value` is a whole number from `least` to `most`."""
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{option}={value!r}: choose a whole number, {least} to {most}.")


def volume_options(arguments: dict) -> dict:
    """
    Removes the fields of [`VolumeSettings`] from the arguments of a command, and returns those that the user gave.

    Raises:
        `ValueError`: if a window is neither a name nor two or six numbers.
    """
    given = given_options(arguments, VolumeSettings)
    if "window" in given:
        given["window"] = parse_window(given["window"])
    return given


def parse_window(window: str | Sequence) -> str | tuple:
    """
    The window of an argument or a config: a name, two or six numbers, or pairs of numbers. The numbers may be words,
    and one string may hold all of them, with spaces or commas between them.

    Raises:
        `ValueError`: if it is neither.
    """
    words = window.translate(str.maketrans(",;()[]", " " * 6)).split() if isinstance(window, str) else window
    name = words[0] if len(words) == 1 and isinstance(words[0], str) else None
    return plain_window(name or words)
