"""
The questions of 3D-RAD about volumes of CT-RATE.

Source: Gai et al., "3D-RAD: A Comprehensive 3D Radiology Med-VQA Dataset with Multi-Temporal Analysis and Diverse
Diagnostic Tasks", NeurIPS 2025; the CSV files of https://github.com/Tang-xiaoxiao/3D-RAD, whose columns are `Task`,
`Subtask`, `VolumeName`, `Question`, `Answer`, `QuestionType`, `AnswerChoice` and `Choice A` to `Choice D`.
"""

from pathlib import Path

import pandas as pd

from .questions import read_columns


PATTERN = "*.csv"
CHOICES = ("Choice A", "Choice B", "Choice C", "Choice D")
NOTE = (
    "3D-RAD calls its held-out volumes test_1_a_1.nii.gz and so on. They are taken for the volumes valid_1_a_1.nii.gz "
    "of CT-RATE's validation set."
)


def questions_of(file: Path) -> pd.DataFrame:
    """
    The questions of a CSV file, with the columns `ASKED`. Choices other than yes and no stand at the end of a
    question.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the file cannot be read or lacks a column.
    """
    table = read_columns(file, ("VolumeName", "Question", "Answer"), ("QuestionType", *CHOICES))
    offered = table[list(CHOICES)].replace("-", None).to_numpy(object)  # [N, 4]
    return pd.DataFrame(
        {
            "volume": table["VolumeName"].str.replace(r"^test_", "valid_", regex=True),
            "question": [_with(*row) for row in zip(table["Question"], offered, strict=True)],
            "answer": table["Answer"],
            "closed": table["QuestionType"].str.lower() == "close",
        }
    )


def _with(question: str | None, offered: list[str | None]) -> str | None:
    """A question with its choices."""
    choices = [choice for choice in offered if choice is not None]
    if question is None or {choice.lower() for choice in choices} <= {"yes", "no"}:
        return question
    return f"{question}\nAnswer with one of: {'; '.join(choices)}."
