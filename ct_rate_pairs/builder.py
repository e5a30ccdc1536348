"""The `datasets` builder: `load_dataset("ct_rate_pairs", negative="heter", data_dir=...)`."""

import io
from copy import deepcopy
from functools import cached_property

import datasets
import numpy as np
import pyarrow as pa
from datasets import Features, Image, List, Value
from datasets.iterable_dataset import ExamplesIterable, _shuffle_gen_kwargs
from PIL import Image as PILImage

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.tasks import TASKS

from .config import CTRatePairsConfig
from .rows import RowReader


_MESSAGES = List({"role": Value("string"), "content": Value("string")})
INDEX_FEATURES = Features(
    {
        "volume": Value("string"),
        "prompt": _MESSAGES,
        "completion": _MESSAGES,
        "labels": List(Value("int8"), length=len(LABELS)),
        "age": Value("int16"),
        "sex": Value("string"),
    }
)
ROW_FEATURES = Features(
    {
        "volume": Value("string"),
        "images": List(Image()),
        "negative_images": List(Image()),
        "negative_volume": Value("string"),
        "label_distance": Value("int8"),
        "prompt": _MESSAGES,
        "completion": _MESSAGES,
        "labels": List(Value("int8"), length=len(LABELS)),
        "slice_mm": List(Value("float32")),
        "age": Value("int16"),
        "sex": Value("string"),
    }
)


class PairExamplesIterable(ExamplesIterable):
    """
    A stream with one shard per row (`volumes` names the rows). So any number of workers and ranks can share the rows,
    and a resumed stream reads no volume again. `datasets` shuffles once per epoch, and each shuffle also renews the
    key of the random draws.
    """

    def __iter__(self):
        start = self._state_dict["shard_idx"] if self._state_dict else 0
        for i, volume in enumerate(self.kwargs["volumes"][start:], start + 1):
            # A skipped volume gives no row.
            rows = list(self.generate_examples_fn(**{**self.kwargs, "volumes": [volume]}))
            if self._state_dict:
                # Before the row is yielded: the base class counts a shard after its last row, and a resumed stream
                # would then read this row again.
                self._state_dict["shard_idx"] = i
            yield from rows

    def shuffle_data_sources(self, generator: np.random.Generator) -> "PairExamplesIterable":
        """The rows in a new order and with a new key of the random draws, as `datasets` asks for at each epoch."""
        # The new key also depends on the old key: the generator of an epoch may equal the generator of the seed.
        keys = [self.kwargs["draw_key"], int(deepcopy(generator).integers(1 << 62))]
        draw_key = int(np.random.default_rng(keys).integers(1 << 62))
        kwargs = _shuffle_gen_kwargs(deepcopy(generator), {**self.kwargs, "draw_key": draw_key})
        return PairExamplesIterable(self.generate_examples_fn, kwargs)

    def shard_data_sources(self, num_shards: int, index: int, contiguous=True) -> "PairExamplesIterable":
        """The rows of one worker or rank."""
        indices = self.split_shard_indices_by_worker(num_shards, index, contiguous=contiguous)
        volumes = [self.kwargs["volumes"][i] for i in indices]
        return PairExamplesIterable(self.generate_examples_fn, {**self.kwargs, "volumes": volumes})

    def reshard_data_sources(self) -> "PairExamplesIterable":
        """The stream itself: a shard is one volume, which cannot be split further."""
        return self


class CTRatePairs(datasets.ArrowBasedBuilder):
    """
    The builder of the dataset. A row has these columns:

    - `volume`: name of the volume.
    - `images`: `num_slices` images, superior first.
    - `negative_images`: as many images of the same size; empty without negatives.
    - `negative_volume`: name of the partner; `""` for noise and without negatives.
    - `label_distance`: in how many of the 18 labels the partner differs.
    - `prompt`, `completion`: the texts, in TRL's conversational form.
    - `labels`: 18 zeros and ones, in the order of [`LABELS`].
    - `slice_mm`: depth of each slice below the first slice, in mm.
    - `age`, `sex`: of the patient; `None` where unknown.

    Three tasks add columns:

    - `"vqa"`: `question_number` (counts the questions of a volume), `question_type`, `answer_type` (`"yes/no"`,
      `"side"` or `"list"`) and `label` (the finding that the question is about; `""` for all findings).
    - `"matching"`: `options` and `correct` (index of the volume's own text in `options`).
    - `"errors"`: `statements`, `wrong` (index of the wrong statement in `statements`), `error` (`"added"`,
      `"removed"` or `"side"`) and `label` (the finding that the wrong statement is about).

    A streamed dataset yields such rows. A map-style dataset writes only an index of texts and labels to the cache and
    reads a volume when its row is taken. So no volume is downloaded before it is needed, and noise is never frozen.
    """

    BUILDER_CONFIG_CLASS = CTRatePairsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=Features(INDEX_FEATURES | TASKS[self.config.task].features))

    @cached_property
    def reader(self) -> RowReader:
        """Reads the rows of every split."""
        source = open_source(self.config.data_dir, self.token, **self.config.settings)
        return RowReader(self.config, source)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        if not any(len(table) for table in self.reader.tables.values()):
            raise ValueError(
                f"{self.config.data_dir or 'CT-RATE'} holds no volume that its tables name, for "
                f"files={self.reader.source.settings.files!r}. The `fixed` volumes are in dataset/train_fixed and "
                "dataset/valid_fixed, the `original` volumes in dataset/train and dataset/valid."
            )
        lines = {name: self.reader.lines(name) for name in self.reader.tables}
        if not any(lines.values()):
            raise ValueError(
                f"task={self.config.task!r} finds nothing to ask in {self.config.data_dir or 'CT-RATE'}: it needs "
                f"several patients whose reports differ. Use more scans{TASKS[self.config.task].remedy}."
            )
        return [
            datasets.SplitGenerator(name, gen_kwargs={"volumes": of_split, "split": name})
            for name, of_split in lines.items()
            if of_split
        ]

    def _generate_tables(self, volumes: list[tuple[str, int]], split: str):
        places = {name: i for i, name in enumerate(self.reader.tables[split].index)}
        for start in range(0, len(volumes), 1000):
            rows = []
            for name, number in volumes[start : start + 1000]:
                i = places[name]
                labels = self.reader.labels[split][i].tolist()
                rows.append({"volume": name, "labels": labels, **self.reader.texts(split, i, number)})
            yield start, pa.Table.from_pylist(rows, self.info.features.arrow_schema)

    def as_dataset(self, split=None, in_memory=False):
        """The map-style dataset: the index, with the reader of the slices as its transform."""
        dataset = super().as_dataset(split, in_memory)
        if isinstance(dataset, datasets.DatasetDict):
            return datasets.DatasetDict({name: part.with_transform(self.reader) for name, part in dataset.items()})
        return dataset.with_transform(self.reader)

    def as_streaming_dataset(self, split=None, base_path=None):
        """The streamed dataset, whose rows hold the slices."""
        self.info.features = Features(ROW_FEATURES | TASKS[self.config.task].features)
        return super().as_streaming_dataset(split, base_path)

    def _get_examples_iterable_for_split(self, split_generator: datasets.SplitGenerator) -> PairExamplesIterable:
        return PairExamplesIterable(
            self._stream_rows, {"volumes": split_generator.gen_kwargs["volumes"], "draw_key": 0}
        )

    def _stream_rows(self, volumes: list[tuple[str, int]], draw_key: int):
        for name, number in volumes:
            row = self.reader.read(name, draw_key, number)
            if row is not None:
                for column in ("images", "negative_images"):
                    row[column] = [{"bytes": _bmp(image), "path": None} for image in row[column]]
                yield f"{name} {number}", row


def _bmp(image: PILImage.Image) -> bytes:
    """An image as BMP, uncompressed: encoding PNG would take most of the time of a streamed row."""
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()
