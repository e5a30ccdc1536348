"""
From a place (a volume and the number of a row among its rows) to a row: reads the slices and draws the negative.
[`~ct_rate_pairs.builder.CTRatePairs`] describes the columns of a row.
"""

import logging
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ct_rate_pairs.masks import MaskSet
from ct_rate_pairs.partners import NoPartnerError, PartnerSampler
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.prompt_lines import (
    FINDINGS,
    READ_FROM,
    drop_lines,
    metadata_lines,
    metadata_names,
    write_turns,
)
from ct_rate_pairs.sources import Source
from ct_rate_pairs.sources.prepared import PreparedSource
from ct_rate_pairs.tasks import TASKS, Scans, Task
from ct_rate_pairs.volumes.fitting import fit_volume
from ct_rate_pairs.volumes.slicing import VolumeError
from ct_rate_pairs.volumes.told import each_warning_once
from ct_rate_pairs.volumes.windows import air_value, to_uint8

from .config import CTRatePairsConfig
from .random_streams import Purpose, draw_rng
from .splits import read_tables


logger = logging.getLogger(__name__)


T = TypeVar("T")

FACTS = 4096  # facts that a reader keeps at most


class RowReader:
    """
    Reads the rows of all splits.

    Each negative, question and set of options is drawn from (`seed`, draw key, volume) and from nothing else, so
    workers, ranks and restarts change nothing. For a map-style dataset the draw key is the epoch. A stream makes the
    draw key from its epoch and its shuffling seed.

    A map-style dataset reads a row column by column ([`~ct_rate_pairs.pair_column.PairColumn`]), a stream reads whole
    rows. The epoch is in shared memory, so `set_epoch` also reaches persistent workers. A pickled reader (for a
    spawned worker or a fingerprint) holds only its arguments, and reads the tables again.

    Args:
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            The options of the dataset.
        source ([`~ct_rate_pairs.sources.Source`]):
            Where the scans come from.
        epoch (`torch.Tensor`, *optional*):
            For a copy of a reader: the epoch of the original, int64 of shape `[]`, in shared memory.

    Raises:
        `ValueError`: if a prepared copy cannot give what `config` asks for, if `prompt_metadata` asks for what is
            known of no scan, or if `masks` has none of a scan.
    """

    def __init__(self, config: CTRatePairsConfig, source: Source, epoch: torch.Tensor | None = None):
        self.config = config
        self.source = source
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_() if epoch is None else epoch
        if config.images == "volume" and type(source) is PreparedSource:
            raise ValueError(
                f"images='volume' needs whole volumes, but {source.root} is a prepared copy of slices. Read the "
                f"source ({source.provenance['source']}), or prepare a copy with --form preprocessed_numpy."
            )
        if config.masks and isinstance(source, PreparedSource) and not source.keeps_plans:
            raise ValueError(
                f"masks lie on the voxels of the volumes, and {source.root} does not tell where its slices lie, as a "
                "copy of whole volumes, of a table of your own or by an earlier release does not. Read the source "
                f"({source.provenance['source']}), or prepare CT-RATE again with --form slices."
            )
        tables = read_tables(source, config)
        self.skipped: list[str] = []
        self.labels = {split: table[list(LABELS)].to_numpy(np.int8) for split, table in tables.items()}  # [N, 18]
        self.tables = {split: table.drop(columns=list(LABELS)) for split, table in tables.items()}
        self._told = {  # columns that are texts and numbers of the table; `None` for what is NaN or NA there
            split: table[["age", "sex", *source.metadata]].astype(object).where(table.notna(), None).to_dict("records")
            for split, table in tables.items()
        }
        for name in metadata_names(config.prompt_metadata):
            self._check_known(name)
        self.masks = MaskSet(config.masks, config.mask_names) if config.masks else None
        if self.masks:
            self.masks.check([self._masked(split, i) for split in tables for i in range(len(tables[split]))])
        self.air = air_value(source.settings.window)
        if config.images == "slices":
            self.air = to_uint8(self.air)
        self._partners: dict[str, PartnerSampler] = {}
        self._tasks: dict[str, Task] = {}
        self._facts: dict[tuple, object] = {}
        self._key_planes: dict[str, np.ndarray | None] = {}
        self._unreadable: dict[str, VolumeError] = {}

    def __reduce__(self):
        return RowReader, (self.config, self.source, self._epoch)

    def _check_known(self, name: str) -> None:
        """Raises a `ValueError` if a line that prompts are to have is known of no scan."""
        scans = [known for of_split in self._told.values() for known in of_split]
        if not scans or any(metadata_lines(known, [name]) for known in scans):
            return
        columns = " or ".join(f"'{column}'" for column in (name, READ_FROM.get(name)) if column)
        place, remedy = self.config.data_dir or "CT-RATE", f"Leave {name!r} out of prompt_metadata"
        if isinstance(self.source, PreparedSource) and not self.source.is_own and not self.source.metadata:
            raise ValueError(
                f"{place} was prepared by a release that kept no {columns}, so prompts cannot tell {name!r}. Prepare "
                f"the copy again, or read the source ({self.source.provenance['source']})."
            )
        if self.source.is_own:
            remedy = f"Give the table a column {columns}, or leave {name!r} out of prompt_metadata"
        raise ValueError(f"prompt_metadata asks for {name!r}, which {place} tells of none of its scans. {remedy}.")

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
                "uniform" if self.config.is_mutual else self.config.partner_sampling,
                hard=self.config.negative == "hard",
                max_label_distance=self.config.max_label_distance,
            )
        return self._partners[split]

    def task(self, split: str) -> Task:
        """The task of a split. It is made at first use, because some tasks first read all reports of the split."""
        if split not in self._tasks:
            scans = self._scans(split)
            if split != "train":
                scans = scans._replace(train=self._scans("train"))
            self._tasks[split] = TASKS[self.config.task].of_split(scans, self.config)
        return self._tasks[split]

    def _scans(self, split: str) -> Scans:
        """What a task needs to know about a split."""
        table = self.tables[split]
        reports = list(zip(table["findings"], table["impression"], strict=True))
        questions = table["questions"].tolist() if "questions" in table else ()
        known = (table.index.tolist(), reports, self.labels[split], table["patient"].tolist(), questions)
        return Scans(split, *known)

    def lines(self, split: str) -> list[tuple[str, int]]:
        """The rows of a split, each as the volume's name and the number of the row among the volume's rows."""
        rows_of = self.task(split).rows_of.tolist()
        return [
            (name, number)
            for name, rows in zip(self.tables[split].index, rows_of, strict=True)
            for number in range(rows)
        ]

    def empty_split(self, split: str) -> str:
        """That a split has no row, and why, for the error of who needs it."""
        place, wanted = self.config.data_dir or "CT-RATE", "question"
        if TASKS[self.config.task].of_reports:
            wanted = self.config.target
        if len(self.tables[split]):
            told = f"task={self.config.task!r} finds nothing to ask about its {len(self.tables[split])} scans. "
            told += "Use more scans"
        elif split not in self.source.splits:
            told = f"validation_size={self.config.validation_size} takes no patient of the split 'train'. Raise it"
        elif count := len(self.source.scans(split, self.config.on_error)):
            remedy = "Complete the reports, or choose another `target`"
            if wanted == "question":
                remedy = "Write questions and answers into the rows of this split"
            told = f"of its {count} scans, none has a {wanted}. {remedy}"
        else:
            told = "no scan is in it. A table of your own names the split of each scan in its column 'split'"
        return f"{place} has no row in the split '{split}': {told}."

    def where(self, name: str) -> tuple[str, int]:
        """The split of the volume `name`, and the volume's position in the table of that split."""
        for split, table in self.tables.items():
            if name in table.index:
                return split, table.index.get_loc(name)
        raise KeyError(f"{name} is not in the tables (any more): load the dataset again.")

    def texts(self, split: str, i: int, number: int = 0, draw_key: int = 0) -> dict:
        """
        The columns `prompt`, `completion`, `age`, `sex`, those of the task and those of metadata, for row `number` of
        volume `i`. The splits `validation` and `test` have the same texts in every epoch.
        """
        asked = self.task(split).ask(i, number, self._text_key(split, draw_key))
        lines = self.prompt_lines(split, i)
        if split == "train":
            lines = self._training_lines(lines, i, number, draw_key)
        questions = [*(question for question, _ in asked.before), asked.prompt]
        answers = [answer for _, answer in asked.before]
        return {
            "prompt": write_turns(questions, answers, lines, self.config.prompt),
            "completion": [{"role": "assistant", "content": asked.completion}],
            **asked.columns,
            **self._told[split][i],
        }

    def prompt_lines(self, split: str, i: int) -> dict[str, str]:
        """What `prompt_metadata` has prompts about volume `i` tell, by its name; see [`metadata_lines`]."""
        return metadata_lines(self._told[split][i], metadata_names(self.config.prompt_metadata), self.config.prompt)

    def _training_lines(self, lines: dict[str, str], i: int, number: int, draw_key: int) -> dict[str, str]:
        """The lines of a prompt of the split `train`: with the findings as cues, and some of them left out."""
        config = self.config
        if config.prompt_findings and config.task == "report":
            lines = lines | {FINDINGS: write_line(self.labels["train"][i].tolist(), "names", config.prompt)}
        if not config.prompt_dropout:
            return lines
        rng = draw_rng(config.seed, draw_key, self.tables["train"].index[i], Purpose.PROMPT_LINES, number)
        return drop_lines(lines, config.prompt_dropout, rng)

    @staticmethod
    def _text_key(split: str, draw_key: int) -> int:
        return draw_key if split == "train" else 0

    def set_epoch(self, epoch: int) -> None:
        """
        Start an epoch: rows of `train` that are read from now on have new negatives and questions, and with
        `slices="jitter"` new planes.
        """
        self._epoch.fill_(epoch)

    def column(self, column: str, name: str, number: int):
        """
        The value of one column in row `number` of the volume `name`, in the epoch of the dataset. With
        `on_error="skip"`, the slices, `slice_mm` and the negative are `None` if the volume, or all of its possible
        partners, cannot be read.
        """
        split, i = self.where(name)
        # Held-out rows keep their negatives, so that the evaluations during a training can be compared.
        draw_key = int(self._epoch) if split == "train" else 0
        try:
            return self._read_column(column, split, i, number, draw_key)
        except VolumeError as error:
            self._skip(error)
            return None

    def _read_column(self, column: str, split: str, i: int, number: int, draw_key: int):
        match column:
            case "images":
                return self._images(self._slices(split, i, draw_key)[0])
            case "slice_mm":
                return list(self._shape_and_depths(split, i, draw_key)[1])
            case "masks":
                return self._masks(split, i, draw_key)
            case "negative_images":
                return self._images(self._negative(split, i, number, draw_key)[0])
            case "negative_volume" | "label_distance":
                partner, distance = self._partner(split, i, number, draw_key)
                return partner if column == "negative_volume" else distance
            case _:
                key = ("texts", self.tables[split].index[i], number, draw_key)
                texts = self._facts.get(key) or self._note(key, self.texts(split, i, number, draw_key))
                return deepcopy(texts[column])  # messages can be changed in place

    def read(self, name: str, draw_key: int = 0, number: int = 0) -> dict | None:
        """
        Row `number` of the volume `name`. With `on_error="skip"`, `None` if the volume or all of its possible partners
        cannot be read.
        """
        split, i = self.where(name)
        try:
            slices, slice_mm = self._slices(split, i, draw_key)
            negative, partner, distance = self._negative(split, i, number, draw_key)
        except VolumeError as error:
            self._skip(error)
            return None
        return {
            "volume": name,
            "images": self._images(slices),
            "negative_images": self._images(negative),
            "negative_volume": partner,
            "label_distance": distance,
            **self.texts(split, i, number, draw_key),
            "labels": self.labels[split][i].tolist(),
            "slice_mm": slice_mm,
            **self.mask_findings(split, i),
            **({"masks": self._masks_or_none(split, i, draw_key)} if self.masks else {}),
        }

    def _slices(self, split: str, i: int, draw_key: int) -> tuple[np.ndarray, list[float]]:
        """
        Slices of volume `i`, uint8 `[S, H, W]` or `[S, H, W, 3]`, and the depth of each slice, in mm. With
        `images="volume"`, all planes, float16.
        """
        scan = self.tables[split].iloc[i]
        slices, slice_mm, *plan = self._read(scan, self._fractions(split, scan.name, draw_key), bool(self.masks))
        self._note(("shape", scan.name, draw_key), (slices.shape, slice_mm))
        if plan:
            self._note(("plan", scan.name, draw_key), plan[0])
        return slices, slice_mm

    def mask_findings(self, split: str, i: int) -> dict:
        """The column `mask_findings` of volume `i`; none without `masks`."""
        return {"mask_findings": self.masks.findings(self._masked(split, i))} if self.masks else {}

    def _masked(self, split: str, i: int) -> str:
        """What the masks call volume `i`: by its path in a reader's own table, where names are not the reader's."""
        table = self.tables[split]
        return table["path"].iloc[i] if self.source.is_own else table.index[i]

    def _masks(self, split: str, i: int, draw_key: int) -> list[list[Image.Image]] | None:
        """What the slices of volume `i` show of its masks, see [`~ct_rate_pairs.masks.MaskSet.images`]."""
        volume, key = self._masked(split, i), ("plan", self.tables[split].index[i], draw_key)
        if not self.masks.findings(volume):  # no volume needs to be read
            return self.masks.findings(volume)
        if key not in self._facts:
            self._slices(split, i, draw_key)
        with each_warning_once():
            return self.masks.images(volume, self._facts[key])

    def _masks_or_none(self, split: str, i: int, draw_key: int) -> list[list[Image.Image]] | None:
        """As [`_masks`]; with `on_error="skip"`, masks that cannot be read are not known."""
        try:
            return self._masks(split, i, draw_key)
        except VolumeError as error:
            self._skip(error)
            return None

    def _read(self, scan: pd.Series, fractions: np.ndarray | None, planned: bool = False) -> tuple:
        """
        Slices of a row of the table of scans, and their depths; if `planned`, also where they lie. A volume that is
        skipped is tried only once.
        """
        if scan.name in self._unreadable:
            raise self._unreadable[scan.name]
        try:
            with each_warning_once():
                if self.config.images == "volume":
                    return self.source.read_values(scan)
                return (self.source.read_planned if planned else self.source.read_slices)(scan, fractions)
        except VolumeError as error:
            if self.config.on_error == "skip":
                self._unreadable[scan.name] = error
            raise

    def _shape_and_depths(self, split: str, i: int, draw_key: int) -> tuple[tuple[int, ...], list[float]]:
        """Shape of the slices of volume `i`, and the depth of each slice, in mm."""
        key = ("shape", self.tables[split].index[i], draw_key)
        if key not in self._facts:
            self._slices(split, i, draw_key)
        return self._facts[key]

    def _fractions(self, split: str, name: str, draw_key: int) -> np.ndarray | None:
        """
        Position of each plane in its bin: in training, drawn with `slices="jitter"`, and that of the findings with
        `slices="key"`; otherwise `None`, the middle.
        """
        rule = self.source.settings.slices if split == "train" else None
        if rule == "jitter":
            rng = draw_rng(self.config.seed, draw_key, name, Purpose.PLANES)
            return rng.random(self.source.settings.num_slices)
        return self._key_fractions(split, name) if rule == "key" else None

    def _key_fractions(self, split: str, name: str) -> np.ndarray | None:
        """Position of the plane in each bin that shows most of the masks. The volume is read once more for it."""
        if name not in self._key_planes:
            volume, of = self._masked(split, self.tables[split].index.get_loc(name)), self.source.settings
            found = None
            if self.masks.findings(volume):
                *_, plan = self._read(self.tables[split].loc[name], None, planned=True)
                with each_warning_once():
                    found = self.masks.key_fractions(volume, plan, of.num_slices, of.z_range)
            self._key_planes[name] = found
        return self._key_planes[name]

    def _partner(self, split: str, i: int, number: int, draw_key: int) -> tuple[str, int]:
        """
        The partner's name and its label distance. No volume is read, except with `on_error="skip"`, where an
        unreadable partner is replaced.
        """
        if self.config.negative == "gauss" or self._lacks_negative(split):
            return "", 0

        key = ("partner", self.tables[split].index[i], number, draw_key)
        if key in self._facts:
            return self._facts[key]
        if self.config.on_error == "skip":
            return self._negative(split, i, number, draw_key)[1:]
        partner, distance = self._draw(split, i, number, draw_key)()
        return self._note(key, (self.tables[split].index[partner], distance))

    def _lacks_negative(self, split: str) -> bool:
        """Whether the rows of a split have no negative, or find one only in their batch."""
        return self.config.negative == "none" or (self.config.is_mutual and split == "train")

    def _draw(self, split: str, i: int, number: int, draw_key: int) -> Callable[..., tuple[int, int]]:
        """
        A function that draws a partner of a row: its index in the split, and its label distance. Each call draws
        another partner, and none of those in `unreadable`.
        """
        draw = partial(draw_rng, self.config.seed, draw_key, self.tables[split].index[i])
        rng = draw(Purpose.FURTHER_NEGATIVES, number) if number else draw()
        unfit = self.task(split).unfit_partners(i, number, self._text_key(split, draw_key))
        return lambda unreadable=(): self.partners(split).draw(i, rng, without=[*unfit, *unreadable])

    def _negative(self, split: str, i: int, number: int, draw_key: int) -> tuple[np.ndarray, str, int]:
        """
        The slices of the negative (uint8, of the shape of the volume's slices), the partner's name and its label
        distance.
        """
        name = self.tables[split].index[i]
        shape, _ = self._shape_and_depths(split, i, draw_key)
        if self._lacks_negative(split):
            return np.empty((0, *shape[1:]), dtype=np.uint8), "", 0
        if self.config.negative == "gauss":
            draw = partial(draw_rng, self.config.seed, draw_key, name)
            rng = draw(Purpose.FURTHER_NEGATIVES, number) if number else draw()
            noise = rng.standard_normal(shape, dtype=np.float32).clip(-1, 1)
            return to_uint8(noise) if self.config.images == "slices" else noise.astype(np.float16), "", 0
        draw = self._draw(split, i, number, draw_key)
        unreadable: list[int] = []
        while True:
            try:
                partner, distance = draw(unreadable)
            except NoPartnerError as error:
                raise VolumeError(
                    f"{name}: none of the {len(unreadable)} volumes that could be its negative in the split "
                    f"'{split}' can be read. Repair them, or pass negative='gauss'."
                ) from error
            scan = self.tables[split].iloc[partner]
            try:
                # The partner's planes are those of the volume.
                slices, _ = self._read(scan, self._fractions(split, name, draw_key))
            except VolumeError as error:
                if self.config.on_error == "raise":
                    raise
                self._skip(error)
                unreadable.append(partner)
            else:
                self._note(("partner", name, number, draw_key), (scan.name, distance))
                return fit_volume(slices, shape[:3], self.air), scan.name, distance

    def _images(self, slices: np.ndarray) -> list[Image.Image] | np.ndarray:
        """A PIL image per slice; with `images="volume"`, the values themselves."""
        return slices if self.config.images == "volume" else [Image.fromarray(plane) for plane in slices]

    def _note(self, key: tuple, fact: T) -> T:
        """Keeps a small fact of a row, so that the next column of the row need not read or draw again."""
        if len(self._facts) >= FACTS:
            self._facts.clear()
        self._facts[key] = fact
        return fact

    def _skip(self, error: VolumeError) -> None:
        if self.config.on_error == "raise":
            raise VolumeError(
                f"{error} To leave such volumes out, with a warning for each, pass on_error='skip'."
            ) from error
        if str(error) not in self.skipped:
            self.skipped.append(str(error))
            logger.warning("Skipped a volume (%d so far in this process): %s", len(self.skipped), error)
