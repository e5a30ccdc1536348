"""Reads a prepared copy: the slices, reports and labels in Parquet shards that `ct-rate-pairs prepare` writes."""

import io
import json
import logging
import re
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.cohort import PreparedCopy
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volume_names import VOLUME_NAME, patient_of
from ct_rate_pairs.volumes.files import MOST_BYTES, MOST_SIDE
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slice_plan import SlicePlan
from ct_rate_pairs.volumes.slicing import VolumeError


logger = logging.getLogger(__name__)

PROVENANCE = "prepared.json"
READING = 2  # raised by each release that reads some volumes otherwise than the release before it
TABLE = pa.schema(
    {
        "volume": pa.string(),
        "findings": pa.string(),
        "impression": pa.string(),
        "age": pa.int16(),
        "sex": pa.string(),
        "labels": pa.list_(pa.int8()),
    }
)
# The column of the copy of a reader's own table. Columns of metadata stand beside these.
QUESTIONS = pa.list_(pa.struct({"question": pa.string(), "answer": pa.string()}))
_CHECKED = {"page_checksum_verification": True}  # a flipped bit is an error, and not another report or picture


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

    fixed = tuple(field.name for field in fields(VolumeSettings))  # settings that the copy was written with
    table = TABLE  # columns of a shard that are read for all scans at once

    def __init__(self, root: str | Path, **settings):
        self.root = Path(root).expanduser().resolve()
        self.provenance = read_provenance(self.root)
        try:
            own = VolumeSettings(**self.provenance["settings"])
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{self.root / PROVENANCE} is damaged ({error}). Prepare the copy again.") from error
        if self.provenance.get("reading", 1) != READING:
            logger.warning(
                "%s was prepared by a release (%s) that read some volumes otherwise: see CHANGELOG.md for which. "
                "Prepare the copy again if such volumes may be among them.",
                self.root, self.provenance["ct_rate_pairs"],
            )  # fmt: skip
        self.settings = replace(own, **settings)
        for name in self.fixed:
            there, wanted = getattr(own, name), getattr(self.settings, name)
            if wanted != there:
                raise ValueError(
                    f"{self.root} is a prepared copy with {name}={there!r}, so it cannot give {name}={wanted!r}. "
                    f"Leave {name} out, read the source ({self.provenance['source']}), or prepare another copy."
                )

    @property
    def is_phantom(self) -> bool:
        """Whether the scans are synthetic."""
        return self.provenance["phantom"]

    @property
    def is_own(self) -> bool:
        """Whether the scans are those of a reader's own table."""
        return self.provenance.get("own", False)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the copied cohort divides its scans into."""
        return tuple(self.provenance["shards"])

    @property
    def metadata(self) -> tuple[str, ...]:
        """The columns that rows hold as texts. Copies of CT-RATE by earlier releases have none."""
        return tuple(self.provenance.get("metadata", ()))

    @property
    def labels_from(self) -> str:
        """Where the labels of the copied cohort come from, see [`~ct_rate_pairs.sources.tree.TreeSource`]."""
        return self.provenance.get("labels_from", "table")

    @property
    def keeps_plans(self) -> bool:
        """Whether the copy knows where its slices lie, so that masks can be shown on them."""
        return self.provenance.get("plans", False)

    def shards(self, split: str) -> list[Path]:
        """
        Files of a split.

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
        A split of `splits` as a table, indexed by the volume's name. Its columns are `findings`, `impression`, `age`,
        `sex`, the metadata, `patient`, the 18 labels, `path` (of the shard) and `row_group`; and for a reader's own
        table `questions`.

        Raises:
            `FileNotFoundError`: if a file is missing.
            `ValueError`: if a file cannot be read, or if a row has no volume name, that of another row, or no labels.
        """
        parts = []
        own = [("questions", QUESTIONS)] if self.is_own else []
        schema = pa.schema([*self.table, *own, *((name, pa.string()) for name in self.metadata)])
        for file in self.shards(split):
            part = _read_table(file, schema)
            parts.append(part.assign(path=str(file.relative_to(self.root)), row_group=np.arange(len(part))))
        scans = pd.concat([pd.DataFrame(columns=[*schema.names, "path", "row_group"]), *parts], ignore_index=True)
        if (twice := scans["volume"].duplicated()).any():
            row = scans[twice].iloc[0]
            raise _damaged(self.root / row["path"], f"row {row['row_group']}: {row['volume']} occurs twice")
        labels = pd.DataFrame(
            np.array(scans.pop("labels").tolist(), np.int8).reshape(-1, len(LABELS)), columns=list(LABELS)
        )
        if self.is_own:
            pairs = [[(one["question"], one["answer"]) for one in asked] for asked in scans["questions"]]
            scans["questions"] = pd.Series(pairs, scans.index, dtype=object)
        scans = scans.assign(patient=scans["volume"].map(patient_of), age=scans["age"].astype("Int16"), **labels)
        return scans.set_index("volume")

    def read_slices(self, scan: pd.Series, fractions: np.ndarray | None = None) -> tuple[np.ndarray, list[float]]:
        """
        Slices of one row of the table of scans, uint8 of shape `[S, H, W]` or `[S, H, W, 3]`, and the depth of each
        slice below the first, in mm.

        Raises:
            `VolumeError`: if they cannot be read, or are not as the settings of the copy say.
        """
        slices, slice_mm, _ = self._read_row(scan, fractions, [])
        return slices, slice_mm

    def read_planned(
        self, scan: pd.Series, fractions: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[float], SlicePlan]:
        """As [`read_slices`], and where the slices lie, if the copy [`keeps_plans`]."""
        return self._read_row(scan, fractions, ["plan"])

    def _read_row(self, scan: pd.Series, fractions: np.ndarray | None, more: list[str]) -> tuple:
        assert fractions is None, "the planes of a prepared copy are fixed"
        file = self.root / scan["path"]
        try:
            shard = _open(file, file.stat().st_mtime_ns)
            group = shard.read_row_group(scan["row_group"], columns=["volume", "images", "slice_mm", *more])
            if group["volume"].to_pylist() != [scan.name]:
                raise ValueError("they are those of another volume")
            images = group["images"].chunk(0).flatten().field("bytes").to_pylist()
            slices = self._decode(images)
            plan = SlicePlan.from_row(scan.name, group["plan"][0].as_py()) if more else None
            if plan and (len(plan.slabs), *plan.size[1:]) != slices.shape[:3]:
                raise ValueError("its plan is not that of these slices")
            return slices, self._depths(group["slice_mm"][0].as_py()), plan
        except Exception as error:  # whatever damage causes in Arrow or Pillow: a bad row costs no more than itself
            raise VolumeError(
                f"{scan.name}: its slices in {file} cannot be read ({str(error) or type(error).__name__}). Remove the "
                "file, and run the command that prepared the copy again."
            ) from error

    def voxel_mm(self, scan: pd.Series) -> None:
        """`None`: the size of the voxels of the files is not kept."""
        return None

    def _decode(self, images: list[bytes]) -> np.ndarray:
        """The slices of a row. Their number and sizes are checked before they are decoded."""
        if len(images) != self.settings.num_slices:
            raise ValueError(f"there are {len(images)} of {self.settings.num_slices} slices")
        opened = [_open_slice(number, image) for number, image in enumerate(images, start=1)]
        mode = "RGB" if self.settings.channels > 1 else "L"  # a letter per channel, of a byte each
        if kinds := {(image.mode, *image.size) for image in opened} - {(mode, *opened[0].size)}:
            raise ValueError(f"a slice is {kinds.pop()}, but should be {(mode, *opened[0].size)}")
        if max(opened[0].size) > MOST_SIDE or len(opened) * np.prod(opened[0].size) * len(mode) > MOST_BYTES:
            raise ValueError(f"slices of {opened[0].size} pixels are larger than those of any CT")
        return np.stack([np.asarray(image) for image in opened])

    def _depths(self, slice_mm: list[float] | None) -> list[float]:
        depths = np.array(slice_mm, dtype=float)
        if (
            depths.shape != (self.settings.num_slices,)
            or not np.isfinite(depths).all()
            or (np.diff(depths) <= 0).any()
        ):
            raise ValueError("slice_mm must be one depth per slice, and rise")
        return slice_mm

    def fingerprint(self) -> str:
        """A string that changes if a shard changes."""
        files = [file for split in self.provenance["shards"] for file in self.shards(split)]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{self.root} {json.dumps([self.provenance, stats], sort_keys=True)}"


def form_of(root: str | Path) -> str:
    """What the prepared copy in a folder holds: `"slices"`, or the form of its volumes."""
    return read_provenance(root).get("form", "slices")


def read_provenance(root: str | Path) -> dict:
    """
    The content of `prepared.json`.

    Raises:
        `ValueError`: if the file is damaged.
    """
    file = Path(root).expanduser().resolve() / PROVENANCE
    try:
        return read_json(file, PreparedCopy)
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}). Prepare the copy again.") from error


def shard_name(split: str, index: int, count: int) -> str:
    """Path of a shard within the copy, named as shards on the Hub are."""
    return f"data/{split}-{index:05d}-of-{count:05d}.parquet"


@lru_cache(maxsize=256)
def _open(file: Path, modified: int) -> pq.ParquetFile:
    """A shard, kept open. `modified` is part of the key, so that a replaced file is opened again."""
    return pq.ParquetFile(file, **_CHECKED)  # without memory mapping: reading a truncated file would kill the process


def _read_table(file: Path, schema: pa.Schema) -> pd.DataFrame:
    """The rows of a shard without their slices. Names are checked because they are shown and tell the patients."""
    try:
        part = pq.read_table(file, columns=schema.names, **_CHECKED).select(schema.names).cast(schema).to_pandas()
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        raise _damaged(file, str(error).partition("\n")[0]) from error
    for row, (volume, labels) in enumerate(zip(part["volume"], part["labels"], strict=True)):
        if not re.fullmatch(VOLUME_NAME, str(volume)):
            raise _damaged(file, f"row {row}: {volume!r:.80} is no name of a volume, such as train_12_a_1.nii.gz")
        if labels is None or len(labels) != len(LABELS) or not set(labels.tolist()) <= {0, 1}:
            raise _damaged(file, f"row {row}: {volume} has no {len(LABELS)} labels of 0 or 1")
    return part


def _damaged(file: Path, what: str) -> ValueError:
    return ValueError(f"{file} is damaged ({what}). Remove it, and run the command that prepared the copy again.")


def _open_slice(number: int, image: bytes | None) -> Image.Image:
    """A slice of which only the header is read."""
    try:
        return Image.open(io.BytesIO(image), formats=["PNG"])
    except UnidentifiedImageError:  # its message has an address in memory
        raise ValueError(f"slice {number} is no PNG") from None
