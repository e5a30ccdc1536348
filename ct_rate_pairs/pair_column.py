"""The feature type of the columns that a row of a map-style dataset gets when it is looked at."""

import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from datasets import arrow_writer
from datasets.arrow_writer import OptimizedTypedSequence
from datasets.features.features import (
    FeatureType,
    decode_nested_example,
    encode_nested_example,
    generate_from_dict,
    get_nested_type,
    register_feature,
)
from datasets.table import cast_array_to_feature, embed_array_storage


# Columns of slices and of what is drawn with them.
READ_COLUMNS = ("images", "negative_images", "negative_volume", "label_distance", "slice_mm")


@dataclass
class PairColumn:
    """
    Feature type of a column whose values are read or drawn when they are looked at, such as `images` and
    `negative_images`, as [`~datasets.Image`] decodes an image when it is looked at.

    The Arrow table holds the place of a row (a volume and the number of a row among the volume's rows) instead of a
    value. All settings that the reader of the rows needs are fields of the type, so they are part of the schema and
    outlive every call of `datasets`, and also `save_to_disk` and `to_parquet`.

    A value that `map` or another call puts into the column is stored itself. A value that came out of the column and
    goes back unchanged stays a place, so it is still new in each epoch.

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
        # Made now, so that the worker processes of a DataLoader share the epoch.
        from .rows import share_epoch  # noqa: PLC0415  (imports torch, which `import ct_rate_pairs` does not need)

        share_epoch(self.options, self.source)

    def __reduce__(self):
        from .rows import what_a_process_needs  # noqa: PLC0415

        needed = what_a_process_needs(self.options, self.source)
        return _rebuild, (self.column, self.feature, self.options, self.source, self.decode, *needed)

    def __deepcopy__(self, memo):
        return PairColumn(self.column, self.feature, self.options, self.source, self.decode)

    def __call__(self) -> pa.DataType:
        """The Arrow type: a place, or a value that was put into the column."""
        return pa.struct({"volume": pa.string(), "number": pa.int32(), "own": get_nested_type(self.feature)})

    def places(self, volumes: list[str], numbers: list[int]) -> pa.StructArray:
        """The column of an index: the places of its rows."""
        arrays = pa.array(volumes, pa.string()), pa.array(numbers, pa.int32())
        return self._storage(*arrays, pa.nulls(len(volumes), get_nested_type(self.feature)))

    def encode_example(self, value) -> dict:
        """The storage of a value."""
        if isinstance(value, dict):  # already storage
            return value
        if isinstance(value, _Placed) and value.is_unchanged():
            return {"volume": value.volume, "number": value.number, "own": None}
        return {"volume": None, "number": None, "own": encode_nested_example(self.feature, value)}

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None):
        """The value of a row, read or drawn now for the epoch of the dataset."""
        if value["volume"] is None:
            return decode_nested_example(self.feature, value["own"], token_per_repo_id)
        from .rows import reader_for  # noqa: PLC0415

        reader = reader_for(self.options, self.source)
        return _place(reader.column(self.column, value["volume"], value["number"]), value["volume"], value["number"])

    def flatten(self) -> "PairColumn":
        """The type itself: `flatten` of a dataset leaves such a column whole."""
        return self

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """The storage of an array of places, or of values that were put into the column."""
        if pa.types.is_struct(storage.type) and storage.type.get_field_index("own") >= 0:
            volumes, numbers, own = (storage.flatten()[storage.type.get_field_index(name)] for name in self().names)
        else:
            nothing = pa.nulls(len(storage))
            volumes, numbers, own = nothing, nothing, storage
        return self._storage(
            volumes.cast(pa.string()), numbers.cast(pa.int32()), cast_array_to_feature(own, self.feature)
        )

    def embed_storage(self, storage: pa.StructArray, **options) -> pa.StructArray:
        """The storage with the files of values that were put into the column. A volume is never embedded."""
        volumes, numbers, own = storage.flatten()
        return self._storage(volumes, numbers, embed_array_storage(own, self.feature, **options))

    def _storage(self, volumes: pa.Array, numbers: pa.Array, own: pa.Array) -> pa.StructArray:
        return pa.StructArray.from_arrays([volumes, numbers, own], fields=list(self()))


def _rebuild(column: str, feature: FeatureType, options: str, source: str, decode: bool, epoch, reader) -> PairColumn:
    """The feature type in another process, with the epoch, and with the reader if the first process has one."""
    from .rows import adopt  # noqa: PLC0415

    adopt(options, source, epoch, reader)
    return PairColumn(column, feature, options, source, decode)


class _Placed:
    """A value that knows from which place it was read."""

    volume: str
    number: int

    def is_unchanged(self) -> bool:
        """Whether the value is what was read."""
        return True


class _PlacedText(str, _Placed):
    pass


class _PlacedNumber(int, _Placed):
    pass


class _PlacedList(list, _Placed):
    as_read: list

    def is_unchanged(self) -> bool:
        return self == self.as_read


def _place(value, volume: str, number: int):
    if value is None:  # a scan that cannot be read
        return None
    kind = {str: _PlacedText, int: _PlacedNumber, list: _PlacedList}[type(value)]
    placed = kind(value)
    if kind is _PlacedList:
        # Messages can be changed in place. Images are compared by identity, so they need no copy.
        placed.as_read = deepcopy(value) if value and isinstance(value[0], dict) else list(value)
    placed.volume, placed.number = volume, number
    return placed


class PairSequence(OptimizedTypedSequence):
    """
    The values of a column on their way into Arrow. `datasets` encodes the values of its own feature types there. This
    class also asks [`PairColumn`] to encode its values, so that `map` writes places and no pixels.
    """

    def __init__(self, data, type=None, try_type=None, **options):
        feature = type or try_type
        if isinstance(feature, PairColumn):
            data = [None if value is None else feature.encode_example(value) for value in data]
        super().__init__(data, type=type, try_type=try_type, **options)


def register_column() -> None:
    """Makes `datasets` know the feature type, so that a schema that names it can be read and written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'register_feature' is experimental")
        register_feature(PairColumn, "PairColumn")
    arrow_writer.OptimizedTypedSequence = PairSequence
