"""Reads a prepared copy: the slices, reports and labels in Parquet shards that `ct-rate-pairs prepare` writes."""

import io
import json
import logging
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas import PreparedCopy
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import VolumeError


logger = logging.getLogger(__name__)

PROVENANCE = "prepared.json"
READING = 2  # raised by each release that reads some volumes otherwise than the release before it
_TEXTS = ("volume", "findings", "impression", "age", "sex", "labels")


class PreparedSource:
    """
    A prepared copy. Its settings are those that it was written with.

    Every volume has its own row group, so reading a partner from anywhere in the copy takes one small read.

    Args:
        root (`str` or `Path`):
            Folder that holds `prepared.json`.
        settings:
            Fields of [`~ct_rate_pairs.volumes.settings.VolumeSettings`] that the caller asks for.

    Raises:
        `ValueError`: if the copy was written with another value of a field in `settings`, or if `prepared.json` is
            damaged.
    """

    def __init__(self, root: str | Path, **settings):
        self.root = Path(root).expanduser().resolve()
        try:
            self.provenance = read_json(self.root / PROVENANCE, PreparedCopy)
            self.settings = VolumeSettings(**self.provenance["settings"])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.root / PROVENANCE} is damaged ({error}). Prepare the copy again.") from error
        if self.provenance.get("reading", 1) != READING:
            logger.warning(
                "%s was prepared by a release (%s) that read some volumes otherwise: see CHANGELOG.md for which. "
                "Prepare the copy again if such volumes may be among them.",
                self.root, self.provenance["ct_rate_pairs"],
            )  # fmt: skip
        own = asdict(self.settings)
        for name, wanted in asdict(VolumeSettings(**{**own, **settings})).items():
            if wanted != own[name]:
                raise ValueError(
                    f"{self.root} was prepared with {name}={own[name]!r}, so it cannot give {name}={wanted!r}. Leave "
                    f"{name} out, read the source ({self.provenance['source']}), or prepare another copy."
                )

    @property
    def is_phantom(self) -> bool:
        """Whether the scans are synthetic."""
        return self.provenance["phantom"]

    def shards(self, split: str) -> list[Path]:
        """
        Files of the official split `"train"` or `"test"`.

        Raises:
            `FileNotFoundError`: if a file is missing.
        """
        count = self.provenance["shards"][split]
        files = [self.root / shard_name(split, i, count) for i in range(count)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of the {count} shards of '{split}' are missing, the first: {missing[0]}. Run the "
                "command that prepared the copy again: it writes what is missing."
            )
        return files

    def scans(self, split: str, on_error: str) -> pd.DataFrame:
        """
        The official split `"train"` or `"test"` as a table, indexed by the volume's name. Its columns are `findings`,
        `impression`, `age`, `sex`, `patient`, the 18 labels, `path` (of the shard) and `row_group`.
        """
        parts = []
        for file in self.shards(split):
            try:
                part = pq.read_table(file, columns=list(_TEXTS)).to_pandas()
            except (pa.ArrowInvalid, OSError) as error:
                raise ValueError(
                    f"{file} is damaged ({error}). Remove it, and run the command that prepared the copy again."
                ) from error
            parts.append(part.assign(path=str(file.relative_to(self.root)), row_group=np.arange(len(part))))
        scans = pd.concat([pd.DataFrame(columns=[*_TEXTS, "path", "row_group"]), *parts], ignore_index=True)
        labels = pd.DataFrame(
            np.array(scans.pop("labels").tolist(), np.int8).reshape(-1, len(LABELS)), columns=list(LABELS)
        )
        scans = scans.assign(patient=scans["volume"].map(patient_of), age=scans["age"].astype("Int16"), **labels)
        return scans.set_index("volume")

    def read_slices(self, scan: pd.Series, fractions: np.ndarray | None = None) -> tuple[np.ndarray, list[float]]:
        """
        Slices of one row of the table of scans, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, and the depth of each
        slice below the first, in mm.
        """
        assert fractions is None, "the planes of a prepared copy are fixed"
        try:
            file = self.root / scan["path"]
            shard = _open(file, file.stat().st_mtime_ns)
            group = shard.read_row_group(scan["row_group"], columns=["images", "slice_mm"])
            images = group["images"].chunk(0).flatten().field("bytes")
            slices = np.stack([np.asarray(Image.open(io.BytesIO(image.as_buffer()))) for image in images])
        except (pa.ArrowInvalid, OSError) as error:  # Pillow's errors are OSErrors
            raise VolumeError(
                f"{scan.name}: its slices in {file} cannot be read ({error}). Remove the file, "
                "and run the command that prepared the copy again."
            ) from error
        return slices, group["slice_mm"][0].as_py()

    def fingerprint(self) -> str:
        """A string that changes if a shard changes."""
        files = [file for split in self.provenance["shards"] for file in self.shards(split)]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{self.root} {json.dumps([self.provenance, stats], sort_keys=True)}"


def shard_name(split: str, index: int, count: int) -> str:
    """Path of a shard within the copy, named as shards on the Hub are."""
    return f"data/{split}-{index:05d}-of-{count:05d}.parquet"


@lru_cache(maxsize=256)
def _open(file: Path, modified: int) -> pq.ParquetFile:
    """A shard, kept open. `modified` is part of the key, so that a replaced file is opened again."""
    return pq.ParquetFile(file)  # without memory mapping: reading a truncated file would kill the process
