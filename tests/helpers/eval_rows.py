"""Rows to write reports for."""

import numpy as np
from PIL import Image


REPORTS = [
    "Cardiomegaly is observed. No pleural effusion.",
    "The heart is normal. A nodule is observed in the right upper lobe of the lung.",
    "Emphysema in both lungs.",
]


def make_row(seed, report, prompt="Write the report."):
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (56, 56), dtype=np.uint8), "L") for _ in range(4)]
    return {
        "volume": f"train_{seed}_a_1.nii.gz",
        "images": images,
        "negative_images": [],
        "negative_volume": "",
        "label_distance": 0,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": report}],
        "labels": [0] * 18,
        "slice_mm": [0.0, 30.0, 60.0, 90.0],
    }
