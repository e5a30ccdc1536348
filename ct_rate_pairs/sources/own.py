"""A source of a reader's own scans, which a table in their folder names."""

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from ct_rate_pairs.reports import LABELER
from ct_rate_pairs.volumes.pictures import Pictures
from ct_rate_pairs.volumes.scan_files import files_of, pictures_among, read_scan
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slice_plan import SlicePlan
from ct_rate_pairs.volumes.slicing import Volume, VolumeError
from ct_rate_pairs.volumes.windows import windows_of

from .csv_tables import TableError
from .own_table import OwnTable
from .tree import as_text, planned_of, resampled_of, slices_of, values_of


logger = logging.getLogger(__name__)

T = TypeVar("T")


class OwnSource:
    """
    A table of a reader's own scans, see [`~ct_rate_pairs.sources.own_table.OwnTable`].

    A scan has a neutral name, such as `patient_3_b_1.nii.gz`: the second scan of the third patient of the table. It
    has the form of CT-RATE's names, so that everything tells the patient from it, and nothing of the path or of the
    patient's own name. All names end in `.nii.gz`, whatever the format of the scan. Rows that are added at the end
    leave the names as they are.

    Args:
        file (`str` or `Path`):
            The table.
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`], *optional*):
            How volumes become slices.

    Raises:
        `ValueError`: for a setting of CT-RATE's files, which has no effect here.
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the table cannot be read.
    """

    is_phantom, is_own = False, True

    def __init__(self, file: str | Path, settings: VolumeSettings | None = None):
        self.file = Path(file).expanduser().resolve()
        self.settings = settings or VolumeSettings()
        for name in ("files", "reconstructions"):
            if getattr(self.settings, name) != getattr(VolumeSettings(), name):
                raise ValueError(
                    f"{name}={getattr(self.settings, name)!r} is a choice among CT-RATE's files, and has no effect on "
                    f"{self.file}. Leave it out."
                )

    def __reduce__(self):
        return OwnSource, (self.file, self.settings)

    @cached_property
    def table(self) -> OwnTable:
        """The table."""
        return _open_table(self.file, self.file.stat().st_mtime_ns)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the table divides its rows into; without `validation`, it is carved out of `train`."""
        named = set(self.table.read[0]["split"])
        return ("train", "validation", "test") if "validation" in named else ("train", "test")

    @property
    def metadata(self) -> tuple[str, ...]:
        """The columns of the table that the rows of the dataset hold as they are, as texts."""
        return self.table.metadata

    @property
    def labels_from(self) -> str:
        """Where the labels come from: `"table"`, or `"rules"` if the rule labeler reads them from the reports."""
        return self.table.labels_from

    @property
    def location(self) -> str:
        """The table, for provenance."""
        return as_text(self.file)

    def scans(self, split: str, on_error: str) -> pd.DataFrame:
        """
        A split of the table, indexed by the neutral name of each scan, in the order of the table. Its columns are
        `path` (relative to the folder of the table), `row` (number of the scan's first row), `series`, `patient`,
        `findings`, `impression`, `age`, `sex`, the 18 labels, `questions` (pairs of question and answer) and the
        metadata.

        Raises:
            [`~ct_rate_pairs.sources.csv_tables.TableError`]: at the first bad row, with `on_error="raise"`. With
                `"skip"`, the scans of bad rows are left out, with a warning.
            `ValueError`: for a window, if a scan is a folder of pictures.
        """
        scans, problems = self.table.read
        _tell_doubts(self.table)
        if problems and on_error == "raise":
            raise TableError(
                f"{self.file}, {problems[0]}. ({len(problems)} such problems: `ct-rate-pairs check {self.file}` lists "
                "them. To leave these rows out, pass on_error='skip'.)"
            )
        bad = {problem.row for problem in problems}
        is_bad = scans["rows"].map(lambda rows: not bad.isdisjoint(rows)).astype(bool)
        if problems and split == "train":  # once, for all splits
            logger.warning(
                "%s, %s. The scans of this row and of %d others like it are left out.",
                *(self.file, problems[0], len(bad) - 1),
            )
        self._refuse_window(scans[~is_bad])
        chosen = scans[~is_bad & (scans["split"] == split)]
        return chosen.drop(columns=["split", "rows"])

    def _refuse_window(self, scans: pd.DataFrame) -> None:
        """A window would silently do nothing to pictures. To find them takes a look into each folder."""
        if windows_of(self.settings.window) == windows_of("paper"):
            return
        for path, row in zip(scans["path"], scans["row"], strict=True):
            folder = self.file.parent / path
            if folder.is_dir() and pictures_among(files_of(folder)):
                raise ValueError(
                    f"window={self.settings.window!r} has no effect on pictures, which have no HU, and the scan of "
                    f"row {row} of {self.file} is a folder of pictures. Leave the window out, or put such scans into "
                    "a table of their own."
                )

    def read_slices(self, scan: pd.Series, fractions: np.ndarray | None = None) -> tuple[np.ndarray, list[float]]:
        """
        Slices of one row of the table of scans, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, and the depth of each
        slice below the first, in mm. `fractions` is the position of each plane in its bin; by default, the middle.

        Raises:
            `VolumeError`: if the scan cannot be read. The message names the row of the table.
        """
        return self._read(scan, use=partial(slices_of, self.settings, fractions))

    def read_planned(
        self, scan: pd.Series, fractions: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[float], SlicePlan]:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.read_planned`]."""
        slices, slice_mm, plan = self._read(scan, use=partial(planned_of, self.settings, fractions))
        return slices, slice_mm, replace(plan, name=self._told(scan))

    def read_values(self, scan: pd.Series) -> tuple[np.ndarray, list[float]]:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.read_values`]."""
        return self._read(scan, use=partial(values_of, self.settings))

    def read_resampled(self, scan: pd.Series, slope: float, intercept: float) -> Volume:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.read_resampled`]."""
        return self._read(scan, use=partial(resampled_of, self.settings, slope, intercept))

    def take(self, scan: pd.Series, use: Callable[[Volume | Pictures], T]) -> T:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.take`]."""
        return self._read(scan, use=use)

    def voxel_mm(self, scan: pd.Series) -> tuple[float, float, float] | None:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.voxel_mm`]; `None` for pictures, which have no size."""
        return self._read(scan, use=attrgetter("spacing"), headers_only=True)

    def check(self, scan: pd.Series) -> None:
        """Raises a `VolumeError` if the headers of a scan say that its slices cannot be read."""
        self._read(scan, use=partial(_check, self.settings), headers_only=True)

    def _read(self, scan: pd.Series, **options):
        path, series = self.file.parent / scan["path"], None if pd.isna(scan["series"]) else int(scan["series"])
        try:
            if path.is_dir():
                self._refuse_links(path)
            return read_scan(path, series, **options)
        except VolumeError as error:
            told = str(error).removeprefix("the scan: ")
            raise VolumeError(f"{self._told(scan)}: {told.replace('as series=1', 'in the column series')}") from None

    def _told(self, scan: pd.Series) -> str:
        """How messages name a scan."""
        return f"row {scan['row']} of {self.file.name}, {scan.name}"

    def _refuse_links(self, folder: Path) -> None:
        """Links within a scan's folder must not lead out of the folder of the table either."""
        outside = [file for file in files_of(folder) if self.file.parent not in file.resolve().parents]
        if outside:
            raise VolumeError(
                f"the scan: {len(outside)} of its files are links that lead out of the table's folder. Copy the files "
                "that they stand for (cp -L)."
            )

    def fingerprint(self) -> str:
        """A hash of the table, of the sizes and times of its scans, and of the labeler that reads the labels."""
        digest = hashlib.sha256(os.fsencode(self.file) + self.file.read_bytes())
        if self.labels_from == "rules":
            for file in LABELER:
                digest.update(file.read_bytes())
        for place in self.table.read[0]["path"].dropna():
            stat = (self.file.parent / place).stat()
            digest.update(os.fsencode(place) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


@lru_cache(maxsize=4)
def _open_table(file: Path, modified: int) -> OwnTable:
    """A table, read once. `modified` is part of the key, so that a table that was changed is read again."""
    return OwnTable(file)


@lru_cache(maxsize=4)
def _tell_doubts(table: OwnTable) -> None:
    for doubt in table.doubts():
        logger.warning("%s: %s", table.file, doubt)


def _check(settings: VolumeSettings, scan) -> None:
    scan.check(settings.num_slices, settings.spacing, settings.window, settings.z_range, settings.slices)
