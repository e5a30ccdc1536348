"""Rows that are read when they are taken, and tell that they were."""

import weakref
from collections.abc import Sequence

import numpy as np
from PIL import Image


REPORTS = [
    "Cardiomegaly is observed. No pleural effusion.",
    "The heart is normal. A nodule is observed in the right upper lobe of the lung.",
    "Emphysema in both lungs.",
]


def make_images(rng, size=(56, 56)):
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8), "L") for _ in range(4)]


def make_row(seed, report, volume=None, size=(56, 56)):
    rng = np.random.default_rng(seed)
    return {
        "volume": volume or f"train_{seed}_a_1.nii.gz",
        "images": make_images(rng, size),
        "negative_images": make_images(rng, size),
        "negative_volume": "train_99_a_1.nii.gz",
        "label_distance": 12,
        "prompt": [{"role": "user", "content": "Write the report."}],
        "completion": [{"role": "assistant", "content": report}],
        "labels": [0] * 18,
        "slice_mm": [0.0, 30.0, 60.0, 90.0],
    }


class LazyRows(Sequence):
    """Rows that are made when they are read; it knows how many of them are still alive."""

    def __init__(self, number):
        self.number, self.alive = number, 0

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        if index >= self.number:
            raise IndexError
        row = make_row(index, REPORTS[index % 3])
        self.alive += 1
        weakref.finalize(row["images"][0], self.forget)
        return row

    def forget(self):
        self.alive -= 1
