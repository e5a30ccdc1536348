"""
From a line of the index to a row: reads the slices and draws the negative. [`~ct_rate_pairs.builder.CTRatePairs`]
describes the columns of a row.
"""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from PIL import Image

from ct_rate_pairs.partners import NoPartnerError, PartnerSampler
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import tell_patient
from ct_rate_pairs.sources import Source
from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.tasks import TASKS, Scans, Task
from ct_rate_pairs.volumes.slicing import VolumeError, fit
from ct_rate_pairs.volumes.windows import air_value, to_uint8

from .config import CTRatePairsConfig
from .random_streams import Purpose, draw_rng
from .splits import read_tables


logger = logging.getLogger(__name__)


def reader_of(dataset: Dataset) -> "RowReader":
    """The reader of a map-style dataset, which makes its rows when they are taken."""
    return dataset.format["format_kwargs"]["transform"]


class RowReader:
    """
    Reads the rows of all splits.

    Each negative, question and set of options is drawn from (`seed`, draw key, volume) and from nothing else, so
    workers, ranks and restarts change nothing. For a map-style dataset the draw key is the epoch. A stream makes the
    draw key from its epoch and its shuffling seed.

    The reader is the transform of a map-style dataset: it is called with a batch of the Arrow index. The epoch is in
    shared memory, so `set_epoch` also reaches persistent workers. A pickled reader (for a spawned worker or a
    fingerprint) holds only its arguments, and reads the tables again.

    Args:
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            The options of the dataset.
        source ([`~ct_rate_pairs.sources.Source`]):
            Where the scans come from.
        epoch (`torch.Tensor`, *optional*):
            For a copy of a reader: the epoch of the original, int64 of shape `[]`, in shared memory.

    Raises:
        `ValueError`: if a prepared copy cannot give what `config` asks for.
    """

    def __init__(self, config: CTRatePairsConfig, source: Source, epoch: torch.Tensor | None = None):
        self.config = config
        self.source = source
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_() if epoch is None else epoch
        if config.slices == "jitter" and isinstance(source, PreparedSource):
            raise ValueError(
                f"slices='jitter' needs whole volumes, but {source.root} is a prepared copy, whose planes are fixed. "
                "Use slices='uniform', or the source that the copy was prepared from."
            )
        tables = read_tables(source, config)
        self.skipped: list[str] = []
        self.labels = {split: table[list(LABELS)].to_numpy(np.int8) for split, table in tables.items()}  # [N, 18]
        self.tables = {split: table.drop(columns=list(LABELS)) for split, table in tables.items()}
        self._patients = {
            split: table[["age", "sex"]].astype(object).to_numpy().tolist() for split, table in tables.items()
        }
        self.air = to_uint8(air_value(source.settings.window))
        self._partners: dict[str, PartnerSampler] = {}
        self._tasks: dict[str, Task] = {}

    def __reduce__(self):
        return RowReader, (self.config, self.source, self._epoch)

    def partners(self, split: str) -> PartnerSampler:
        """The sampler of a split. It is made at first use, because a split that is never read may be too small."""
        if split not in self._partners:
            patients = self.tables[split]["patient"].tolist()
            if len(set(patients)) < 2:
                raise ValueError(
                    f"negative={self.config.negative!r} needs volumes of at least two patients, but the split "
                    f"'{split}' has {len(set(patients))}. Use negative='gauss', a larger `validation_size`, or more "
                    "scans."
                )
            self._partners[split] = PartnerSampler(
                self.labels[split],
                patients,
                self.config.min_label_distance,
                self.config.partner_sampling,
                hard=self.config.negative == "hard",
                max_label_distance=self.config.max_label_distance,
            )
        return self._partners[split]

    def task(self, split: str) -> Task:
        """The task of a split. It is made at first use, because some tasks first read all reports of the split."""
        if split not in self._tasks:
            table = self.tables[split]
            reports = list(zip(table["findings"], table["impression"], strict=True))
            scans = Scans(split, table.index.tolist(), reports, self.labels[split], table["patient"].tolist())
            self._tasks[split] = TASKS[self.config.task].of_split(scans, self.config)
        return self._tasks[split]

    def lines(self, split: str) -> list[tuple[str, int]]:
        """The rows of a split, each as the volume's name and the number of the row among the volume's rows."""
        rows_of = self.task(split).rows_of.tolist()
        return [
            (name, number)
            for name, rows in zip(self.tables[split].index, rows_of, strict=True)
            for number in range(rows)
        ]

    def where(self, name: str) -> tuple[str, int]:
        """The split of the volume `name`, and the volume's position in the table of that split."""
        for split, table in self.tables.items():
            if name in table.index:
                return split, table.index.get_loc(name)
        raise KeyError(f"{name} is not in the tables (any more): load the dataset again.")

    def texts(self, split: str, i: int, number: int = 0, draw_key: int = 0) -> dict:
        """
        The columns `prompt`, `completion`, `age`, `sex` and those of the task, for row `number` of volume `i`. The
        splits `validation` and `test` have the same texts in every epoch.
        """
        asked = self.task(split).ask(i, number, self._text_key(split, draw_key))
        age, sex = (None if pd.isna(value) else value for value in self._patients[split][i])  # NaN or NA in the table
        told = {"age": age, "sex": sex} if self.config.prompt_metadata else {}
        return {
            "prompt": [{"role": "user", "content": tell_patient(asked.prompt, self.config.prompt, **told)}],
            "completion": [{"role": "assistant", "content": asked.completion}],
            **asked.columns,
            "age": age,
            "sex": sex,
        }

    @staticmethod
    def _text_key(split: str, draw_key: int) -> int:
        return draw_key if split == "train" else 0

    def set_epoch(self, epoch: int) -> None:
        """
        Start an epoch: rows of `train` that are read from now on have new negatives and questions, and with
        `slices="jitter"` new planes.
        """
        self._epoch.fill_(epoch)

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        """The rows of a batch of the index, as the transform of a map-style dataset."""
        if "volume" not in batch:  # after `select_columns`, or in `filter(input_columns=...)`: no slices are needed
            return batch
        rows = []
        numbers = batch.get(TASKS[self.config.task].number_column, [0] * len(batch["volume"]))
        for i, (name, number) in enumerate(zip(batch["volume"], numbers, strict=True)):
            split, line = self.where(name)
            # Held-out rows keep their negatives, so that the evaluations during a training can be compared.
            epoch = int(self._epoch) if split == "train" else 0
            row = self._readable_row(name, epoch, number)
            own = {column: values[i] for column, values in batch.items()}
            if epoch:  # the index holds the texts of the first epoch, which must not replace the new ones
                first = self.texts(split, line, number)
                own = {column: value for column, value in own.items() if column not in first or value != first[column]}
            # Values that `map` or `add_column` put into the index win, unless another volume had to take the place of
            # an unreadable volume.
            rows.append(row | own if row["volume"] == name else own | row)
        return {column: [row[column] for row in rows] for column in rows[0]}

    def read(self, name: str, draw_key: int = 0, number: int = 0) -> dict | None:
        """
        Row `number` of the volume `name`. With `on_error="skip"`, `None` if the volume or all of its possible partners
        cannot be read.
        """
        split, i = self.where(name)
        scan = self.tables[split].iloc[i]
        draw = partial(draw_rng, self.config.seed, draw_key, name)
        fractions = None
        if self.config.slices == "jitter" and split == "train":
            fractions = draw(Purpose.PLANES).random(self.source.settings.num_slices)
        rng = draw(Purpose.FURTHER_NEGATIVES, number) if number else draw()
        unfit = self.task(split).unfit_partners(i, number, self._text_key(split, draw_key))
        try:
            slices, slice_mm = self.source.read_slices(scan, fractions)
            negative, partner, distance = self._negative(split, i, slices.shape, rng, fractions, unfit)
        except VolumeError as error:
            self._skip(error)
            return None
        return {
            "volume": name,
            "images": [Image.fromarray(plane) for plane in slices],
            "negative_images": [Image.fromarray(plane) for plane in negative],
            "negative_volume": partner,
            "label_distance": distance,
            **self.texts(split, i, number, draw_key),
            "labels": self.labels[split][i].tolist(),
            "slice_mm": slice_mm,
        }

    def _readable_row(self, name: str, draw_key: int, number: int) -> dict:
        """
        The row of a volume, or of the next readable volume: a map-style dataset must return a row for every index.
        """
        split, start = self.where(name)
        names, rows_of = self.tables[split].index, self.task(split).rows_of
        for i in (np.arange(len(names)) + start) % len(names):
            row = self.read(names[i], draw_key, min(number, rows_of[i] - 1)) if rows_of[i] else None
            if row is not None:
                return row
        raise VolumeError(f"None of the {len(names)} volumes of the split '{split}' can be read.")

    def _negative(
        self,
        split: str,
        i: int,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        fractions: np.ndarray | None,
        unfit: Sequence[int],
    ) -> tuple[np.ndarray, str, int]:
        """
        The slices of the negative (uint8, of `shape`), the partner's name and its label distance. Volumes in `unfit`
        are never drawn.
        """
        if self.config.negative == "none":
            return np.empty((0, *shape[1:]), dtype=np.uint8), "", 0
        if self.config.negative == "gauss":
            return to_uint8(rng.standard_normal(shape, dtype=np.float32).clip(-1, 1)), "", 0
        unreadable: list[int] = []
        while True:
            try:
                partner, distance = self.partners(split).draw(i, rng, without=[*unfit, *unreadable])
            except NoPartnerError as error:
                name = self.tables[split].index[i]
                raise VolumeError(
                    f"{name}: none of the {len(unreadable)} volumes that could be its negative in the split "
                    f"'{split}' can be read. Repair them, or pass negative='gauss'."
                ) from error
            scan = self.tables[split].iloc[partner]
            try:
                slices, _ = self.source.read_slices(scan, fractions)
            except VolumeError as error:
                self._skip(error)
                unreadable.append(partner)
            else:
                return fit(slices, *shape[1:3], air=self.air), scan.name, distance

    def _skip(self, error: VolumeError) -> None:
        if self.config.on_error == "raise":
            raise VolumeError(
                f"{error} To leave such volumes out, with a warning for each, pass on_error='skip'."
            ) from error
        if str(error) not in self.skipped:
            self.skipped.append(str(error))
            logger.warning("Skipped a volume (%d so far in this process): %s", len(self.skipped), error)
