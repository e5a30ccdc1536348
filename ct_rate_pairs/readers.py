"""The reader behind a dataset, found by the columns that it makes."""

from datasets import Dataset, IterableDataset

from .pair_column import PairColumn
from .rows import READ_COLUMNS, RowReader, reader_for


def is_read(feature) -> bool:
    """Whether a column of this feature type is read from volumes, or drawn with them."""
    return isinstance(feature, PairColumn) and feature.column in READ_COLUMNS


def has_reader(dataset: Dataset | IterableDataset) -> bool:
    """Whether a column of the dataset is made by a reader when it is looked at."""
    return any(isinstance(feature, PairColumn) for feature in (dataset.features or {}).values())


def reader_of(dataset: Dataset | IterableDataset) -> RowReader:
    """
    The reader of a dataset, which makes its rows when they are looked at.

    Raises:
        `ValueError`: if no column of the dataset is read by a reader.
    """
    for feature in (dataset.features or {}).values():
        if isinstance(feature, PairColumn):
            return reader_for(feature.options, feature.source)
    raise ValueError(
        f"No column of this dataset is read from a volume ({', '.join(dataset.column_names or [])}): pass a map-style "
        'dataset of load_dataset("ct_rate_pairs", ...), with its columns of slices.'
    )
