"""
Files in exactly the form in which 3D-RAD, RadGenome-ChestCT and RAD-ChestCT are published, with contents made here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs.joins.rad_chestct import MAPPING


THREE_D_RAD = ("Task", "Subtask", "VolumeName", "Question", "Answer", "QuestionType", "AnswerChoice")
THREE_D_RAD += ("Choice A", "Choice B", "Choice C", "Choice D")
STATES = ("Refractory Lesion (Persistent)", "Resolved Lesion (Now absent)", "New Lesion (Absent before)", "No Lesion")
LOCATIONS = ("left_lung", "heart", "other_location")


def write_three_d_rad(folder: Path, patients: Sequence[int]) -> Path:
    """The folders `train` and `test`, with questions of three kinds about the first scan of each patient."""
    for split in ("train", "test"):
        names = [f"{split}_{patient}_a_1.nii.gz" for patient in patients]
        answers = (("No", "Close", "B"), ("Yes", "Close", "A"))
        closed = [
            (4, 8, name, "Is hiatal hernia present on the CT scan?", *answers[n % 2], "Yes", "No", "-", "-")
            for n, name in enumerate(names)
        ]
        sizes = [
            (3, 1, name, "What is the diameter of the aorta?", f"{30 + number} mm", "Open", "-", "-", "-", "-", "-")
            for number, name in enumerate(names)
        ]
        asked = "Prior cardiomegaly timeline: [1, 0]. How does it appear now?"
        change = [(6, 12, name, asked, STATES[n % 4], "Close", "ABCD"[n % 4], *STATES) for n, name in enumerate(names)]
        for file, rows in (
            ("Task4_Existence_Detection/Hiatal hernia.csv", closed),
            ("Task3_Medical_Computation/Diameter.csv", sizes),
            ("Task6_Longitudinal_Temporal_Diagnosis/c.csv", change),
        ):
            path = folder / split / file
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows, columns=THREE_D_RAD).to_csv(path, index=False)
    return folder


def write_radgenome(folder: Path, volumes: Sequence[str], split: str = "train") -> Path:
    """The files of a split, which hold regions, findings and sizes, and those that hold no questions."""
    tables = {
        "vqa_presence": [
            row
            for volume in volumes
            for row in (
                (volume, "lung", "ground glass areas, nodule", "Yes."),
                (volume, "lung/lung", "ground glass areas, nodule", "Yes."),
                (volume, "lung/lung/right lung", "nodule", "Yes."),
                (volume, "pleura/pleura", "pleural effusion", "No."),
            )
        ],
        "vqa_abnormality": [(volume, "lung/lung/right lung", "nodule") for volume in volumes],
        "vqa_location": [
            (volume, place, "nodule") for volume in volumes for place in ("lung", "lung/lung", "lung/lung/right lung")
        ],
        "vqa_size": [
            (volume, "lung/lung/right lung", "nodule", size) for volume in volumes for size in ("6x4 mm", "3 mm")
        ],
        "case_disorders": [(volume, "emphysema, hiatal hernia") for volume in volumes],
        "region_report": [(volume, "lung", "A nodule is seen.") for volume in volumes],
        "image_path": [(volume, f"/data/{volume}") for volume in volumes],
    }
    columns = {
        "vqa_presence": ("Volumename", "Anatomy", "Finding", "Presence"),
        "vqa_abnormality": ("Volumename", "Anatomy", "Abnormality"),
        "vqa_location": ("Volumename", "Anatomy", "Abnormality"),
        "vqa_size": ("Volumename", "Anatomy", "Abnormality", "Size"),
        "case_disorders": ("Volumename", "Disorders"),
        "region_report": ("Volumename", "Anatomy", "Sentence"),
        "image_path": ("Volumename", "nii_path"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in tables.items():
        pd.DataFrame(rows, columns=columns[kind]).to_csv(folder / f"{split}_{kind}.csv", index=False)
    return folder


def write_rad_chestct(folder: Path, scans: int = 4, shape: tuple[int, int, int] = (2, 2, 2)) -> Path:
    """
    The `.npz` files, labels and metadata of three splits. Each second scan of a split has each finding, at one place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    findings = [finding for several in MAPPING.values() for finding in several] + ["air_trapping"]
    rng, metadata = np.random.default_rng(0), []
    for short, name in (("trn", "imgtrain"), ("val", "imgvalid"), ("tst", "imgtest")):
        rows = []
        for number in range(scans):
            scan = f"{short}{number:05}"
            metadata.append({"MRN_DEID": f"{short}-patient-{number // 2}", "NoteAcc_DEID": scan, "StudyDate": "0"})
            here = {f"{finding}*{LOCATIONS[number % 3]}": number % 2 for finding in findings}
            places = {f"{finding}*{place}": 0 for finding in findings for place in LOCATIONS}
            rows.append({"NoteAcc_DEID": scan} | places | here)
            np.savez_compressed(folder / f"{scan}.npz", ct=rng.integers(-1000, 400, shape, dtype=np.int16))
        pd.DataFrame(rows).to_csv(folder / f"{name}_Abnormality_and_Location_Labels.csv", index=False)
    pd.DataFrame(metadata).to_csv(folder / "CT_Scan_Metadata_Complete_35747.csv", index=False)
    return folder
