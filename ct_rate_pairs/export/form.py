"""What a model of another project is shown: its array, and the files that its scripts read beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ct_rate_pairs.volumes.slicing import Volume


@dataclass(frozen=True)
class ModelInput:
    """
    The input of a model, as its own preprocessing has it.

    Args:
        model (`str`):
            Name of the model.
        repository (`str`):
            Where its scripts are, such as `"BAAI-DCAI/M3D"` on GitHub.
        sources (`Mapping[str, str]`):
            Maps the path of each script that the numbers come from to its commit.
        shape (`tuple[int, ...]`):
            Shape of the array in a file; of RadFM's the largest.
        axes (`str`):
            What the axes of the array are, and where they run to.
        dtype (`str`):
            Data type of the array.
        spacing_mm (`tuple[float, float, float]`, *optional*):
            Voxel size that the volume is resampled to, as x, y, z. `None` if only the shape is set.
        window_hu (`tuple[float, float]`):
            HU that the volume is clipped to.
        values (`str`):
            How HU become the values of the array.
        prompts (`tuple[str, ...]`):
            What the model is asked. A model that is asked about one region after another has several.
        not_stated (`tuple[str, ...]`):
            What the scripts do not state, and what is done here.
        array (`Callable[[Volume], np.ndarray]`):
            Makes the array of a volume.
        place (`Callable[[str], str]`):
            The file of a VolumeName, relative to the folder of the export.
        beside (`Callable[[Mapping[str, str]], dict[str, str]]`):
            Files that the model's scripts read beside the arrays: maps each path to its content. The argument maps
            each VolumeName to the file of its array.
    """

    model: str
    repository: str
    sources: Mapping[str, str]
    shape: tuple[int, ...]
    axes: str
    dtype: str
    spacing_mm: tuple[float, float, float] | None
    window_hu: tuple[float, float]
    values: str
    prompts: tuple[str, ...]
    not_stated: tuple[str, ...]
    array: Callable[[Volume], np.ndarray] = field(repr=False)
    place: Callable[[str], str] = field(repr=False)
    beside: Callable[[Mapping[str, str]], dict[str, str]] = field(repr=False)

    def facts(self) -> dict:
        """What the manifest of an export tells of the array, ready for JSON."""
        names = ("model", "repository", "sources", "shape", "axes", "dtype", "spacing_mm", "window_hu", "values")
        told = {name: getattr(self, name) for name in (*names, "prompts", "not_stated")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def stem_of(volume: str) -> str:
    """A VolumeName without its ending: `valid_1_a_1.nii.gz` -> `valid_1_a_1`."""
    return volume.removesuffix(".nii.gz")


def npy_of(volume: str) -> str:
    """The file of a volume's array, for models whose scripts do not ask for folders."""
    return str(Path("scans", f"{stem_of(volume)}.npy"))


def nothing_beside(files: Mapping[str, str]) -> dict[str, str]:
    """For a model whose scripts read no list of scans."""
    return {}


def turned(values: np.ndarray, axes: str) -> np.ndarray:
    """
    Turns a volume so that its axes run to other directions.

    Args:
        values (`np.ndarray`):
            A volume in display order, `[Z, Y, X]`: its axes run to I, P and L (feet, back, patient's left).
        axes (`str`):
            Where the axes are to run to, such as `"RAS"`: the first axis to the patient's right.

    Returns:
        `np.ndarray`: a view.
    """
    places = ["IS", "PA", "LR"]  # of each axis in display order: where it runs to, and the opposite
    order = [next(axis for axis, pair in enumerate(places) if letter in pair) for letter in axes]
    backwards = [number for number, axis in enumerate(order) if axes[number] == places[axis][1]]
    return np.flip(values.transpose(order), backwards)


def voxel_sizes(spacing: Sequence[float], axes: str) -> tuple[float, ...]:
    """The voxel size along each of `axes`, from a volume's `spacing` as x, y, z."""
    size = dict(zip("LRPAIS", (spacing[0], spacing[0], spacing[1], spacing[1], spacing[2], spacing[2]), strict=True))
    return tuple(size[letter] for letter in axes)
