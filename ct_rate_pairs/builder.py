"""The `datasets` builder: `load_dataset("ct_rate_pairs", negative="heter", data_dir=...)`."""

import io
from dataclasses import dataclass, fields
from functools import cached_property

import datasets
import pyarrow as pa
from datasets import Features, Image, List, Value
from PIL import Image as PILImage

from .labels import LABELS
from .rows import RowReader
from .settings import VolumeSettings, one_of
from .source import open_source
from .stream import PairExamplesIterable
from .texts import LANGUAGES, TARGETS


NEGATIVES = ("none", "gauss", "heter", "hard")
_SETTINGS = tuple(field.name for field in fields(VolumeSettings))

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

    `files`, `reconstructions`, `num_slices`, `spacing`, `window` and `z_range` are described in
    [`~ct_rate_pairs.settings.VolumeSettings`], which has their defaults; a prepared copy has its own.

    Args:
        data_dir (`str`, *optional*):
            A tree with CT-RATE's layout (a copy, or a phantom cohort), or a prepared copy. The gated repository on
            the Hub by default.
        negative (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"gauss"` (noise, paper section 7.1), `"heter"` (a volume of other labels, section 7.2) or
            `"hard"` (a volume of nearly the same labels that lacks a finding of the report).
        slices (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"`: the middle plane of each of `num_slices` bins of the depth; `"jitter"`: in the split `train`
            a random plane of each bin, a new one each epoch.
        min_label_distance (`int`, *optional*, defaults to `10`):
            In how many of the 18 labels a heter partner must differ; where none does, the farthest serve.
        max_label_distance (`int`, *optional*, defaults to `3`):
            In how many labels a hard partner may differ.
        partner_sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` (the paper) or `"balanced"`, see [`~ct_rate_pairs.partners.PartnerSampler`].
        target (`str`, *optional*, defaults to `"findings+impression"`):
            What the completion holds: `"findings+impression"`, `"findings"` or `"impression"`. A scan without it is
            left out.
        prompt (`str`, *optional*, defaults to `"en"`):
            Language of the prompt: `"en"` or `"zh"`.
        prompt_metadata (`bool`, *optional*, defaults to `False`):
            Tell age and sex in the prompt.
        validation_size (`float`, *optional*, defaults to `0.05`):
            Share of the training patients in the split `validation`. The split `test` is CT-RATE's validation set.
            Partners come from a row's own split, whatever `select`, `filter` or `train_test_split` leave of it: to
            hold patients out, use this.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the negatives. With the epoch and the volume's name (for a stream, its shuffling seed too) it
            determines every draw. A new epoch comes with `set_epoch`: of a stream; of a map-style dataset's reader
            (`NewNegativesEachEpoch` does it in training). `repeat` repeats the negatives, too.
        on_error (`str`, *optional*, defaults to `"raise"`):
            `"raise"`, or `"skip"`: leave a bad volume out, with a warning that names and counts it. A map-style
            dataset owes a row for every index, so there the next readable volume takes its place.
    """

    files: str | None = None
    reconstructions: str | None = None
    num_slices: int | None = None
    spacing: tuple[float, float, float] | None = None
    window: str | tuple | None = None
    z_range: tuple[float, float] | None = None
    negative: str = "none"
    slices: str = "uniform"
    min_label_distance: int = 10
    max_label_distance: int = 3
    partner_sampling: str = "uniform"
    target: str = "findings+impression"
    prompt: str = "en"
    prompt_metadata: bool = False
    validation_size: float = 0.05
    seed: int = 0
    on_error: str = "raise"

    def __post_init__(self):
        super().__post_init__()
        one_of("negative", self.negative, NEGATIVES)
        one_of("slices", self.slices, ("uniform", "jitter"))
        one_of("partner_sampling", self.partner_sampling, ("uniform", "balanced"))
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)
        one_of("on_error", self.on_error, ("raise", "skip"))
        if not 0 <= self.validation_size < 1:
            raise ValueError(f"validation_size={self.validation_size}: give a share of the patients, 0 <= size < 1.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed={self.seed!r}: give a whole number, 0 or more.")
        for name in ("min_label_distance", "max_label_distance"):
            if not 1 <= getattr(self, name) <= len(LABELS):
                raise ValueError(f"{name}={getattr(self, name)}: choose 1 to {len(LABELS)}, the number of labels.")
        VolumeSettings(**self.settings)

    @property
    def settings(self) -> dict:
        """The fields of `VolumeSettings` that were given."""
        return {name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None}


class CTRatePairs(datasets.ArrowBasedBuilder):
    """
    Rows of the columns `volume`, `images` (`num_slices` images, superior first), `negative_images` (as many and of the
    same size; empty without negatives), `negative_volume`, `label_distance`, `prompt` and `completion` (TRL's
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
        source = open_source(self.config.data_dir, self.token, **self.config.settings)
        return RowReader(self.config, source)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        tables = {name: table for name, table in self.reader.tables.items() if len(table)}
        if not tables:
            raise ValueError(
                f"{self.config.data_dir or 'CT-RATE'} holds no volume that its tables name, for "
                f"files={self.reader.source.settings.files!r}. `fixed` ones lie under dataset/train_fixed and "
                "dataset/valid_fixed, `original` ones under dataset/train and dataset/valid."
            )
        return [
            datasets.SplitGenerator(name, gen_kwargs={"volumes": table.index.tolist(), "split": name})
            for name, table in tables.items()
        ]

    def _generate_tables(self, volumes: list[str], split: str):
        texts = self.reader.tables[split][["findings", "impression", "age", "sex"]]
        for start in range(0, len(volumes), 1000):
            part = volumes[start : start + 1000]
            labels = self.reader.labels[split][texts.index.get_indexer(part)].tolist()
            rows = [
                {"volume": name, "labels": positive, **self.reader.texts(*text)}
                for name, positive, text in zip(part, labels, texts.loc[part].itertuples(index=False), strict=True)
            ]
            yield start, pa.Table.from_pylist(rows, INDEX_FEATURES.arrow_schema)

    def as_dataset(self, split=None, in_memory=False):
        dataset = super().as_dataset(split, in_memory)
        if isinstance(dataset, datasets.DatasetDict):
            return datasets.DatasetDict({name: part.with_transform(self.reader) for name, part in dataset.items()})
        return dataset.with_transform(self.reader)

    def as_streaming_dataset(self, split=None, base_path=None):
        self.info.features = ROW_FEATURES
        return super().as_streaming_dataset(split, base_path)

    def _get_examples_iterable_for_split(self, split_generator: datasets.SplitGenerator) -> PairExamplesIterable:
        return PairExamplesIterable(
            self._stream_rows, {"volumes": split_generator.gen_kwargs["volumes"], "draw_key": 0}
        )

    def _stream_rows(self, volumes: list[str], draw_key: int):
        for name in volumes:
            row = self.reader.read(name, draw_key)
            if row is not None:
                for column in ("images", "negative_images"):
                    row[column] = [{"bytes": _bmp(image), "path": None} for image in row[column]]
                yield name, row


def _bmp(image: PILImage.Image) -> bytes:
    """Uncompressed: encoding PNG would take most of a streamed row's time."""
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()
