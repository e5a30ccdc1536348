"""The `datasets` builder: `load_dataset("ct_rate_pairs", negative="heter", data_dir=...)`."""

import io
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import datasets
import numpy as np
from datasets import Features, Image, List, Value
from datasets.iterable_dataset import ExamplesIterable, _shuffle_gen_kwargs
from PIL import Image as PILImage

from .labels import LABELS
from .rows import PROMPT, RowReader
from .source import HubSource, LocalSource
from .tables import read_tables


NEGATIVES = ("none", "gauss", "heter")

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


@dataclass
class CTRatePairsConfig(datasets.BuilderConfig):
    """
    Options of `load_dataset("ct_rate_pairs", ...)`.

    Args:
        data_dir (`str`, *optional*):
            A local tree with CT-RATE's layout (a copy, or a phantom cohort). The gated repository on the Hub by
            default.
        negative (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"gauss"` (noise, paper section 7.1) or `"heter"` (a volume of other labels, section 7.2).
        num_slices (`int`, *optional*, defaults to `10`):
            Axial planes a volume.
        spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
            Voxel size after resampling, in mm as x, y, z (paper, section 6.2).
        window (`tuple[float, float]`, *optional*, defaults to `(-1000, 1000)`):
            HU that become black and white.
        min_label_distance (`int`, *optional*, defaults to `10`):
            In how many of the 18 labels a partner must differ; where none does, the farthest serve.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` (the paper) or `"balanced"`, see [`~ct_rate_pairs.partners.PartnerSampler`].
        validation_size (`float`, *optional*, defaults to `0.05`):
            Share of the training patients in the split `validation`. The split `test` is CT-RATE's validation set.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the negatives. With the epoch and the volume's name (for a stream, its shuffling seed too) it
            determines every draw. A stream that is not shuffled keeps its negatives in every epoch.
        on_error (`str`, *optional*, defaults to `"raise"`):
            `"raise"`, or `"skip"`: leave a bad volume out, with a warning that names and counts it. A map-style
            dataset owes a row for every index, so there the next readable volume takes its place.
    """

    negative: str = "none"
    num_slices: int = 10
    spacing: tuple[float, float, float] = (0.75, 0.75, 1.5)
    window: tuple[float, float] = (-1000, 1000)
    min_label_distance: int = 10
    partner_sampling: str = "uniform"
    validation_size: float = 0.05
    seed: int = 0
    on_error: str = "raise"

    def __post_init__(self):
        super().__post_init__()
        self.spacing, self.window = tuple(self.spacing), tuple(self.window)
        for option, value, allowed in (
            ("negative", self.negative, NEGATIVES),
            ("partner_sampling", self.partner_sampling, ("uniform", "balanced")),
            ("on_error", self.on_error, ("raise", "skip")),
        ):
            if value not in allowed:
                raise ValueError(f"{option}={value!r} is unknown: choose one of {', '.join(map(repr, allowed))}.")
        if self.num_slices < 2:
            raise ValueError(f"num_slices={self.num_slices}: the depth between slices needs at least two of them.")


class CTRatePairs(datasets.GeneratorBasedBuilder):
    """
    Rows of the columns `volume`, `images` (`num_slices` grey images, superior first), `negative_images` (as many and
    of the same size; empty without negatives), `negative_volume`, `label_distance`, `prompt` and `completion` (TRL's
    conversational form), `labels`, `slice_mm` (depth of each slice below the first), `age` and `sex`.

    Streaming yields such rows. Otherwise only an index of texts and labels is written to the cache, and volumes are
    read when a row is taken: no volume is downloaded, and no noise frozen, ahead of its use.
    """

    BUILDER_CONFIG_CLASS = CTRatePairsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=INDEX_FEATURES)

    @cached_property
    def reader(self) -> RowReader:
        """Reads the rows of every split."""
        source = LocalSource(self.config.data_dir) if self.config.data_dir else HubSource(self.token)
        return RowReader(self.config, source, read_tables(source, self.config.validation_size, self.config.on_error))

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(name, gen_kwargs={"volumes": table["volume"].tolist()})
            for name, table in self.reader.tables.items()
            if len(table)
        ]

    def _generate_examples(self, volumes: list[str]):
        for i, name in enumerate(volumes):
            split, line = self.reader.where[name]
            record = self.reader.tables[split].iloc[line]
            yield (
                i,
                {
                    "volume": name,
                    "prompt": [{"role": "user", "content": PROMPT}],
                    "completion": [{"role": "assistant", "content": record["completion"]}],
                    **record[["labels", "age", "sex"]],
                },
            )

    def as_dataset(self, split=None, in_memory=False):
        dataset = super().as_dataset(split, in_memory)
        if isinstance(dataset, datasets.DatasetDict):
            return datasets.DatasetDict({name: part.with_transform(self.reader) for name, part in dataset.items()})
        return dataset.with_transform(self.reader)

    def as_streaming_dataset(self, split=None, base_path=None):
        self.info.features = ROW_FEATURES
        return super().as_streaming_dataset(split, base_path)

    def _get_examples_iterable_for_split(self, split_generator: datasets.SplitGenerator) -> "PairExamplesIterable":
        return PairExamplesIterable(self._stream_rows, {**split_generator.gen_kwargs, "draw_key": 0})

    def _stream_rows(self, volumes: list[str], draw_key: int):
        for name in volumes:
            row = self.reader.read(name, draw_key)
            if row is not None:
                for column in ("images", "negative_images"):
                    row[column] = [{"bytes": _bmp(image), "path": None} for image in row[column]]
                yield name, row


class PairExamplesIterable(ExamplesIterable):
    """
    One shard a volume. Shuffling, which `datasets` does once an epoch, also renews the key of the negatives'
    draw.
    """

    def shuffle_data_sources(self, generator: np.random.Generator) -> "PairExamplesIterable":
        draw_key = int(deepcopy(generator).integers(1 << 62))
        kwargs = _shuffle_gen_kwargs(deepcopy(generator), {**self.kwargs, "draw_key": draw_key})
        return PairExamplesIterable(self.generate_examples_fn, kwargs)

    def shard_data_sources(self, num_shards: int, index: int, contiguous=True) -> "PairExamplesIterable":
        indices = self.split_shard_indices_by_worker(num_shards, index, contiguous=contiguous)
        volumes = [self.kwargs["volumes"][i] for i in indices]
        return PairExamplesIterable(self.generate_examples_fn, {**self.kwargs, "volumes": volumes})

    def reshard_data_sources(self) -> "PairExamplesIterable":
        return self  # a volume cannot be split further


def _bmp(image: PILImage.Image) -> bytes:
    """Uncompressed: encoding PNG would take most of a streamed row's time."""
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()
