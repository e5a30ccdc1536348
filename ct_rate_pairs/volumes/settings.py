"""What decides which volumes are read and how each becomes slices. A prepared copy fixes all of it."""

import argparse
from dataclasses import dataclass

import numpy as np

from .slicing import windows_of


FILES = ("fixed", "original")
RECONSTRUCTIONS = ("first", "all")


@dataclass(frozen=True)
class VolumeSettings:
    """
    From CT-RATE's files to slices.

    Args:
        files (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`: the volumes under `train_fixed` and `valid_fixed`, HU and geometry by their NIfTI header;
            `"original"`: those under `train` and `valid`, which take both from the metadata table.
        reconstructions (`str`, *optional*, defaults to `"first"`):
            `"first"` of each scan, or `"all"`: they share one report.
        num_slices (`int`, *optional*, defaults to `10`):
            Axial planes a volume.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size after resampling, in mm as x, y, z (paper, section 6.2).
        window (`str` or `tuple`, *optional*, defaults to `"paper"`):
            HU that become black and white: `"paper"` (-1000 to 1000), `"rgb"` (lung, soft tissue and bone as the
            three channels), a pair, or three pairs.
        z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Share of the depth, from the top, that the planes are spread over.
    """

    files: str = "fixed"
    reconstructions: str = "first"
    num_slices: int = 10
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5)
    window: str | tuple = "paper"
    z_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        one_of("files", self.files, FILES)
        one_of("reconstructions", self.reconstructions, RECONSTRUCTIONS)
        if not isinstance(self.num_slices, int) or self.num_slices < 2:
            raise ValueError(f"num_slices={self.num_slices!r}: the depth between slices needs at least two of them.")
        spacing, z_range = np.array(self.spacing, dtype=float), np.array(self.z_range, dtype=float)
        if spacing.shape != (3,) or not (spacing > 0).all():
            raise ValueError(f"spacing={self.spacing}: give three voxel sizes in mm, as x, y, z.")
        if z_range.shape != (2,) or not 0 <= z_range[0] < z_range[1] <= 1:
            raise ValueError(f"z_range={self.z_range}: give two shares of the depth, 0 <= low < high <= 1.")
        windows_of(self.window)
        # YAML and JSON give lists: as tuples of floats equal settings compare equal
        object.__setattr__(self, "spacing", tuple(map(float, self.spacing)))
        object.__setattr__(self, "z_range", tuple(map(float, self.z_range)))
        if not isinstance(self.window, str):
            pairs = windows_of(self.window)
            object.__setattr__(self, "window", pairs if len(pairs) > 1 else pairs[0])


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the choices, unless `value` is one of them."""
    if value not in allowed:
        raise ValueError(f"{option}={value!r} is unknown: choose one of {', '.join(map(repr, allowed))}.")


def whole_number(option: str, value: int, least: int, most: int) -> None:
    """Raise a `ValueError` that names the range, unless `value` is a whole number in it."""
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{option}={value!r}: choose a whole number, {least} to {most}.")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an argument for every field; one that is not given is `None`."""
    add = parser.add_argument
    add("--files", choices=FILES, help="fixed: HU by the headers (default); original: by the metadata table")
    add("--reconstructions", choices=RECONSTRUCTIONS, help="of each scan (default: first)")
    add("--num-slices", type=int, metavar="S", help="axial planes a volume (default: 10)")
    add("--spacing", type=float, nargs=3, metavar=("X", "Y", "Z"), help="mm (default: 0.75 0.75 1.5)")
    add("--window", nargs="+", metavar="W", help="paper (-1000 to 1000 HU; default), rgb, or two HU: low high")
    add("--z-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="share of the depth (default: 0 1)")


def take_settings(arguments: dict) -> dict:
    """
    Take the fields that were given out of `arguments`.

    Raises:
        `ValueError`: when a window is neither a name nor two numbers.
    """
    given = {name: arguments.pop(name) for name in VolumeSettings.__dataclass_fields__}
    if given["window"] is not None:
        words = given["window"]
        try:
            given["window"] = words[0] if len(words) == 1 else tuple(float(word) for word in words)
        except ValueError as error:
            raise ValueError(f"--window {' '.join(words)}: give paper, rgb, or two HU, low and high.") from error
    return {name: value for name, value in given.items() if value is not None}
