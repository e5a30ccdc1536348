"""Writes which voxels each finding of a phantom scan takes: a file per finding, and their table."""

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
    Writes the masks of one volume, on the grid of the volume.

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
    folder = Path(out, FOLDER, volume.removesuffix(".nii.gz"))
    folder.mkdir(parents=True, exist_ok=True)
    masks, rows = scan.masks(shape), []
    for label in (label for label in LABELS if label in masks):
        file = folder / f"{label.lower().replace(' ', '_')}.nii.gz"
        write_volume(file, masks[label].astype(np.uint8), spacing)
        rows.append([volume, file.relative_to(Path(out, FOLDER)).as_posix(), 1, label, sentences[label]])
    return rows or [[volume, "", "", "", ""]]


def write_mask_table(out: Path, rows: list[list]) -> None:
    """Writes the table of the masks of a cohort."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_whole(Path(out, FOLDER, TABLE), text.getvalue())
