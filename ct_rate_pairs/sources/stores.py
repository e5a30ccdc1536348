"""Reads a prepared copy of whole volumes, which `ct-rate-pairs prepare --form ...` writes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ct_rate_pairs.volumes.slicing import Volume, VolumeError
from ct_rate_pairs.volumes.store_files import ENDINGS, Facts, open_volume
from ct_rate_pairs.volumes.windows import to_uint8, windows_of

from .prepared import TABLE, PreparedSource


class StoreSource(PreparedSource):
    """
    A prepared copy of whole resampled volumes. Which slices of a volume are read, and with which window, is chosen as
    for the source that it was prepared from. Only the planes that are needed are read from the disk.

    Args:
        root (`str` or `Path`):
            Folder that holds `prepared.json`.
        settings:
            Fields of [`~ct_rate_pairs.volumes.settings.VolumeSettings`] that the caller asks for.

    Raises:
        `ValueError`: if the copy was written with another value of `files`, `reconstructions` or `spacing`; if it is
            of normalised values, and `window` has HU that they do not have; or if `prepared.json` is damaged.
    """

    fixed = ("files", "reconstructions", "spacing")
    table = pa.schema(
        [
            *TABLE,
            pa.field("shape", pa.list_(pa.int32(), 3)),
            pa.field("voxel_mm", pa.list_(pa.float64(), 3)),
            pa.field("lungs", pa.list_(pa.float64())),
        ]
    )

    def __init__(self, root: str | Path, **settings):
        super().__init__(root, **settings)
        self.form = self.provenance["form"]
        self.stored_window = self.provenance["settings"]["window"]
        if self.form == "preprocessed":
            ((low, high),) = windows_of(self.stored_window)
            for least, most in windows_of(self.settings.window):
                if least < low or most > high:
                    raise ValueError(
                        f"{self.root} holds HU from {low:g} to {high:g}, so it cannot give window="
                        f"{self.settings.window!r}. Choose a window within, or prepare a copy with --form "
                        "preprocessed_numpy, which keeps all HU."
                    )

    def read_slices(self, scan: pd.Series, fractions: np.ndarray | None = None) -> tuple[np.ndarray, list[float]]:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.read_slices`]. Only the chosen planes are read."""
        of = self.settings
        slices, slice_mm = self._open(scan).slices(of.num_slices, None, of.window, of.z_range, fractions, of.slices)
        return to_uint8(slices), slice_mm

    def read_values(self, scan: pd.Series) -> tuple[np.ndarray, list[float]]:
        """As [`~ct_rate_pairs.sources.tree.TreeSource.read_values`]."""
        return self._open(scan).values(None, self.settings.window)

    def _open(self, scan: pd.Series) -> Volume:
        file = self.root / volume_file(scan["path"], scan.name, self.form)
        try:
            facts = Facts(
                tuple(map(int, scan["shape"])),
                tuple(map(float, scan["voxel_mm"])),
                None if scan["lungs"] is None else tuple(map(float, scan["lungs"])),
            )
            return open_volume(scan.name, file, self.form, self.stored_window, facts)
        except Exception as error:  # whatever damage causes in numpy or nibabel: a bad file costs no more than itself
            raise VolumeError(
                f"{scan.name}: {file} cannot be read ({str(error) or type(error).__name__}). Remove "
                f"{self.root / scan['path']}, and run the command that prepared the copy again."
            ) from error


def volume_file(shard: str | Path, volume: str, form: str) -> Path:
    """Path of a volume in a copy, from the path of the shard that lists it."""
    return Path("volumes", Path(shard).stem, volume.removesuffix(".nii.gz") + ENDINGS[form])
