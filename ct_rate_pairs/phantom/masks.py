"""
Writes which voxels each finding of a phantom scan takes: files of label values, and their table. Findings that lie on
each other are in different files.
"""

import csv
import io
from pathlib import Path

import numpy as np

from ct_rate_pairs.masks.table import COLUMNS, TABLE
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.whole_files import write_whole

from .scan import Scan
from .volume_file import write_volume


FOLDER = "masks"  # beside the folder `dataset` of a cohort


def write_masks(
    out: Path, volume: str, scan: Scan, shape: tuple[int, int, int], spacing: tuple, sentences: dict[str, str]
) -> list[list]:
    """
    Writes the masks of one volume, on the grid of the volume. The value of a finding's voxels is the number of its
    label, from 1 in official order.

    Args:
        out (`Path`):
            Folder of the cohort.
        volume (`str`):
            Name of the volume, such as `train_1_a_1.nii.gz`.
        scan ([`Scan`]):
            The scan.
        shape (`tuple[int, int, int]`):
            Voxels of the volume along x, y, z.
        spacing (`tuple[float, float, float]`):
            Size of a voxel along x, y, z, in mm.
        sentences (`dict[str, str]`):
            The sentence of the report that states each finding, by label.

    Returns:
        `list[list]`: the rows of the table: one per finding, or one without a file if the scan has none.
    """
    masks, layers, rows = scan.masks(shape), [], []
    for value, label in enumerate(LABELS, start=1):
        if label in masks:
            place = next((i for i, layer in enumerate(layers) if not layer[masks[label]].any()), len(layers))
            if place == len(layers):
                layers.append(np.zeros(shape, np.uint8))
            layers[place][masks[label]] = value
            file = f"{volume.removesuffix('.nii.gz')}/layer_{place + 1}.nii.gz"
            rows.append([volume, file, value, label, sentences[label]])
    for place, layer in enumerate(layers, start=1):
        file = Path(out, FOLDER, volume.removesuffix(".nii.gz"), f"layer_{place}.nii.gz")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_volume(file, layer, spacing)
    return rows or [[volume, "", "", "", ""]]


def write_mask_table(out: Path, rows: list[list]) -> None:
    """Writes the table of the masks of a cohort."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    Path(out, FOLDER).mkdir(exist_ok=True)
    write_whole(Path(out, FOLDER, TABLE), text.getvalue())
