"""
Sources with CT-RATE's layout of volumes and tables: the base class, and folders on disk (a copy of CT-RATE, or a
phantom cohort).
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.reports import LABELER
from ct_rate_pairs.volumes.files import promised_voxels, refusals
from ct_rate_pairs.volumes.nifti import read_nifti, read_volume
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slice_plan import SlicePlan
from ct_rate_pairs.volumes.slicing import Volume
from ct_rate_pairs.volumes.windows import to_uint8

from .csv_tables import FROM_TABLE, LABEL_TABLES, METADATA, read_scans


T = TypeVar("T")

PHANTOM_MARKER = "phantom.json"  # at the root of a phantom cohort


class TreeSource(ABC):
    """
    A source with CT-RATE's layout.

    Args:
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`], *optional*):
            Which volumes are read, and how they become slices.
    """

    is_own = False
    splits = ("train", "test")
    metadata = tuple(METADATA)

    def __init__(self, settings: VolumeSettings | None = None):
        self.settings = settings or VolumeSettings()

    @abstractmethod
    def file(self, path: str) -> Path:
        """Local path of the table `path`, which is relative to the root of the source."""

    @abstractmethod
    def volumes(self, folder: str) -> set[str] | None:
        """Names of the volumes under `folder`; `None` if all volumes of the tables are assumed to exist."""

    @abstractmethod
    def read_volume(self, path: str, **options) -> Volume:
        """The volume at `path`. `options` are those of [`~ct_rate_pairs.volumes.read_volume`]."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A string that changes if a table or the set of volumes changes, so that no outdated index is used."""

    @property
    def labels_from(self) -> str:
        """Where the labels come from: `"table"`, or `"rules"` if the rule labeler reads them from the reports."""
        return "table"

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the source is, for provenance."""

    @property
    @abstractmethod
    def is_phantom(self) -> bool:
        """Whether the scans are synthetic."""

    def scans(self, split: str, on_error: str) -> pd.DataFrame:
        """The official split `"train"` or `"test"`, see [`~ct_rate_pairs.sources.csv_tables.read_scans`]."""
        return read_scans(self.file, self.volumes, self.settings, split, on_error, self.labels_from)

    def read_slices(self, scan: pd.Series, fractions: np.ndarray | None = None) -> tuple[np.ndarray, list[float]]:
        """
        Slices of one row of the table of scans, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, and the depth of each
        slice below the first, in mm. `fractions` is the position of each plane in its bin; by default, the middle.
        """
        return self._read(scan, partial(slices_of, self.settings, fractions))

    def read_planned(
        self, scan: pd.Series, fractions: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[float], SlicePlan]:
        """As [`read_slices`], and where the slices lie, for the masks of the scan."""
        return self._read(scan, partial(planned_of, self.settings, fractions))

    def read_values(self, scan: pd.Series) -> tuple[np.ndarray, list[float]]:
        """
        The whole resampled volume of one row, float16 of shape `[Z, Y, X]` or `[Z, Y, X, 3]`, and the depth of each
        plane below the first, in mm.
        """
        return self._read(scan, partial(values_of, self.settings))

    def read_resampled(self, scan: pd.Series, slope: float, intercept: float) -> Volume:
        """The whole resampled volume of one row, see [`~ct_rate_pairs.volumes.slicing.Volume.resampled`]."""
        return self._read(scan, partial(resampled_of, self.settings, slope, intercept))

    def take(self, scan: pd.Series, use: Callable[[Volume], T]) -> T:
        """What `use` takes of the whole volume of one row. `use` is a function of a module, as it may be pickled."""
        return self._read(scan, use)

    def voxel_mm(self, scan: pd.Series) -> tuple[float, float, float] | None:
        """
        Size of the stored voxels of one row as x, y, z, in mm, from the header of the volume; `None` if nobody knows
        it without the whole file.
        """
        return None

    def _read(self, scan: pd.Series, use: Callable[[Volume], T]) -> T:
        from_table = {name: scan[name] for name in FROM_TABLE if name in scan}
        return self.read_volume(scan["path"], use=use, **from_table)


# A function of the module, because pickling one within a function took as long as reading a small volume.
def slices_of(
    settings: VolumeSettings, fractions: np.ndarray | None, volume: Volume
) -> tuple[np.ndarray, list[float]]:
    """Slices of a volume, uint8, and the depth of each slice, in mm."""
    of = settings
    slices, slice_mm = volume.slices(of.num_slices, of.spacing, of.window, of.z_range, fractions, of.slices)
    return to_uint8(slices), slice_mm


def planned_of(
    settings: VolumeSettings, fractions: np.ndarray | None, volume: Volume
) -> tuple[np.ndarray, list[float], SlicePlan]:
    """As [`slices_of`], and where the slices lie."""
    plan = volume.plan(settings.num_slices, settings.spacing, settings.z_range, fractions, settings.slices)
    slices, slice_mm = volume.planned(plan, settings.window, settings.slices)
    return to_uint8(slices), slice_mm, plan


def values_of(settings: VolumeSettings, volume: Volume) -> tuple[np.ndarray, list[float]]:
    """The whole volume, float16, and the depth of each plane, in mm."""
    return volume.values(settings.spacing, settings.window)


def resampled_of(settings: VolumeSettings, slope: float, intercept: float, volume: Volume) -> Volume:
    """The whole volume at the voxel size of the settings, int16."""
    return volume.resampled(settings.spacing, slope, intercept)


class LocalSource(TreeSource):
    """
    A folder with CT-RATE's layout.

    Args:
        root (`str` or `Path`):
            The folder that holds `dataset/`.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`], *optional*):
            Which volumes are read, and how they become slices.

    Raises:
        `FileNotFoundError`: if there is no such folder, or if it has no folder `dataset`.
    """

    def __init__(self, root: str | Path, settings: VolumeSettings | None = None):
        super().__init__(settings)
        self.root = Path(root).expanduser().resolve()
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"data_dir: {no_such('folder', root)} To write a phantom there: `ct-rate-pairs phantom --output_dir "
                f"{root} --scans 200`."
            )
        if not (self.root / "dataset").is_dir():
            above = f" (is {self.root.parent} meant?)" if self.root.name == "dataset" else ""
            raise FileNotFoundError(
                f"{self.root} holds no folder `dataset/`{above} and no table (.csv, .jsonl, .parquet). Pass as "
                "`data_dir` the folder of a copy of CT-RATE, of a prepared copy or of a table of your own scans, or "
                f"write a phantom there: `ct-rate-pairs phantom --output_dir {self.root} --scans 200`."
            )

    def file(self, path: str) -> Path:
        """
        Path of the table `path`.

        Raises:
            `FileNotFoundError`: if the table is missing.
        """
        if not (self.root / path).is_file():
            raise FileNotFoundError(
                f"{self.root / path} is missing. Copy it from CT-RATE, or write the phantom again."
            )
        return self.root / path

    def volumes(self, folder: str) -> set[str] | None:
        """Names of the volumes under `folder`."""
        return {as_text(path.name) for path in (self.root / folder).glob("*/*/*.nii.gz")}

    def read_volume(self, path: str, **options) -> Volume:
        """The volume at `path`. `options` are those of [`~ct_rate_pairs.volumes.read_volume`]."""
        return read_volume(self.root / path, **options)

    def voxel_mm(self, scan: pd.Series) -> tuple[float, float, float]:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.voxel_mm`]."""
        from_table = {name: scan[name] for name in FROM_TABLE if name in scan}
        with refusals(scan.name):
            return read_nifti(self.root / scan["path"], scan.name, **from_table, voxels=promised_voxels).spacing

    @property
    def labels_from(self) -> str:
        """`"rules"` if the folder has no label table at all. If it has only one of the two, the other is missing."""
        return "table" if any((self.root / path).is_file() for path in LABEL_TABLES.values()) else "rules"

    @property
    def location(self) -> str:
        """The folder, for provenance."""
        return as_text(self.root)

    @property
    def is_phantom(self) -> bool:
        """Whether the scans are synthetic."""
        return (self.root / PHANTOM_MARKER).is_file()

    def fingerprint(self) -> str:
        """A hash of the names, sizes and times of the tables and volumes, and of the labeler that reads the labels."""
        digest = hashlib.sha256(os.fsencode(self.root))
        if self.labels_from == "rules":
            for file in LABELER:
                digest.update(file.read_bytes())
        files = ("dataset/*/*.csv", "dataset/metadata/*.txt", "dataset/*/*/*/*.nii.gz")
        for path in sorted(path for pattern in files for path in self.root.glob(pattern)):
            stat = path.stat()
            digest.update(os.fsencode(path.name) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def as_text(path: str | Path) -> str:
    """A path with escapes for what is no UTF-8 in it, which neither JSON nor Arrow takes."""
    return os.fsencode(path).decode(errors="backslashreplace")
