"""The feature type of the columns that a row of a map-style dataset gets when it is looked at."""

import logging
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets import List
from datasets.arrow_writer import ArrowWriter
from datasets.features.features import (
    FeatureType,
    cast_to_python_objects,
    decode_nested_example,
    encode_nested_example,
    generate_from_dict,
    get_nested_type,
    register_feature,
)
from datasets.table import cast_array_to_feature, embed_array_storage


logger = logging.getLogger(__name__)

# Columns of slices and of what is drawn with them.
READ_COLUMNS = ("images", "negative_images", "negative_volume", "label_distance", "slice_mm", "masks")


@dataclass
class PairColumn:
    """
    Feature type of a column whose values are read or drawn when they are looked at, such as `images` and
    `negative_images`, as [`~datasets.Image`] decodes an image when it is looked at.

    The Arrow table holds the place of a row (a volume and the number of a row among the volume's rows) instead of a
    value. All settings that the reader of the rows needs are fields of the type, so they are part of the schema and
    outlive every call of `datasets`, and also `save_to_disk` and `to_parquet`.

    A value that `map` or another call puts into the column is stored itself. A value that came out of the column and
    goes back unchanged stays a place, so it is still new in each epoch; see [`encode_batch`].

    Args:
        column (`str`):
            The column of [`~ct_rate_pairs.builder.CTRatePairs`] that is read, whatever the dataset calls it.
        feature:
            Feature type of the values.
        options (`str`):
            The options of the dataset, see [`~ct_rate_pairs.config.CTRatePairsConfig.to_json`].
        source (`str`):
            Hash of the fingerprint of the source, to notice a source that has changed.
        decode (`bool`, *optional*, defaults to `True`):
            Whether values are read. `False` gives the places.
    """

    column: str
    feature: FeatureType
    options: str = field(repr=False)
    source: str = field(repr=False)
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    pa_type: ClassVar[Any] = None
    _type: str = field(default="PairColumn", init=False, repr=False)

    def __post_init__(self):
        if isinstance(self.feature, dict):  # a schema was read from JSON
            self.feature = generate_from_dict(self.feature)
        # The epoch is made now, so that the worker processes of a DataLoader share it.
        from .shared_readers import share_epoch  # noqa: PLC0415  (imports torch, which `import ct_rate_pairs` does not need)

        share_epoch(self.options, self.source)

    def __reduce__(self):
        from .shared_readers import what_a_process_needs  # noqa: PLC0415

        needed = what_a_process_needs(self.options, self.source)
        return _rebuild, (self.column, self.feature, self.options, self.source, self.decode, *needed)

    def __deepcopy__(self, memo):
        return PairColumn(self.column, self.feature, self.options, self.source, self.decode)

    def __call__(self) -> pa.DataType:
        """
        The Arrow type: a place, or a value that was put into the column. The value is in a list, which Arrow cannot
        sort: sorting the places would not sort the values.
        """
        own = pa.list_(get_nested_type(self.feature))
        return pa.struct({"own": own, "volume": pa.string(), "number": pa.int32()})

    def places(self, volumes: list[str], numbers: list[int]) -> pa.StructArray:
        """The column of an index: the places of its rows."""
        arrays = pa.array(volumes, pa.string()), pa.array(numbers, pa.int32())
        return self._storage(pa.nulls(len(volumes), self().field("own").type), *arrays)

    def encode_example(self, value) -> dict:
        """The storage of a value."""
        if isinstance(value, dict):  # already storage
            return value
        if isinstance(value, PlacedList | PlacedArray) and value.belongs_to(self):
            return {"own": None, "volume": value.volume, "number": value.number}
        own = [encode_nested_example(self.feature, cast_to_python_objects(value))]
        return {"own": own, "volume": None, "number": None}

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None):
        """The value of a row, read or drawn now for the epoch of the dataset."""
        if value["own"] is not None:
            return decode_nested_example(self.feature, value["own"][0], token_per_repo_id)
        read = self.read(value)
        if isinstance(read, np.ndarray):
            return PlacedArray(read, self, value)
        return PlacedList(read, self, value) if isinstance(read, list) else read

    def read(self, place: dict):
        """What the reader makes of a place now."""
        from .shared_readers import reader_for  # noqa: PLC0415

        return reader_for(self.options, self.source).column(self.column, place["volume"], place["number"])

    def flatten(self) -> "PairColumn":
        """The type itself: `flatten` of a dataset leaves such a column whole."""
        return self

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """The storage of an array of places, or of values that were put into the column."""
        if pa.types.is_struct(storage.type) and storage.type.get_field_index("own") >= 0:
            own, volumes, numbers = (storage.flatten()[storage.type.get_field_index(name)] for name in self().names)
        else:
            offsets = pa.array(range(len(storage) + 1), pa.int32())
            own, volumes, numbers = pa.ListArray.from_arrays(offsets, storage), *2 * [pa.nulls(len(storage))]
        own = cast_array_to_feature(own, List(self.feature))
        return self._storage(own, volumes.cast(pa.string()), numbers.cast(pa.int32()))

    def embed_storage(self, storage: pa.StructArray, **options) -> pa.StructArray:
        """The storage with the files of values that were put into the column. A volume is never embedded."""
        own, volumes, numbers = storage.flatten()
        return self._storage(embed_array_storage(own, List(self.feature), **options), volumes, numbers)

    def _storage(self, own: pa.Array, volumes: pa.Array, numbers: pa.Array) -> pa.StructArray:
        return pa.StructArray.from_arrays([own, volumes, numbers], fields=list(self()))


def _rebuild(column: str, feature: FeatureType, options: str, source: str, decode: bool, epoch, reader) -> PairColumn:
    """The feature type in another process, with the epoch, and with the reader if the first process has one."""
    from .shared_readers import adopt  # noqa: PLC0415

    adopt(options, source, epoch, reader)
    return PairColumn(column, feature, options, source, decode)


class PlacedList(list):
    """
    A value of a column, such as the images of a row, that knows where it was read.

    Args:
        values (`list`):
            The value.
        feature ([`PairColumn`]):
            The column.
        place (`dict`):
            `volume` and `number` of the row.
    """

    def __init__(self, values: list, feature: PairColumn, place: dict):
        super().__init__(values)
        self.feature, self.volume, self.number = feature, place["volume"], place["number"]
        # Messages and lists can be changed in place. Images are compared by identity, so they need no copy.
        if values and isinstance(values[0], dict):
            self.as_read = deepcopy(values)
        else:
            self.as_read = [list(value) if isinstance(value, list) else value for value in values]

    def __reduce__(self):
        return list, (list(self),)

    def belongs_to(self, feature: PairColumn) -> bool:
        """Whether the value is unchanged, and was read from the same column of the same dataset."""
        return self.feature == feature and self == self.as_read


class PlacedArray(np.ndarray):
    """
    A whole volume that knows where it was read. It is read-only, so that what knows its place is unchanged; a copy of
    it can be changed.

    Args:
        values (`np.ndarray`):
            The values.
        feature ([`PairColumn`]):
            The column.
        place (`dict`):
            `volume` and `number` of the row.
    """

    feature: PairColumn | None = None

    def __new__(cls, values: np.ndarray, feature: PairColumn, place: dict):
        """The values, with their place."""
        placed = values.view(cls)
        placed.flags.writeable = False
        placed.feature, placed.volume, placed.number = feature, place["volume"], place["number"]
        return placed

    def __reduce__(self):
        return np.asarray(self).__reduce__()

    def belongs_to(self, feature: PairColumn) -> bool:
        """Whether the value was read from the same column of the same dataset, and is no part or copy of one."""
        return self.feature == feature


# Columns that describe another column, and are stored with it.
LEADERS = {
    "negative_volume": "negative_images",
    "label_distance": "negative_images",
    "slice_mm": "images",
    "masks": "images",
}


def encode_batch(batch: Mapping[str, Any], features: Mapping[str, FeatureType]) -> Mapping[str, Any]:
    """
    The columns of a batch on their way into Arrow, such as those that `map` writes.

    Values that came out of a dataset and go back unchanged become places again. Where `map` has put other slices or
    texts into a row, the columns that belong to them are stored, too: what describes the slices of one epoch must not
    stand beside those of another, and no answer beside another question.

    Args:
        batch (`Mapping[str, list or pa.Array]`):
            The columns. Those that `map` has not looked at are Arrow arrays.
        features (`Mapping[str, FeatureType]`):
            Feature types of the dataset.

    Returns:
        `Mapping[str, list or pa.Array]`: the columns, with storage in those of type [`PairColumn`].
    """
    names = {
        feature.column: name for name, feature in features.items() if isinstance(feature, PairColumn) and name in batch
    }
    if all(isinstance(batch[name], pa.Array | pa.ChunkedArray) for name in names.values()):
        return batch
    columns = {column: _storage_of(features[name], batch[name]) for column, name in names.items()}
    for row in range(len(next(iter(columns.values())))):
        stored = {column: storage[row] for column, storage in columns.items() if storage[row] is not None}
        of_column = {column: features[names[column]] for column in stored}
        for column, leader in LEADERS.items():
            if column in stored and leader in stored:
                _follow([column], stored, of_column, stored[leader])
        texts = [column for column in stored if column not in READ_COLUMNS]
        places = [storage for storage in stored.values() if storage["own"] is None]
        if texts and places:
            _follow(texts, stored, of_column, places[0])
            if changed := [column for column in texts if stored[column]["own"] is not None]:
                _follow(texts, stored, of_column, stored[changed[0]])
        for column, storage in stored.items():
            columns[column][row] = storage
    for column, storage in columns.items():
        if column not in LEADERS and any(value is not None and value["own"] is not None for value in storage):
            tell_stored(column)
    return {**batch, **{name: columns[column] for column, name in names.items()}}


def _storage_of(feature: PairColumn, values) -> list[dict | None]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.to_pylist()
    return [None if value is None else feature.encode_example(value) for value in values]


def _follow(columns: list[str], stored: dict[str, dict], features: dict[str, PairColumn], leader: dict) -> None:
    """
    Makes the storage of `columns` like that of their leader: a place for values that are those of its place, and the
    values themselves if the leader is stored.
    """
    for column in columns:
        feature, storage = features[column], stored[column]
        if leader["own"] is None and storage["own"] is not None:
            if storage["own"] == [encode_nested_example(feature.feature, feature.read(leader))]:
                stored[column] = {**leader}
        elif leader["own"] is not None and storage["own"] is None:
            own = encode_nested_example(feature.feature, cast_to_python_objects(feature.read(storage)))
            stored[column] = {"own": [own], "volume": None, "number": None}


@cache
def tell_stored(column: str) -> None:
    """Tells once that values of a column do not change with the epoch."""
    logger.warning(
        "Values of the column %r, and what belongs to them, are stored in the dataset. They no longer change with the "
        "epoch. To change rows as they are read, use `with_transform`.",
        column,
    )


def register_column() -> None:
    """Makes `datasets` know the feature type, so that a schema that names it can be read and written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'register_feature' is experimental")
        register_feature(PairColumn, "PairColumn")
    write = ArrowWriter._write_batch

    def write_batch(writer: ArrowWriter, batch_examples: Mapping, *args, **options) -> None:
        # `datasets` encodes only values of its own feature types here.
        write(writer, encode_batch(batch_examples, writer._features or {}), *args, **options)

    ArrowWriter._write_batch = write_batch
