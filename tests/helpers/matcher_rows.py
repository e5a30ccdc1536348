"""Rows for a dual encoder."""

import numpy as np
from PIL import Image


REPORTS = [
    "Findings: The heart is large. No pleural effusion.\nImpression: Cardiomegaly.",
    "Findings: The heart is normal. A nodule is observed in the right upper lobe.\nImpression: Nodule.",
    "Findings: The heart is normal. Emphysema in both lungs.\nImpression: Emphysema.",
    "Findings: The heart is normal. Lungs are clear.\nImpression: Normal.",
]
SIZE = (32, 40)  # height, width
TINY = {"cnn_widths": (8, 16), "cnn_grid": (2, 2, 2), "projection_dim": 16}


def make_row(seed, report=None, size=SIZE, slices=4, mode="L", **others):
    rng = np.random.default_rng(seed)
    shape = (*size, 3) if mode == "RGB" else size
    images = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(slices)]
    row = {"volume": f"train_{seed}_a_1.nii.gz", "images": images, "negative_images": [], "negative_volume": ""}
    report = REPORTS[seed % 4] if report is None else report
    return row | {"completion": [{"role": "assistant", "content": report}], "age": 50, "sex": "M"} | others
