"""
The labels of RAD-ChestCT as questions, for an external test of models of CT-RATE.

RAD-ChestCT has no reports for readers, and labels of 84 findings at 52 places, which rules read from its reports. Of
CT-RATE's 18 labels it has 16: both calcifications as one, and no mosaic attenuation pattern. A label that it does not
have is not known, and so is not asked.

Sources: the data set, Draelos et al. 2021, https://zenodo.org/records/6406114; its 16 common labels, Hamamci et al.,
arXiv:2403.17834, and Lai et al., arXiv:2501.03565; a calcification is predicted if either of CT-RATE's two is, Zhao et
al., https://github.com/Zch0414/hlip.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.tasks.vqa_wording import FINDINGS, FORMS, QUESTIONS, YES_NO

from .questions import read_columns


PATTERN = "img*_Abnormality_and_Location_Labels.csv"
PATIENTS = "CT_Scan_Metadata_Complete_*.csv"
SPLITS = {"imgtrain": "train", "imgvalid": "validation", "imgtest": "test"}
NAME = "NoteAcc_DEID"
_ENDING = re.compile(r"\.(npz|nii\.gz|nii|mha)$")
# Labels of CT-RATE, and the findings of RAD-ChestCT any of which is taken for one of them, at any place.
MAPPING = {
    ("Medical material",): (
        *("breast_implant", "catheter_or_port", "chest_tube", "clip", "gi_tube", "hardware", "pacemaker_or_defib"),
        *("staple", "stent", "suture", "tracheal_tube"),
    ),
    ("Arterial wall calcification", "Coronary artery wall calcification"): ("calcification",),
    ("Cardiomegaly",): ("cardiomegaly",),
    ("Pericardial effusion",): ("pericardial_effusion",),
    ("Hiatal hernia",): ("hernia",),
    ("Lymphadenopathy",): ("lymphadenopathy",),
    ("Emphysema",): ("emphysema",),
    ("Atelectasis",): ("atelectasis",),
    ("Lung nodule",): ("nodule", "nodulegr1cm"),
    ("Lung opacity",): ("opacity",),
    ("Pulmonary fibrotic sequela",): ("fibrosis",),
    ("Pleural effusion",): ("pleural_effusion",),
    ("Peribronchial thickening",): ("bronchial_wall_thickening",),
    ("Consolidation",): ("consolidation",),
    ("Bronchiectasis",): ("bronchiectasis",),
    ("Interlobular septal thickening",): ("septal_thickening",),
}
UNKNOWN = tuple(label for label in LABELS if not any(label in labels for labels in MAPPING))
NOTE = (
    f"RAD-ChestCT does not tell {', '.join(UNKNOWN)}, which is not asked, and has one label for both calcifications, "
    "which is one question. Its labels were read from reports by rules."
)


def question_about(labels: tuple[str, ...]) -> str:
    """The question whether any of some labels is there, in a wording of the task `vqa`."""
    found = " or ".join(FINDINGS["en"][label] for label in labels)
    return QUESTIONS["en"]["presence"][0].format(found) + FORMS["en"]["presence"]


# What the questions of this file ask about.
LABELS_ASKED = {question_about(labels): labels for labels in MAPPING}


def questions_of(file: Path) -> pd.DataFrame:
    """
    The labels in a CSV file as questions, with the columns `ASKED`.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the file cannot be read or lacks a finding, or if a cell
            is neither 0 nor 1.
    """
    stated = _findings(file)
    asked = [
        stated[list(findings)].any(axis="columns").map({False: YES_NO["en"][0], True: YES_NO["en"][1]})
        for findings in MAPPING.values()
    ]
    wide = pd.DataFrame(dict(zip(LABELS_ASKED, asked, strict=True)))
    long = wide.rename_axis("volume").reset_index().melt("volume", var_name="question", value_name="answer")
    return long.assign(closed=True)


def _findings(file: Path) -> pd.DataFrame:
    """Whether a scan has each finding at any place, by the name of the scan."""
    columns = pd.read_csv(file, nrows=0).columns
    places = {
        finding: [column for column in columns if column.split("*")[0] == finding]
        for findings in MAPPING.values()
        for finding in findings
    }
    if missing := [finding for finding, found in places.items() if not found]:
        raise TableError(
            f"{file} has no column '{missing[0]}*...', a finding and its place. Give the file as it was published."
        )
    used = [column for found in places.values() for column in found]
    table = read_columns(file, (NAME, *used))
    values = table[used].apply(pd.to_numeric, errors="coerce")
    wrong = np.argwhere(~values.isin([0, 1]).to_numpy())
    if len(wrong):
        row, column = wrong[0]
        raise TableError(
            f"{file}, row {row + 2}, column '{used[column]}': a label is 0 or 1. Correct or remove the row."
        )
    return pd.DataFrame({finding: values[found].any(axis="columns") for finding, found in places.items()}).set_axis(
        table[NAME], axis="index"
    )


def scans_of(folder: Path, label_files: Sequence[Path], patients_file: Path) -> pd.DataFrame:
    """
    The scans in a folder, by name, with `path`, `patient` and the set's own `split`.

    Args:
        folder (`Path`):
            Folder of the `.npz` files, or of scans that were made from them.
        label_files (`Sequence[Path]`):
            The files of labels, whose names tell the splits.
        patients_file (`Path`):
            The table of metadata, which tells the patients.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the name of a file tells no split, or if the table lacks a
            column or a scan.
    """
    files = {_ENDING.sub("", path.name): path for path in sorted(folder.rglob("*")) if _ENDING.search(path.name)}
    rows = read_columns(patients_file, (NAME, "MRN_DEID"))
    patients = dict(zip(rows[NAME], rows["MRN_DEID"], strict=True))
    scans = {}
    for file in label_files:
        split = SPLITS.get(file.name.split("_")[0])
        if split is None:
            raise TableError(
                f"{file}: its name tells no split. Keep the names of RAD-ChestCT: {', '.join(SPLITS)}, and then "
                "_Abnormality_and_Location_Labels.csv."
            )
        for name in read_columns(file, (NAME,))[NAME].dropna():
            if name not in files:
                continue
            if name not in patients:
                raise TableError(
                    f"{patients_file} has no row of {name}, which {file.name} names. Download both again."
                )
            path = files[name].relative_to(folder).as_posix()
            scans[name] = {"path": path, "patient": patients[name], "split": split}
    return pd.DataFrame.from_dict(scans, orient="index", columns=["path", "patient", "split"])
