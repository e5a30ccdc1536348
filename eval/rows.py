"""Rows of a split by their index: names, texts and labels, without reading a volume."""

from collections.abc import Collection, Sequence

import numpy as np
from datasets import Dataset


def volume_names(rows: Dataset | Sequence[dict]) -> list[str]:
    """
    The names of the rows' volumes, none of which is read.

    Raises:
        `ValueError`: if the rows cannot be read by index.
    """
    if isinstance(rows, Dataset):
        return list(rows.with_format(None)["volume"])  # the index: a format's transform would read the slices
    if not isinstance(rows, Sequence):
        raise ValueError(
            f"{type(rows).__name__} cannot be read by index, but every row needs one of another patient: pass a list "
            "of rows, or a dataset loaded with streaming=False."
        )
    return [row["volume"] for row in rows]


def check_volume(row: dict, name: str) -> dict:
    """Returns the row, or raises a `ValueError` if it is not of the volume `name`."""
    if row["volume"] != name:
        raise ValueError(
            f"{row['volume']} stands in the place of {name}, which cannot be read (on_error='skip'). Leave such rows "
            "out with `select`, or pass a list of the rows that were read, each once."
        )
    return row


def select_volumes(scans: Dataset, volumes: Collection[str]) -> Dataset:
    """
    Those of `scans` that are among `volumes`, in the order of `scans`. No scan is read.

    Raises:
        `ValueError`: for a volume that is not among `scans`.
    """
    names = scans.with_format(None)["volume"][:]
    missing = [volume for volume in volumes if volume not in set(names)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(volumes)} predictions are for volumes that are not among these {len(names)} "
            f"scans, such as {missing[0]}: choose the split and the data_dir that they were made from."
        )
    return scans.select([index for index, volume in enumerate(names) if volume in volumes])


def references_of(scans: Dataset) -> tuple[list[str], list[str], np.ndarray]:
    """VolumeNames, reference reports and labels, int `[N, 18]`, from the dataset's index: no scan is read."""
    texts = scans.with_format(None).select_columns(["volume", "completion", "labels"])
    reports = [turns[0]["content"] for turns in texts["completion"]]
    return texts["volume"][:], reports, np.array(texts["labels"][:])


def first_rows(rows: Dataset, number: int) -> Dataset:
    """The first rows of a split; all of them for 0. No volume is read."""
    return rows.select(range(min(number or len(rows), len(rows))))


def first_volumes(rows: Dataset, number: int) -> Dataset:
    """All rows of the first volumes of a split. No volume is read."""
    volumes = list(rows.with_format(None)["volume"])
    kept = set(list(dict.fromkeys(volumes))[:number])
    return rows.select([i for i, volume in enumerate(volumes) if volume in kept])
