"""Masks of the volumes of a tree, in each layout that is read."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np


FINDINGS = ("Lung nodule", "Lung opacity")  # they overlap


def volumes_of(tree: Path) -> list[Path]:
    return sorted((tree / "dataset").rglob("*_1.nii.gz"))


def draw(shape: tuple[int, int, int], seed: int) -> dict[str, np.ndarray]:
    """Two random masks in the order of the stored array, which overlap."""
    rng = np.random.default_rng(seed)
    return {finding: rng.random(shape) < 0.4 for finding in FINDINGS}


def save_like(volume: Path, file: Path, array: np.ndarray) -> Path:
    """The array on the grid of a volume."""
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, nib.load(volume).affine), file)
    return file


def write_table(folder: Path, rows: list[tuple]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "masks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("volume", "file", "value", "finding", "sentence"), *rows])
    return folder / "masks.csv"


def write_masks(tree: Path, folder: Path, layout: str = "table", unknown: int = 0, empty: int = 0) -> Path:
    """
    The masks of a tree: none of its first `unknown` volumes, and none but their rows of the `empty` volumes after
    them. Returns what `load_dataset` takes as `masks`.
    """
    rows, entries = [], []
    for number, volume in enumerate(volumes_of(tree)[unknown:]):
        stem, name = volume.name.removesuffix(".nii.gz"), volume.name
        drawn = draw(nib.load(volume).shape, number) if number >= empty else {}
        if layout == "table":
            for finding, mask in drawn.items():
                file = save_like(volume, folder / stem / f"{finding}.nii.gz", 3 * mask.astype(np.uint8))
                rows.append((name, file.relative_to(folder), 3, finding, f"{finding}, case {number}."))
            rows += [] if drawn else [(name, "", "", "", "")]
        elif layout == "structures":
            for finding, mask in drawn.items():
                save_like(volume, folder / f"{stem}/{finding}.nii.gz", mask.astype(np.uint8))
        elif layout == "rexgrounding":
            (folder / "segmentations").mkdir(parents=True, exist_ok=True)
            if drawn:
                array = np.stack([(1 + number % 2) * mask.astype(np.uint8) for mask in drawn.values()])
                nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "segmentations" / name)
            findings = {str(place): f"{finding}, case {number}." for place, finding in enumerate(drawn)}
            entries.append({"name": name, "findings": findings, "categories": {"0": "2d", "1": "2c"}})
    if layout == "table":
        write_table(folder, rows)
    if layout == "rexgrounding":
        (folder / "dataset.json").write_text(json.dumps({"train": entries, "test": []}))
    return folder
