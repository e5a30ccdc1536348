"""The reader behind a dataset, found by the columns that it makes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datasets import Dataset, DatasetDict, IterableDataset

from .pair_column import READ_COLUMNS, PairColumn


def is_read(feature) -> bool:
    """Whether a column of this feature type is read from volumes, or drawn with them."""
    return isinstance(feature, PairColumn) and feature.column in READ_COLUMNS


def parts_of_stream(stream: IterableDataset) -> Iterator:
    """All iterables that a stream is composed of, the outer ones first."""

    def parts(iterable):
        yield iterable
        inner = [getattr(iterable, "ex_iterable", None), *getattr(iterable, "ex_iterables", ())]
        for one in inner:
            if one is not None:
                yield from parts(one)

    yield from parts(stream._ex_iterable)


def pair_columns(dataset: Dataset | IterableDataset) -> list[PairColumn]:
    """The columns that a reader makes when they are looked at."""
    known = [dataset.features]
    if isinstance(dataset, IterableDataset):  # after `map`, a stream no longer knows its columns, but its parts do
        known += [part.features for part in parts_of_stream(dataset)]
    return [feature for features in known for feature in (features or {}).values() if isinstance(feature, PairColumn)]


def has_reader(dataset: Dataset | IterableDataset) -> bool:
    """Whether a column of the dataset is made by a reader when it is looked at."""
    return bool(pair_columns(dataset))


def reader_of(dataset: Dataset | IterableDataset):
    """
    The reader of a dataset, which makes its rows when they are looked at.

    Returns:
        [`~ct_rate_pairs.rows.RowReader`]: the reader.

    Raises:
        `ValueError`: if no column of the dataset is read by a reader.
    """
    from .shared_readers import reader_for  # noqa: PLC0415  (imports torch, which those who only ask for names do not need)

    for feature in pair_columns(dataset):
        return reader_for(feature.options, feature.source)
    raise ValueError(
        f"No column of this dataset is read from a volume ({', '.join(dataset.column_names or [])}): pass a map-style "
        'dataset of load_dataset("ct_rate_pairs", ...), with its columns of slices.'
    )


def with_data_dir(dataset: Dataset, data_dir: str | Path, masks: str | Path | None = None) -> Dataset:
    """
    A dataset that was saved, with its scans in another place: for a folder of scans that was moved or renamed, or for
    another machine.

    Args:
        dataset (`Dataset`):
            Rows of one split, such as `load_from_disk` gives.
        data_dir (`str` or `Path`):
            Where the folder of the scans is now.
        masks (`str` or `Path`, *optional*):
            Where their masks are now. By default, where they were.

    Returns:
        `Dataset`: the same rows. Their slices are read from `data_dir`.

    Raises:
        `ValueError`: if `data_dir` lacks a volume of the dataset, or has other labels for it.
        `FileNotFoundError`: if there is no such folder.
    """
    from .shared_readers import CTRatePairsConfig, hash_of, open_source, reader_for  # noqa: PLC0415  (imports torch)

    for name, feature in dataset.features.items():
        if isinstance(feature, PairColumn):
            config = CTRatePairsConfig.from_json(feature.options)
            config.data_dir = str(data_dir)
            config.masks = config.masks if masks is None else str(masks)
            place = {"options": config.to_json(), "source": hash_of(open_source(data_dir, **config.settings))}
            dataset = dataset.cast_column(name, replace(feature, **place))
            _check_same_scans(dataset, reader_for(**place))
    return dataset


def _check_same_scans(dataset: Dataset, reader) -> None:
    """Refuses a folder in which a volume of the dataset is missing, or has other labels."""
    if not {"volume", "labels"} <= set(dataset.column_names):
        return
    names = dataset.with_format(None).select_columns(["volume", "labels"])
    labels = {
        volume: row.tolist()
        for split, table in reader.tables.items()
        for volume, row in zip(table.index, reader.labels[split], strict=True)
    }
    for row in names:
        if labels.get(row["volume"]) != row["labels"]:
            what = "other labels" if row["volume"] in labels else "nothing"
            raise ValueError(
                f"{reader.config.data_dir} has {what} for {row['volume']}: give the folder that this dataset was made "
                "from, at its new place, or load the dataset anew with load_dataset."
            )


def split_of(index: DatasetDict, split: str) -> Dataset:
    """
    A split of a dataset.

    Args:
        index ([`~datasets.DatasetDict`]):
            What `load_dataset("ct_rate_pairs", ...)` returns.
        split (`str`):
            Name of the split.

    Raises:
        `ValueError`: if the split has no row. The message says why.
    """
    if split not in index:
        raise ValueError(reader_of(next(iter(index.values()))).empty_split(split))
    return index[split]
