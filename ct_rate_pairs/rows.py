"""
From a line of the index to a row: reads the slices and draws the negative (the row's contract is in `builder.py`).
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
    """What reads the rows of a map-style dataset when they are taken."""
    return dataset.format["format_kwargs"]["transform"]


class RowReader:
    """
    Reads rows of any split. Each negative, question and choice of options is drawn from (`seed`, draw key, volume) and
    from nothing else, so that workers, ranks and restarts change nothing. The draw key is the epoch; a stream makes
    one of its epoch and of the seed that it is shuffled with.

    Called with a batch of the Arrow index it serves as the transform of a map-style dataset; `set_epoch` then reaches
    persistent workers too, through shared memory. Pickled, for a spawned worker or a fingerprint, it is its
    arguments: the tables are read again.

    Args:
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            The options of the dataset.
        source ([`~ct_rate_pairs.sources.Source`]):
            Where the scans come from.
        epoch (`torch.Tensor`, *optional*):
            The epoch in shared memory, of the reader that this one is a copy of.

    Raises:
        `ValueError`: when a prepared copy does not have what `config` asks for.
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
        """The sampler of a split, made when it is first needed: a split that is not read may be too small for one."""
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
        """What is asked of a split, made when it is first needed: questions take the reading of all reports."""
        if split not in self._tasks:
            table = self.tables[split]
            reports = list(zip(table["findings"], table["impression"], strict=True))
            scans = Scans(split, table.index.tolist(), reports, self.labels[split], table["patient"].tolist())
            self._tasks[split] = TASKS[self.config.task].of_split(scans, self.config)
        return self._tasks[split]

    def lines(self, split: str) -> list[tuple[str, int]]:
        """The rows of a split: a volume's name, and which of the volume's rows it is."""
        rows_of = self.task(split).rows_of.tolist()
        return [
            (name, number)
            for name, rows in zip(self.tables[split].index, rows_of, strict=True)
            for number in range(rows)
        ]

    def where(self, name: str) -> tuple[str, int]:
        """Split of the volume `name`, and its line in the split's table."""
        for split, table in self.tables.items():
            if name in table.index:
                return split, table.index.get_loc(name)
        raise KeyError(f"{name} is not in the tables (any more): load the dataset again.")

    def texts(self, split: str, i: int, number: int = 0, draw_key: int = 0) -> dict:
        """
        The columns `prompt`, `completion`, those of the task, `age` and `sex` of the row `number` of a split's volume
        `i`. Absent values are NaN or NA in the tables. Held-out splits ask the same in every epoch.
        """
        asked = self.task(split).ask(i, number, self._text_key(split, draw_key))
        age, sex = (None if pd.isna(value) else value for value in self._patients[split][i])
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
        """New negatives and questions, and planes under jitter, for the rows of `train` that are read from now on."""
        self._epoch.fill_(epoch)

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        if "volume" not in batch:  # `select_columns`, or `filter(input_columns=...)`: no row is asked for
            return batch
        rows = []
        numbers = batch.get(TASKS[self.config.task].number_column, [0] * len(batch["volume"]))
        for i, (name, number) in enumerate(zip(batch["volume"], numbers, strict=True)):
            split, line = self.where(name)
            # Held-out rows keep their negatives, so that evaluations in the course of training compare.
            epoch = int(self._epoch) if split == "train" else 0
            row = self._readable_row(name, epoch, number)
            own = {column: values[i] for column, values in batch.items()}
            if epoch:  # the index has the texts of the first epoch
                first = self.texts(split, line, number)
                own = {column: value for column, value in own.items() if column not in first or value != first[column]}
            # What `map` or `add_column` put into the index counts, unless another volume had to take its place.
            rows.append(row | own if row["volume"] == name else own | row)
        return {column: [row[column] for row in rows] for column in rows[0]}

    def read(self, name: str, draw_key: int = 0, number: int = 0) -> dict | None:
        """The row `number` of the volume `name`; under `on_error="skip"` `None` where it, or all partners, are bad."""
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
        """A map-style dataset owes a row for every index: a skipped volume's place goes to the next readable one."""
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
        The negative's slices, uint8 of the volume's `shape`, the partner's name and its label distance. Volumes that
        are `unfit` as the row's partner are passed over.
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
                f"{error} To leave such volumes out, counted and named, pass on_error='skip'."
            ) from error
        if str(error) not in self.skipped:
            self.skipped.append(str(error))
            logger.warning("Skipped a volume (%d so far in this process): %s", len(self.skipped), error)
