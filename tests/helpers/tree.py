"""A hand-made CT-RATE tree, whose every voxel and cell a test can know."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS


SPACING = (4.0, 4.0, 8.0)  # mm as x, y, z
STEMS = (("train", "train"), ("valid", "validation"))  # of the folders and of the tables


def write_tree(
    root: Path, scans: int = 12, shape: tuple[int, int, int] = (24, 20, 20), seed: int = 0, files: str = "fixed"
) -> Path:
    """
    A CT-RATE tree of `scans` patients a split: random HU, balanced random labels, numbered findings. The original
    files hold HU + 1024 and no spacing: the metadata table has both.
    """
    rng = np.random.default_rng(seed)
    for short, long in STEMS:
        folder = f"{short}_fixed" if files == "fixed" else short
        names = [f"{short}_{i}_a_1.nii.gz" for i in range(1, scans + 1)]
        for name in names:
            parts = name.removesuffix(".nii.gz").split("_")
            place = root / "dataset" / folder / "_".join(parts[:2]) / "_".join(parts[:3])
            place.mkdir(parents=True, exist_ok=True)
            hu = rng.integers(-1000, 400, shape, dtype=np.int16)
            if files == "fixed":
                nib.save(nib.Nifti1Image(hu, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])), place / name)
            else:
                nib.save(nib.Nifti1Image(hu + np.int16(1024), np.diag([-1, -1, 1, 1])), place / name)
        for table in ("multi_abnormality_labels", "radiology_text_reports", "metadata"):
            (root / "dataset" / table).mkdir(exist_ok=True)
        labels = pd.DataFrame(rng.integers(0, 2, (scans, 18)), columns=list(LABELS))
        labels.insert(0, "VolumeName", names)
        labels.to_csv(root / f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv", index=False)
        reports = {
            "VolumeName": names,
            "ClinicalInformation_EN": "Cough.",
            "Technique_EN": "Non-contrast.",
            "Findings_EN": [f"Finding {i}." for i in range(scans)],
            "Impressions_EN": ["Not given.", *(f"Impression {i}." for i in range(1, scans))],
        }
        pd.DataFrame(reports).to_csv(root / f"dataset/radiology_text_reports/{long}_reports.csv", index=False)
        metadata = {
            "VolumeName": names,
            "PatientAge": "036Y",
            "PatientSex": "F",
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "XYSpacing": f"[{SPACING[0]}, {SPACING[1]}]",
            "ZSpacing": SPACING[2],
        }
        pd.DataFrame(metadata).to_csv(root / f"dataset/metadata/{long}_metadata.csv", index=False)
        (root / f"dataset/metadata/no_chest_{short}.txt").write_text("")
    return root


def write_telling_tree(root: Path) -> Path:
    """A tree whose reports say every label of theirs, and every second time on which side and in which lobe."""
    write_tree(root, scans=16)
    for short, long in STEMS:
        labels = pd.read_csv(root / f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv")
        file = root / f"dataset/radiology_text_reports/{long}_reports.csv"
        rng = np.random.default_rng(1)
        findings = []
        for row in labels.to_dict("records"):
            place = f" in the {rng.choice(['right', 'left'])} lung lower lobe"
            said = (f"{label} is seen{rng.choice(['', place])}." for label in LABELS if row[label])
            findings.append(" ".join(said))
        pd.read_csv(file).assign(Findings_EN=findings).to_csv(file, index=False)
    return root


def without_labels(root):
    """The tree without its label tables, and with reports that state findings."""
    for file in (root / "dataset/multi_abnormality_labels").iterdir():
        file.unlink()
    for long in ("train", "validation"):
        file = root / f"dataset/radiology_text_reports/{long}_reports.csv"
        table = pd.read_csv(file)
        table["Findings_EN"] = "A nodule is observed in the right lung. No pleural effusion was detected."
        table["Impressions_EN"] = [f"Emphysema, case {row}." if row % 2 else "Not given." for row in range(len(table))]
        table.to_csv(file, index=False)
    return root
