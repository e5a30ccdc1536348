"""The reader behind a dataset, found by the columns that it makes."""

from datasets import Dataset, IterableDataset

from .pair_column import READ_COLUMNS, PairColumn


def is_read(feature) -> bool:
    """Whether a column of this feature type is read from volumes, or drawn with them."""
    return isinstance(feature, PairColumn) and feature.column in READ_COLUMNS


def has_reader(dataset: Dataset | IterableDataset) -> bool:
    """Whether a column of the dataset is made by a reader when it is looked at."""
    return any(isinstance(feature, PairColumn) for feature in (dataset.features or {}).values())


def reader_of(dataset: Dataset | IterableDataset):
    """
    The reader of a dataset, which makes its rows when they are looked at.

    Returns:
        [`~ct_rate_pairs.rows.RowReader`]: the reader.

    Raises:
        `ValueError`: if no column of the dataset is read by a reader.
    """
    from .rows import reader_for  # noqa: PLC0415  (imports torch, which those who only ask for names do not need)

    for feature in (dataset.features or {}).values():
        if isinstance(feature, PairColumn):
            return reader_for(feature.options, feature.source)
    raise ValueError(
        f"No column of this dataset is read from a volume ({', '.join(dataset.column_names or [])}): pass a map-style "
        'dataset of load_dataset("ct_rate_pairs", ...), with its columns of slices.'
    )
