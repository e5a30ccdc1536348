"""
From a line of the index to a row: reads the slices and draws the negative (the row's contract is in
`builder.py`).
"""

import logging

import numpy as np
import pandas as pd
import torch
from PIL import Image

from .partners import NoPartnerError, PartnerSampler
from .source import HubSource, LocalSource
from .volume import VolumeError, fit


logger = logging.getLogger(__name__)

PROMPT = "Write the findings and the impression of this chest CT."


class RowReader:
    """
    Reads rows of any split. Each negative is drawn from (`seed`, draw key, volume) and from nothing else, so that
    workers, ranks and restarts change nothing. The draw key is the epoch; a stream makes one of its epoch and of the
    seed that it is shuffled with.

    Called with a batch of the Arrow index it serves as the transform of a map-style dataset; `set_epoch` then reaches
    persistent workers too, through shared memory.
    """

    def __init__(self, config, source: LocalSource | HubSource, tables: dict[str, pd.DataFrame]):
        self.config = config
        self.source = source
        self.skipped: list[str] = []
        self.tables = tables
        self.where = {name: (split, i) for split, table in tables.items() for i, name in enumerate(table["volume"])}
        self.partners = {
            split: PartnerSampler(
                np.stack(table["labels"]), table["patient"], config.min_label_distance, config.partner_sampling
            )
            for split, table in tables.items()
            if config.negative == "heter" and len(table)
        }
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """New negatives for the rows read from now on."""
        self._epoch.fill_(epoch)

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        rows = [self._readable_row(name, int(self._epoch)) for name in batch["volume"]]
        return {column: [row[column] for row in rows] for column in rows[0]}

    def read(self, name: str, draw_key: int = 0) -> dict | None:
        """The row of the volume `name`; `None` for a bad volume under `on_error="skip"`."""
        split, i = self.where[name]
        record = self.tables[split].iloc[i]
        try:
            slices, slice_mm = self._slices(record["path"])
        except VolumeError as error:
            self._skip(error)
            return None
        rng = np.random.default_rng([self.config.seed, draw_key, int.from_bytes(name.encode(), "big")])
        negative, partner, distance = self._negative(split, i, slices.shape, rng)
        return {
            "volume": name,
            "images": _to_images(slices),
            "negative_images": _to_images(negative),
            "negative_volume": partner,
            "label_distance": distance,
            "prompt": [{"role": "user", "content": PROMPT}],
            "completion": [{"role": "assistant", "content": record["completion"]}],
            "labels": list(record["labels"]),
            "slice_mm": slice_mm,
            "age": record["age"],
            "sex": record["sex"],
        }

    def _readable_row(self, name: str, draw_key: int) -> dict:
        """A map-style dataset owes a row for every index: a skipped volume's place goes to the next readable one."""
        split, start = self.where[name]
        names = self.tables[split]["volume"]
        for step in range(len(names)):
            row = self.read(names[(start + step) % len(names)], draw_key)
            if row is not None:
                return row
        raise VolumeError(f"None of the {len(names)} volumes of the split '{split}' can be read.")

    def _negative(
        self, split: str, i: int, shape: tuple[int, int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, str, int]:
        """Slices `[S, H, W]` of the negative, the partner's name and its label distance."""
        if self.config.negative == "none":
            return np.empty((0, *shape[1:]), dtype=np.float32), "", 0
        if self.config.negative == "gauss":
            return rng.standard_normal(shape, dtype=np.float32).clip(-1, 1), "", 0
        unreadable: list[int] = []
        while True:
            try:
                partner, distance = self.partners[split].draw(i, rng, without=unreadable)
            except NoPartnerError as error:
                name = self.tables[split]["volume"][i]
                raise VolumeError(
                    f"{name}: none of the {len(unreadable)} volumes that could be its negative in the split "
                    f"'{split}' can be read. Repair them, or pass negative='gauss'."
                ) from error
            record = self.tables[split].iloc[partner]
            try:
                slices, _ = self._slices(record["path"])
            except VolumeError as error:
                self._skip(error)
                unreadable.append(partner)
            else:
                return fit(slices, *shape[1:]), record["volume"], distance

    def _slices(self, path: str) -> tuple[np.ndarray, list[float]]:
        volume = self.source.read_volume(path)
        return volume.slices(self.config.num_slices, self.config.spacing, self.config.window)

    def _skip(self, error: VolumeError) -> None:
        if self.config.on_error == "raise":
            raise VolumeError(
                f"{error} To leave such volumes out, counted and named, pass on_error='skip'."
            ) from error
        if str(error) not in self.skipped:
            self.skipped.append(str(error))
            logger.warning("Skipped a volume (%d so far in this process): %s", len(self.skipped), error)


def _to_images(slices: np.ndarray) -> list[Image.Image]:
    """8-bit grey images from [-1, 1]: processors take them, and bf16 inputs keep no more than 8 bits."""
    return [Image.fromarray(plane) for plane in np.rint((slices + 1) * 127.5).astype(np.uint8)]
