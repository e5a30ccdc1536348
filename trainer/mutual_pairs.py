"""Batches whose volumes are each other's negatives (`partner_sampling="mutual"`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from PIL import Image

from ct_rate_pairs.builder import readers_of_stream
from ct_rate_pairs.partners import match_mutually
from ct_rate_pairs.readers import has_reader, reader_of
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.fitting import fit

from .pair_collator import PairCollator


# Key of a batch. For each row, the place of its negative among the volumes of the batch, followed by the fitted
# partners; -1 for a row without a negative.
PARTNERS = "partners"


def mutual_reader(dataset: Dataset | IterableDataset) -> RowReader | None:
    """The reader of a dataset, or of a part of a stream, whose partners are mutual; `None` if there is none."""
    if isinstance(dataset, IterableDataset):
        readers = readers_of_stream(dataset)
    else:
        readers = [reader_of(dataset)] if has_reader(dataset) else []
    return next((reader for reader in readers if reader.config.is_mutual), None)


class MutualPairs:
    """
    Data collator for rows without negatives: it makes the volumes of a batch each other's negatives.

    The volumes are matched by [`~ct_rate_pairs.partners.mutual.match_mutually`], so a volume serves at most once, and
    never a volume of its own patient. The pixels of the partners are in the batch already. A partner on another grid
    than its volume is also cropped or padded with air to the volume's size, as the reader of the dataset does with
    partners that it draws: a pair shares its grid and its positions.

    Args:
        collator ([`PairCollator`]):
            Collator of the rows.
        air (`float` or `np.ndarray`):
            Grey value of air, 0 to 255, or one value per channel.

    Raises:
        `ValueError`: if a row has no `labels`, or the rows have different numbers of slices; and as [`PairCollator`].
    """

    def __init__(self, collator: PairCollator, air: float | np.ndarray):
        self.collator = collator
        self.air = air

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        """
        Collate a training batch.

        Args:
            rows (`list[dict]`):
                `B` rows of the dataset.

        Returns:
            `dict`: the batch of the collator. If the rows have no negatives of their own, it also has `partners`, the
            places of the `B` negatives among the volumes of the batch and the fitted partners (-1: no negative), and
            the pixels of the fitted partners, if there are any, as `negative_pixel_values_videos` or
            `negative_pixel_values`.
        """
        batch = self.collator(rows)
        key = f"negative_{self.collator.pixels}"
        if key in batch:
            return batch
        for row in rows:
            if row.get("labels") is None:
                raise ValueError(
                    f"{row['volume']} has no labels, by which mutual partners are chosen: keep the column."
                )
        if len({len(row["images"]) for row in rows}) > 1:
            raise ValueError("Mutual partners need volumes with equal numbers of slices: batch them apart.")
        sizes = self._sizes(rows, batch)
        patients = [patient_of(row["volume"]) for row in rows]
        matched = match_mutually(np.array([row["labels"] for row in rows]), patients, sizes)
        partners, fitted = [], []
        for volume, partner in enumerate(matched):
            if partner is None:
                partners.append(-1)
            elif sizes[partner] == sizes[volume]:
                partners.append(partner)
            else:
                partners.append(len(rows) + len(fitted))
                fitted.append(self._fitted(rows[volume], rows[partner]))
        batch[PARTNERS] = partners
        if fitted:
            batch[key] = self.collator.negatives(fitted)
        return batch

    def _sizes(self, rows: list[Mapping[str, Any]], batch: Mapping[str, torch.Tensor]) -> list[tuple[int, ...]]:
        """The grid of each volume, with the padding of the collator; without grids, the size of the slices."""
        if self.collator.takes_video:
            return [tuple(grid) for grid in batch["video_grid_thw"].tolist()]
        return [row["images"][0].size for row in rows]

    def _fitted(self, row: Mapping[str, Any], partner: Mapping[str, Any]) -> dict[str, Any]:
        """The row with the slices of the partner, in the size of its own slices, as its negative."""
        width, height = row["images"][0].size
        slices = fit(np.stack([np.asarray(image) for image in partner["images"]]), height, width, air=self.air)
        negative = {"negative_images": [Image.fromarray(plane) for plane in slices]}
        return {**row, **negative, "negative_volume": partner["volume"]}
