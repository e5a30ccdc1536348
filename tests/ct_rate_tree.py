"""A hand-made CT-RATE tree, whose every voxel and cell a test can know."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from ct_rate_pairs import LABELS


SPACING = (4.0, 4.0, 8.0)  # mm as x, y, z
TREE = (("train_fixed", "train", "train", "train"), ("valid_fixed", "valid", "validation", "valid"))


def write_tree(root: Path, scans: int = 12, shape: tuple[int, int, int] = (24, 20, 20), seed: int = 0) -> Path:
    """A CT-RATE tree of `scans` patients a split: random HU, balanced random labels, numbered findings."""
    rng = np.random.default_rng(seed)
    for folder, short, long, prefix in TREE:
        names = [f"{prefix}_{i}_a_1.nii.gz" for i in range(1, scans + 1)]
        for name in names:
            parts = name.removesuffix(".nii.gz").split("_")
            place = root / "dataset" / folder / "_".join(parts[:2]) / "_".join(parts[:3])
            place.mkdir(parents=True, exist_ok=True)
            hu = rng.integers(-1000, 400, shape, dtype=np.int16)
            nib.save(nib.Nifti1Image(hu, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])), place / name)
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
        metadata = {"VolumeName": names, "PatientAge": "036Y", "PatientSex": "F"}
        pd.DataFrame(metadata).to_csv(root / f"dataset/metadata/{long}_metadata.csv", index=False)
        (root / f"dataset/metadata/no_chest_{short}.txt").write_text("")
    return root
