"""The `datasets` builder: `load_dataset("ct_rate_pairs", negative="heter", data_dir=...)`."""

import hashlib
import json
import logging
import re
from collections.abc import Collection
from copy import deepcopy
from dataclasses import fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets import Features, Image, List, Value
from datasets.iterable_dataset import ExamplesIterable, _shuffle_gen_kwargs

from ct_rate_pairs.masks import MaskSet
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources import Source, hash_of, open_source
from ct_rate_pairs.sources.hub import REPO_ID
from ct_rate_pairs.tasks import TASKS

from .config import NEGATIVES, CTRatePairsConfig
from .pair_column import READ_COLUMNS, PairColumn
from .readers import parts_of_stream
from .rows import RowReader
from .shared_readers import make_reader


logger = logging.getLogger(__name__)

_MESSAGES = List({"role": Value("string"), "content": Value("string")})
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
# Of a dataset with masks. A finding has an image of one bit per slice.
MASK_FEATURES = Features(
    {"masks": List(List(Image())), "mask_findings": List({"finding": Value("string"), "sentence": Value("string")})}
)
_OF_DATASETS = ("name", "version", "data_files", "description")  # fields of every config that are no options here
DESCRIPTION = (
    "Chest CT scans as training pairs: slices of a volume, superior first, with the slices of a negative (noise, or "
    "a volume whose labels differ), a prompt and the radiology report. Made from CT-RATE, from a folder with its "
    "layout, or from a phantom cohort."
)
CITATION = """\
@article{hamamci2024ctrate,
  title={Developing Generalist Foundation Models from a Multimodal Dataset for 3D Computed Tomography},
  author={Hamamci, Ibrahim Ethem and Er, Sezgin and others},
  journal={arXiv preprint arXiv:2403.17834},
  year={2024}
}"""


class PairExamplesIterable(ExamplesIterable):
    """
    A stream with one shard per row (`volumes` names the rows). So any number of workers and ranks can share the rows,
    and a resumed stream reads no volume again.

    Each epoch has its own key of the random draws. `datasets` tells a stream its epoch in two ways: it shuffles the
    sources, which does not reach a part of `concatenate_datasets`, nor a stream after `skip` or `take`, and it shifts
    the generators of all parts by the number of the epoch. Both renew the key.
    """

    shifts: tuple[int, ...] = ()

    def __iter__(self):
        start = self._state_dict["shard_idx"] if self._state_dict else 0
        draw_key = self._draw_key()
        for i, volume in enumerate(self.kwargs["volumes"][start:], start + 1):
            # A skipped volume gives no row.
            rows = list(self.generate_examples_fn([volume], draw_key))
            if self._state_dict:
                # Before the row is yielded: the base class counts a shard after its last row, and a resumed stream
                # would then read this row again.
                self._state_dict["shard_idx"] = i
            yield from rows

    def shuffle_data_sources(self, generator: np.random.Generator) -> "PairExamplesIterable":
        """The rows in a new order and with a new key of the random draws, as `datasets` asks for at each epoch."""
        # The new key also depends on the old key: the generator of an epoch may equal the generator of the seed.
        keys = [self.kwargs["draw_key"], int(deepcopy(generator).integers(1 << 62))]
        draw_key = int(random_stream(*keys).integers(1 << 62))
        return self._with(_shuffle_gen_kwargs(deepcopy(generator), {**self.kwargs, "draw_key": draw_key}))

    def shift_rngs(self, value: int) -> "PairExamplesIterable":
        """The rows with a new key of the random draws, as `datasets` asks for at each epoch but the first."""
        return self._with(self.kwargs, (*self.shifts, value))

    def _draw_key(self) -> int:
        shifts, worker = self.shifts, torch.utils.data.get_worker_info()
        # In a worker of a DataLoader, the last shift is by the number of the worker, which must not change a row.
        if worker is not None and shifts and shifts[-1] == worker.id:
            shifts = shifts[:-1]
        keys = [self.kwargs["draw_key"], *shifts]
        return int(random_stream(*keys).integers(1 << 62)) if shifts else keys[0]

    def _with(self, kwargs: dict, shifts: tuple[int, ...] | None = None) -> "PairExamplesIterable":
        other = PairExamplesIterable(self.generate_examples_fn, kwargs)
        other.shifts = self.shifts if shifts is None else shifts
        return other

    def shard_data_sources(self, num_shards: int, index: int, contiguous=True) -> "PairExamplesIterable":
        """The rows of one worker or rank."""
        indices = self.split_shard_indices_by_worker(num_shards, index, contiguous=contiguous)
        volumes = [self.kwargs["volumes"][i] for i in indices]
        return self._with({**self.kwargs, "volumes": volumes})

    def reshard_data_sources(self) -> "PairExamplesIterable":
        """The stream itself: a shard is one volume, which cannot be split further."""
        return self


def readers_of_stream(stream: datasets.IterableDataset) -> list[RowReader]:
    """The reader of each part of a stream, whatever calls of `datasets` have composed it."""
    parts = [part for part in parts_of_stream(stream) if isinstance(part, PairExamplesIterable)]
    readers = [part.generate_examples_fn.__self__.reader for part in parts]
    return list({id(reader): reader for reader in readers}.values())


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
    - `clinical_information`, `technique` and `device` (maker and model of the scanner), as texts; `None` where
      unknown. For a reader's own table, instead of these, each column that has no meaning here, as a text.

    `masks=PATH` adds two columns:

    - `masks`: for each finding that was drawn, an image of one bit per slice, of the size of the slice. `None` where
      nothing is known of a volume; empty where it has no finding.
    - `mask_findings`: `finding` (its name) and `sentence` (of the report; `""` where unknown) of each of the masks.

    Four tasks add columns:

    - `"own_questions"`: `question_number`, `question_type` (`"closed"` for the answers yes and no, otherwise
      `"open"`), `answer_type` (`"text"`) and `label` (`""`).
    - `"vqa"`: `question_number` (counts the questions of a volume), `question_type`, `answer_type` (`"yes/no"`,
      `"side"`, `"list"`, `"number"` or `"choice"`), `label` (the finding that the question is about; `""` for all
      findings) and `proof` (the sentences of the report that tell the answer).
    - `"matching"`: `options` and `correct` (index of the volume's own text in `options`).
    - `"errors"`: `statements`, `wrong` (index of the wrong statement in `statements`), `error` (`"added"`,
      `"removed"` or `"side"`) and `label` (the finding that the wrong statement is about).

    A streamed dataset yields such rows. A map-style dataset writes only an index of names, texts and labels to the
    cache. Its columns of slices and of what is drawn have the feature type
    [`~ct_rate_pairs.pair_column.PairColumn`], which reads a volume when its row is looked at. So no volume is
    downloaded before it is needed, and noise is never frozen.

    The names of the configurations are those of `negative`: `load_dataset("ct_rate_pairs", "heter")` is
    `load_dataset("ct_rate_pairs", negative="heter")`. `table=FILE` is `data_dir=FILE`, the table of a reader's own
    scans.
    """

    BUILDER_CONFIG_CLASS = CTRatePairsConfig
    BUILDER_CONFIGS = [CTRatePairsConfig(name=negative, negative=negative) for negative in NEGATIVES]  # noqa: RUF012

    def __init__(self, *args, hash=None, data_dir=None, table=None, token=None, **options):
        if table is not None:
            if data_dir is not None:
                raise ValueError(f"table={str(table)!r} and data_dir={str(data_dir)!r} both name the scans: give one.")
            if not Path(table).expanduser().is_file():
                raise FileNotFoundError(f"table: {no_such('file', table)}")
            data_dir = str(table)
        # The hash is the key of the cached index. It changes with the code and with the source, so that a cohort that
        # was written again, or a question with a new wording, never gets the index of the old one.
        states = [open_source(data_dir, token).fingerprint()]
        if options.get("masks") is not None:
            states.append(MaskSet(options["masks"], options.get("mask_names")).fingerprint)
        hash = hashlib.sha256(json.dumps([hash, *states]).encode()).hexdigest()[:16]
        try:
            super().__init__(*args, hash=hash, data_dir=data_dir, token=token, **options)
        except OSError as error:
            if error.filename is None:
                raise
            raise OSError(
                error.errno,
                f"The cache of datasets cannot be written to ({error.strerror}, {error.filename}). Point HF_HOME at a "
                "folder that can be written to, or pass cache_dir",
            ) from error

    def _create_builder_config(self, config_name=None, custom_features=None, config_id=None, **options):
        if custom_features is not None:
            raise ValueError("features= cannot change the columns of ct_rate_pairs: rename or map them afterwards.")
        known = [*(field.name for field in fields(CTRatePairsConfig)), "table"]
        if unknown := [name for name in options if name not in known]:
            near = get_close_matches(unknown[0], known, n=1)
            raise ValueError(
                f"There is no option {unknown[0]}: is {near[0]} meant?" if near else
                f"There is no option {unknown[0]}. The options are described in CTRatePairsConfig: "
                f"{', '.join(name for name in known if name not in _OF_DATASETS)}."
            )  # fmt: skip
        negative = options.pop("negative", None) or config_name or "none"
        if config_name not in (None, negative):
            raise ValueError(
                f"The configuration {config_name!r} contradicts negative={negative!r}: give one of the two, as "
                f'load_dataset("ct_rate_pairs", {negative!r}) or load_dataset("ct_rate_pairs", negative={negative!r}).'
            )
        config, config_id = super()._create_builder_config(negative, config_id=config_id, **options)
        # `datasets` sets the options of a named configuration without the checks, and leaves out those that are None.
        for name, value in options.items():
            setattr(config, name, value)
        config.__post_init__()
        for name in config.idle_options:  # no error: a mixture of tasks gives all of them the same options
            told = "%s=%r has no effect with task=%r: only the task 'report' uses it."
            logger.warning(told, name, getattr(config, name), config.task)
        return config, config_id

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            citation=CITATION,
            homepage=f"https://huggingface.co/datasets/{REPO_ID}",
            license="apache-2.0" if self.source.is_phantom else "" if self.source.is_own else "cc-by-nc-sa-4.0",
            features=self._index_features(),
        )

    def _row_features(self) -> Features:
        """The columns of a row, with those of the task and of a reader's own metadata."""
        metadata = dict.fromkeys(self.source.metadata, Value("string"))
        masks = MASK_FEATURES if self.config.masks else {}
        return Features(ROW_FEATURES | self._volume_features() | metadata | TASKS[self.config.task].features | masks)

    def _index_features(self) -> Features:
        """
        The columns of the index of a map-style dataset. Texts that each epoch draws anew are read too when a row is
        looked at: those of some tasks, and prompts with a dropout.
        """
        task = TASKS[self.config.task]
        asked = {name for name in ("prompt", "completion", *task.features) if name != task.number_column}
        drawn = asked if task.asks_anew else {"prompt"} if self.config.prompt_dropout else ()
        read = {*READ_COLUMNS, *drawn}
        place = {"options": self.config.to_json(), "source": hash_of(self.source)}
        return Features(
            {
                name: PairColumn(name, feature, **place) if name in read else feature
                for name, feature in self._row_features().items()
            }
        )

    def _volume_features(self) -> Features:
        """The columns of images if they are whole volumes."""
        if self.config.images == "slices":
            return Features()
        voxel = Value("float16") if self.source.settings.channels == 1 else List(Value("float16"))
        return Features(dict.fromkeys(("images", "negative_images"), List(List(List(voxel)))))

    @cached_property
    def source(self) -> Source:
        """Where the scans come from."""
        return open_source(self.config.data_dir, self.token, **self.config.settings)

    @cached_property
    def reader(self) -> RowReader:
        """Reads the rows of every split."""
        place = self.config.to_json(), hash_of(self.source)
        return make_reader(*place, self.config, self.source)

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        if not any(len(table) for table in self.reader.tables.values()):
            if self.source.is_own:
                wanted = self.config.target if TASKS[self.config.task].of_reports else "question"
                raise ValueError(
                    f"{self.config.data_dir} has no scan with a {wanted}, as task={self.config.task!r} needs. "
                    "Questions of the table are asked by task='own_questions', and all other tasks need reports."
                )
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
        features = self.info.features
        places = {name: i for i, name in enumerate(self.reader.tables[split].index)}
        for start in range(0, len(volumes), 1000):
            names, numbers = zip(*volumes[start : start + 1000], strict=True)
            rows = [self._index_row(split, places[name], number) for name, number in volumes[start : start + 1000]]
            yield (
                start,
                pa.Table.from_arrays(
                    [
                        feature.places(names, numbers)
                        if isinstance(feature, PairColumn)
                        else pa.array([row[name] for row in rows], features.arrow_schema.field(name).type)
                        for name, feature in features.items()
                    ],
                    schema=features.arrow_schema,
                ),
            )

    def _index_row(self, split: str, i: int, number: int) -> dict:
        """What the index holds of a row: its name, labels and texts."""
        name = self.reader.tables[split].index[i]
        return {
            "volume": name,
            "labels": self.reader.labels[split][i].tolist(),
            **self.reader.texts(split, i, number),
            **self.reader.mask_findings(split, i),
        }

    def as_dataset(self, split=None, in_memory=False):
        """The map-style dataset, whose tables are read now, so that a bad table is an error before the first row."""
        self._check_split(split, self.info.splits)
        return super().as_dataset(split, in_memory)

    def as_streaming_dataset(self, split=None, base_path=None):
        """The streamed dataset, whose rows hold the slices."""
        if self.config.images == "volume":
            raise ValueError(
                "images='volume' cannot be streamed, because a stream would copy each voxel several times. Leave "
                "streaming out: a map-style dataset reads no volume before its row is looked at, either."
            )
        self.info.features = self._row_features()
        if split is not None:
            self._check_split(split, [name for name in self.reader.tables if self.reader.lines(name)])
        return super().as_streaming_dataset(split, base_path)

    def _check_split(self, split, there: Collection[str]) -> None:
        """Raises a `ValueError` that says why a split that is asked for, such as `"train[:10]"`, has no row."""
        for name in self.reader.tables:
            if name not in there and re.search(rf"\b{name}\b", str(split)):
                raise ValueError(self.reader.empty_split(name))

    def _get_examples_iterable_for_split(self, split_generator: datasets.SplitGenerator) -> PairExamplesIterable:
        return PairExamplesIterable(
            self._stream_rows, {"volumes": split_generator.gen_kwargs["volumes"], "draw_key": 0}
        )

    def _stream_rows(self, volumes: list[tuple[str, int]], draw_key: int):
        for name, number in volumes:
            row = self.reader.read(name, draw_key, number)
            if row is not None:
                for image in (*row["images"], *row["negative_images"]):
                    # So that `datasets` encodes it as PPM: PNG would take most of the time of a streamed row.
                    image.format = "PPM"
                yield f"{name} {number}", row
