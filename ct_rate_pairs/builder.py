"""The `datasets` builder: `load_dataset("ct_rate_pairs", negative="heter", data_dir=...)`."""

import io
from dataclasses import dataclass, fields
from functools import cached_property

import datasets
import pyarrow as pa
from datasets import Features, Image, List, Value
from PIL import Image as PILImage

from .labels import LABELS
from .matching import DIFFICULTIES, LETTERS, OPTIONS
from .question_texts import QUESTION_TYPES
from .rows import RowReader
from .settings import VolumeSettings, one_of
from .source import open_source
from .stream import PairExamplesIterable
from .tasks import TASKS
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
# Columns that only one task has
TASK_FEATURES = {
    "report": {},
    "vqa": {
        "question_number": Value("int16"),
        "question_type": Value("string"),
        "answer_type": Value("string"),
        "label": Value("string"),
    },
    "matching": {"options": List(Value("string")), "correct": Value("int8")},
    "errors": {
        "statements": List(Value("string")),
        "wrong": Value("int8"),
        "error": Value("string"),
        "label": Value("string"),
    },
}


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
        task (`str`, *optional*, defaults to `"report"`):
            `"report"`: write the report; `"vqa"`: answer questions made from the labels and the report, see
            [`~ct_rate_pairs.questions.Questions`]; `"matching"`: choose the volume's text among false ones, see
            [`~ct_rate_pairs.matching.Matching`]; `"errors"`: tell which statement of the report was made wrong, see
            [`~ct_rate_pairs.errors.Errors`]. In the split `train` each epoch has new questions, options and errors.
        negative (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"gauss"` (noise, paper section 7.1), `"heter"` (a volume of other labels, section 7.2) or
            `"hard"` (a volume of nearly the same labels that lacks a finding of the report). The partner of a
            question is one of the volumes that answer it otherwise; that of a choice has another text; of that of an
            error the wrong statement is right.
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
            What of the report is used: `"findings+impression"`, `"findings"` or `"impression"`. A scan without it is
            left out. It is the completion of `"report"`, what the places of `"vqa"` are read from, and an option of
            `"matching"`.
        prompt (`str`, *optional*, defaults to `"en"`):
            Language of the prompt, and of the answers of `"vqa"`: `"en"` or `"zh"`.
        prompt_metadata (`bool`, *optional*, defaults to `False`):
            Tell age and sex in the prompt.
        questions_per_volume (`int`, *optional*, defaults to `4`):
            Rows a volume of the task `"vqa"`, each with another question. With more than about 8 the answers of a
            volume can no longer be balanced, and the question alone tells more.
        question_types (`tuple[str, ...]`, *optional*):
            Of the task `"vqa"`, which of `"presence"`, `"side"`, `"location"` and `"abnormalities"` are asked for; all
            by default.
        options (`str`, *optional*, defaults to `"full"`):
            Of the task `"matching"`, what an option is: `"full"` (the report's `target`), `"impression"` (the same as
            `target="impression"`) or `"keywords"` (the names of the findings that the report states).
        num_false (`int`, *optional*, defaults to `3`):
            Of the task `"matching"`, false options a volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            Of the task `"matching"`, `"random"` options, or `"hard"` ones, whose labels differ little.
        validation_size (`float`, *optional*, defaults to `0.05`):
            Share of the training patients in the split `validation`. The split `test` is CT-RATE's validation set.
            Partners come from a row's own split, whatever `select`, `filter` or `train_test_split` leave of it: to
            hold patients out, use this.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the negatives, questions, options and errors. With the epoch and the volume's name (for a stream,
            its shuffling seed too) it determines every draw. A new epoch comes with `set_epoch`: of a stream; of a
            map-style dataset's reader (`NewNegativesEachEpoch` does it in training). `repeat` repeats the negatives,
            too.
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
    task: str = "report"
    negative: str = "none"
    slices: str = "uniform"
    min_label_distance: int = 10
    max_label_distance: int = 3
    partner_sampling: str = "uniform"
    target: str = "findings+impression"
    prompt: str = "en"
    prompt_metadata: bool = False
    questions_per_volume: int = 4
    question_types: tuple[str, ...] = QUESTION_TYPES
    options: str = "full"
    num_false: int = 3
    difficulty: str = "random"
    validation_size: float = 0.05
    seed: int = 0
    on_error: str = "raise"

    def __post_init__(self):
        super().__post_init__()
        one_of("task", self.task, TASKS)
        one_of("negative", self.negative, NEGATIVES)
        one_of("slices", self.slices, ("uniform", "jitter"))
        one_of("partner_sampling", self.partner_sampling, ("uniform", "balanced"))
        one_of("target", self.target, TARGETS)
        one_of("prompt", self.prompt, LANGUAGES)
        one_of("on_error", self.on_error, ("raise", "skip"))
        one_of("options", self.options, OPTIONS)
        one_of("difficulty", self.difficulty, DIFFICULTIES)
        if isinstance(self.question_types, str):
            raise ValueError(f"question_types={self.question_types!r}: give a list, [{self.question_types!r}].")
        for kind in self.question_types:
            one_of("question_types", kind, QUESTION_TYPES)
        for name, most in (("questions_per_volume", 39), ("num_false", len(LETTERS) - 1)):
            if not isinstance(getattr(self, name), int) or not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose a whole number, 1 to {most}.")
        if self.task == "matching" and self.options == "impression":
            self.target = "impression"
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

    The task `"vqa"` adds `question_number` (which of the volume's questions), `question_type`, `answer_type`
    (`"yes/no"`, `"side"` or `"list"`) and `label` (the finding that is asked for, `""` for all); `"matching"` adds
    `options` and `correct` (the place of the volume's own text among them); `"errors"` adds `statements`, `wrong` (the
    place of the wrong one among them), `error` (`"added"`, `"removed"` or `"side"`) and its `label`.

    Streaming yields such rows. Otherwise only an index of texts and labels is written to the cache, and volumes are
    read when a row is taken: no volume is downloaded, and no noise frozen, ahead of its use.
    """

    BUILDER_CONFIG_CLASS = CTRatePairsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=Features(INDEX_FEATURES | TASK_FEATURES[self.config.task]))

    @cached_property
    def reader(self) -> RowReader:
        """Reads the rows of every split."""
        source = open_source(self.config.data_dir, self.token, **self.config.settings)
        return RowReader(self.config, source)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        if not any(len(table) for table in self.reader.tables.values()):
            raise ValueError(
                f"{self.config.data_dir or 'CT-RATE'} holds no volume that its tables name, for "
                f"files={self.reader.source.settings.files!r}. `fixed` ones lie under dataset/train_fixed and "
                "dataset/valid_fixed, `original` ones under dataset/train and dataset/valid."
            )
        lines = {name: self.reader.lines(name) for name in self.reader.tables}
        if not any(lines.values()):
            remedies = {"vqa": ", or other `question_types`", "matching": ", or a smaller `num_false`"}
            raise ValueError(
                f"task={self.config.task!r} finds nothing to ask in {self.config.data_dir or 'CT-RATE'}: it needs "
                f"several patients whose reports differ. Use more scans{remedies.get(self.config.task, '')}."
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
        dataset = super().as_dataset(split, in_memory)
        if isinstance(dataset, datasets.DatasetDict):
            return datasets.DatasetDict({name: part.with_transform(self.reader) for name, part in dataset.items()})
        return dataset.with_transform(self.reader)

    def as_streaming_dataset(self, split=None, base_path=None):
        self.info.features = Features(ROW_FEATURES | TASK_FEATURES[self.config.task])
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
    """Uncompressed: encoding PNG would take most of a streamed row's time."""
    buffer = io.BytesIO()
    image.save(buffer, format="BMP")
    return buffer.getvalue()
