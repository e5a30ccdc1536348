"""
Which scans a model was trained on, and whether a scan is like them. A model knows nothing of other scans, and still
writes a report of each.

Simple measures of a scan, such as the distance between its planes and the share of lung in it, are compared with
limits. The limits are fitted on scans of the validation split. They lie beyond the 2 % and the 98 % quantile of a
measure, by half of the distance between the two, or by a tenth of the median if that is more, and by 0.01 at least.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ct_rate_pairs.eval.scoring.label_calibration import folds_of
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.domain import TrainingDomain
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.sources import Source
from ct_rate_pairs.trainer.hub_files import find_file
from ct_rate_pairs.volumes.measures import measure
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.whole_files import write_whole


FILE = "domain.json"
_QUANTILES = (0.02, 0.5, 0.98)
_BEYOND = 0.5  # of the distance between the outer quantiles
_LEAST_BEYOND = 0.1  # of the median: all scans of a cohort may have one size
_LEAST = 0.01  # beyond a quantile at least: a share may be 0 in all scans
_DIGITS = 4  # decimals in the file
FORCE = " To see what this model writes all the same, pass force=True."
_MOST_TOLD = 4  # differences in a line
TRAINED_ON = {
    "phantom": "computer-drawn phantoms, which are no patients",
    "ct-rate": "CT-RATE, chest CT of adults without contrast from one hospital",
    "own": "scans of those who trained it, and not on CT-RATE",
}


class UnlikeScanError(VolumeError):
    """A model that was trained on phantoms was given a scan that is none."""


@dataclass(frozen=True)
class Domain:
    """
    The scans that a model was trained on.

    Args:
        trained_on (`str`):
            `"phantom"`, `"ct-rate"` or `"own"` (scans of those who trained it).
        limits (`dict[str, dict[str, float]]`):
            Maps each measure, in words, to its `low` and `high` limit, see
            [`~ct_rate_pairs.volumes.measures.measure`].
        n (`int`):
            Number of validation scans that the limits are fitted on.
        false_alarms (`float`):
            Share of validation scans that are beyond a limit, if the limits are fitted on scans of other patients.
    """

    trained_on: str
    limits: dict[str, dict[str, float]]
    n: int
    false_alarms: float

    @property
    def in_words(self) -> str:
        """What the model was trained on, in words."""
        return TRAINED_ON[self.trained_on]

    def unlike(self, measures: Mapping[str, float]) -> list[str]:
        """How a scan differs from those of the training, in words; empty if it is like them."""
        return [
            f"{name} is {measures[name]:.3g}, in the training {limits['low']:.3g} to {limits['high']:.3g}"
            for name, limits in self.limits.items()
            if name in measures and not limits["low"] <= measures[name] <= limits["high"]
        ]

    @property
    def refuses(self) -> bool:
        """Whether the model reports no scan that is unlike those of its training."""
        return self.trained_on == "phantom"

    def refusal(self, unlike: Sequence[str]) -> str:
        """Why a scan is refused, and what to do. `unlike` is that of [`unlike`]."""
        return (
            f"the scan: it is unlike what the model was trained on ({self.in_words}): {in_short(unlike)}. A "
            f"report would say nothing about a patient. Take a model that was trained on patients.{FORCE}"
        )

    def save(self, folder: str | Path) -> None:
        """Writes `domain.json` to the folder of a model."""
        write_whole(Path(folder) / FILE, json.dumps(asdict(self), indent=2) + "\n")


def in_short(unlike: Sequence[str]) -> str:
    """How a scan differs from those of the training, in one line. `unlike` is that of [`Domain.unlike`]."""
    more = len(unlike) - _MOST_TOLD
    return "; ".join([*unlike[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])


def load_domain(name_or_path: str, revision: str | None = None) -> Domain | None:
    """Reads `domain.json` from a folder, or from a model on the Hub; `None` if there is no such file."""
    path = find_file(name_or_path, FILE, revision)
    return Domain(**read_json(path, TrainingDomain)) if path else None


def trained_on(source: Source) -> str:
    """What the scans of a source are, as in [`Domain`]."""
    return "phantom" if source.is_phantom else "own" if source.is_own else "ct-rate"


def measure_row(row: Mapping, reader: RowReader) -> dict[str, float]:
    """
    The measures of a row of a dataset. Its slices are read already; of its volume, at most the header is read.

    Args:
        row (`Mapping`):
            The row, with `volume`, `images` and `slice_mm`.
        reader ([`~ct_rate_pairs.rows.RowReader`]):
            The reader of the dataset.

    Returns:
        `dict[str, float]`: see [`~ct_rate_pairs.volumes.measures.measure`].
    """
    split, place = reader.where(row["volume"])
    voxel_mm = reader.source.voxel_mm(reader.tables[split].iloc[place])
    pixels = np.stack([np.asarray(image) for image in row["images"]])
    return measure(pixels, row["slice_mm"], reader.source.settings, voxel_mm)


def fit_domain(measured: Mapping[str, Mapping[str, float]], trained_on: str) -> Domain:
    """
    Fits the limits on scans of the validation split. `fit_domain(...).save(folder)` writes them.

    Args:
        measured (`Mapping[str, Mapping[str, float]]`):
            The measures of each scan, by the name of its volume. A measure that is not known of all scans is left out.
        trained_on (`str`):
            What the scans of the training are, see [`Domain`].

    Returns:
        [`Domain`]: the limits, with the share of scans that they mistake for others.

    Raises:
        `ValueError`: for scans of fewer than 5 patients.
    """
    names = [name for name in next(iter(measured.values())) if all(name in of_scan for of_scan in measured.values())]
    values = np.array([[of_scan[name] for name in names] for of_scan in measured.values()])  # [N, measures]
    fold, is_beyond = folds_of(list(measured)), np.zeros(len(values), dtype=bool)
    for own in np.unique(fold):
        low, high = _limits(values[fold != own])
        is_beyond[fold == own] = ((values[fold == own] < low) | (values[fold == own] > high)).any(axis=1)
    low, high = _limits(values)
    limits = {name: {"low": low[i].item(), "high": high[i].item()} for i, name in enumerate(names)}
    return Domain(trained_on, limits, len(values), round(float(is_beyond.mean()), _DIGITS))


def _limits(values: np.ndarray) -> Sequence[np.ndarray]:
    """The lower and the upper limit of each measure, `[measures]`, of values `[N, measures]`, which are 0 or more."""
    low, median, high = np.quantile(values, _QUANTILES, axis=0)
    beyond = np.maximum(np.maximum(_BEYOND * (high - low), _LEAST_BEYOND * median), _LEAST)
    return np.round(np.maximum(low - beyond, 0), _DIGITS), np.round(high + beyond, _DIGITS)
