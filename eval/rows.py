"""Names, texts and labels of the rows of a split. No volume is read for them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from datasets import Dataset

from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import has_reader, is_read, reader_of
from ct_rate_pairs.reports.findings_line import report_of
from ct_rate_pairs.reports.prompt_lines import metadata_lines, metadata_names, put_before
from ct_rate_pairs.reports.texts import write_prompt


def volume_names(rows: Dataset | Sequence[dict]) -> list[str]:
    """
    The names of the rows' volumes. No volume is read.

    Raises:
        `ValueError`: if the rows cannot be read by index.
    """
    if isinstance(rows, Dataset):
        return list(rows.with_format(None)["volume"])  # a transform of the reader's own might read the slices
    if not isinstance(rows, Sequence):
        raise ValueError(
            f"{type(rows).__name__} cannot be read by index, but every row needs the row of another patient: pass a "
            "list of rows, or a dataset loaded with streaming=False."
        )
    return [row["volume"] for row in rows]


def check_readable(row: dict) -> dict:
    """Returns the row; raises a `ValueError` if its volume cannot be read."""
    if not is_readable(row):
        raise ValueError(
            f"{row['volume']} cannot be read, and neither can its partners be if it has a negative (on_error='skip'). "
            "Leave out such rows: `select_readable(rows)` of ct_rate_pairs.eval.rows does so."
        )
    return row


def select_readable(rows: Dataset | Sequence[dict]) -> Dataset | Sequence[dict]:
    """
    The rows that can be read. Each row is read once more for it, but only for a dataset with `on_error="skip"`:
    otherwise an unreadable row is an error anyway.
    """
    if not isinstance(rows, Dataset) or not has_reader(rows) or reader_of(rows).config.on_error == "raise":
        return rows
    return rows.select([place for place, row in enumerate(rows) if is_readable(row)])


def without_slices(rows: Dataset | Sequence[dict]) -> Dataset | Sequence[dict]:
    """The rows with their texts and labels alone, so that no volume is read for them."""
    if not isinstance(rows, Dataset):
        return rows
    read = {name for name, feature in rows.features.items() if is_read(feature)}
    return rows.with_format(None).select_columns([name for name in rows.column_names if name not in read])


def select_volumes(scans: Dataset, volumes: Collection[str]) -> Dataset:
    """
    Selects the rows of `scans` whose volume is among `volumes`, in the order of `scans`. No scan is read.

    Raises:
        `ValueError`: for a volume that is not among `scans`.
    """
    names = scans.with_format(None)["volume"][:]
    missing = [volume for volume in volumes if volume not in set(names)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(volumes)} predictions are for volumes that are not among these {len(names)} "
            f"scans, such as {missing[0]}: choose the split and the data_dir that the predictions were made from."
        )
    return scans.select([index for index, volume in enumerate(names) if volume in volumes])


def references_of(scans: Dataset) -> tuple[list[str], list[str], np.ndarray]:
    """VolumeNames, reference reports without a findings line, and labels, int `[N, 18]`. No scan is read."""
    texts = scans.with_format(None).select_columns(["volume", "completion", "labels"])
    reports = [report_of(turns[-1]) for turns in texts["completion"]]
    return texts["volume"][:], reports, np.array(texts["labels"][:])


def report_prompt(row: Mapping, config: CTRatePairsConfig) -> list[dict]:
    """The prompt for the report of a row of any task, as the model had it in its training."""
    lines = metadata_lines(row, metadata_names(config.prompt_metadata), config.prompt)
    asked = put_before(write_prompt(config.target, config.prompt), lines, config.prompt)
    return [{"role": "user", "content": asked}]


def first_rows(rows: Dataset, number: int) -> Dataset:
    """The first `number` rows of a split; all rows if `number` is 0. No volume is read."""
    return rows.select(range(min(number or len(rows), len(rows))))


def first_volumes(rows: Dataset, number: int) -> Dataset:
    """All rows of the first `number` volumes of a split. No volume is read."""
    volumes = list(rows.with_format(None)["volume"])
    kept = set(list(dict.fromkeys(volumes))[:number])
    return rows.select([i for i, volume in enumerate(volumes) if volume in kept])
