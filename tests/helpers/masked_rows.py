"""Rows of the pair trainer with masks."""

import numpy as np
from PIL import Image

from helpers.pair_trainer import ROWS


NAMES = ("Lung nodule", "Pleural effusion")


def with_masks(row, masks, finding="Lung nodule"):
    """A row with the masks of one finding, `[S, H, W]`."""
    shown = [Image.fromarray(plane.astype(bool)) for plane in masks]
    return row | {"masks": [shown], "mask_findings": [{"finding": finding, "sentence": ""}]}


def bright_corner(row, number):
    """The upper left quarter of each slice is white, and is the mask; every third row has no finding."""
    masks = np.zeros((4, 28, 28), np.uint8)
    masks[:, :14, :14] = number % 3 > 0
    images = [
        Image.fromarray(np.maximum(np.asarray(i) // 2, 255 * m)) for i, m in zip(row["images"], masks, strict=True)
    ]
    row = row | {"images": images}
    return with_masks(row, masks) if number % 3 else row | {"masks": [], "mask_findings": []}


MASKED = [bright_corner(row, number) for number, row in enumerate(ROWS)]

# With one report, and the finding in each of them: then it does not matter how they are split into batches.
ALIKE = [row | {"completion": MASKED[1]["completion"]} for row in MASKED if row["masks"]][:4]
