"""The fields of `VolumeSettings` as arguments of a command line."""

import argparse

from .settings import FILES, RECONSTRUCTIONS, VolumeSettings


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
