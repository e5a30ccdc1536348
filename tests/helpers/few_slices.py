"""Rows of three slices, with partners that a small cohort has, and what of two rows is compared."""

import numpy as np
from datasets import load_dataset

from .tree import SPACING


READ = ("images", "negative_images", "negative_volume", "label_distance", "slice_mm")


def load(tree, negative="heter", split="train", **options):
    options = {"spacing": SPACING, "num_slices": 3, "min_label_distance": 7, "validation_size": 0.3, **options}
    return load_dataset("ct_rate_pairs", data_dir=str(tree), negative=negative, split=split, **options)


def pixels(images) -> bytes:
    return b"".join(np.asarray(image).tobytes() for image in images)


def comparable(row: dict) -> dict:
    """A row whose images are compared by their pixels."""
    return {name: pixels(value) if "images" in name else value for name, value in row.items()}


def agrees(row: dict, epoch: int, reader) -> None:
    """Checks a row against the row that the reader makes for the epoch."""
    expected = comparable(reader.read(row["volume"], epoch if reader.where(row["volume"])[0] == "train" else 0))
    assert {name: comparable(row)[name] for name in READ} == {name: expected[name] for name in READ}
