"""
The questions of RadGenome-ChestCT about volumes of CT-RATE.

Its files hold regions, findings and sizes, and no question: its authors fill them into sentences when a model is
trained. The sentences here are this package's own.

Source: Zhang et al., "RadGenome-Chest CT: A Grounded Vision-Language Dataset for Chest CT Analysis", 2024,
arXiv:2404.16754; the CSV files and the loader of https://github.com/xiaoman-zhang/RadGenome-ChestCT.
"""

import re
from pathlib import Path

import pandas as pd

from ct_rate_pairs.sources.csv_tables import TableError

from .questions import read_columns


PATTERN = "*_*_*.csv"
# Wording of each kind of file, and its columns of findings and of answers. A region is the last part of `Anatomy`:
# "right lung" of "lung/lung/right lung".
KINDS = {
    "vqa_presence": ("Region: {region}. Does it show {finding}? Answer yes or no.", "Finding", "Presence"),
    "vqa_abnormality": ("Region: {region}. Which abnormalities does it show?", "Abnormality", "Abnormality"),
    "vqa_size": ("Region: {region}. What is the size of the {finding}?", "Abnormality", "Size"),
    "vqa_location": ("In which regions does this chest CT show {finding}?", "Abnormality", "Anatomy"),
    "case_disorders": ("Which disorders does this chest CT suggest?", "Disorders", "Disorders"),
}
NOTE = "The files of RadGenome-ChestCT hold no questions: their wording is this package's own."
_KIND = re.compile(rf"(?:train|validation)_({'|'.join(KINDS)})\.csv")


def is_of_questions(file: Path) -> bool:
    """Whether a file is one of questions, by its name. Others hold sentences of reports, and paths."""
    return bool(_KIND.fullmatch(file.name))


def questions_of(file: Path) -> pd.DataFrame:
    """
    The questions of a CSV file, with the columns `ASKED`.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the name of the file tells no kind of questions, or if the
            file cannot be read or lacks a column.
    """
    kind = _KIND.fullmatch(file.name)
    if not kind:
        raise TableError(
            f"{file}: its name tells no kind of questions. Keep the names of RadGenome-ChestCT: train_ or "
            f"validation_, and {', '.join(f'{known}.csv' for known in KINDS)}."
        )
    wording, finding, answer = KINDS[kind[1]]
    needed = ("Volumename", *(() if kind[1] == "case_disorders" else ("Anatomy",)), finding, answer)
    table = read_columns(file, dict.fromkeys(needed))
    if "Anatomy" in table:
        table["Anatomy"] = table["Anatomy"].str.split("/").str[-1].str.strip()
    regions = table["Anatomy"] if "Anatomy" in table else [None] * len(table)
    return pd.DataFrame(
        {
            "volume": table["Volumename"],
            "question": [
                wording.format(region=region, finding=found)
                for region, found in zip(regions, table[finding], strict=True)
            ],
            "answer": table[answer],
            "closed": kind[1] == "vqa_presence",
        }
    )
