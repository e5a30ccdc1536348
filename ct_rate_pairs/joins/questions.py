"""The questions of a data set, as they are joined to scans."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.tasks.own_questions import question_type


# The columns of questions: the name of the volume, the texts, and whether the question offers its answers.
ASKED = ("volume", "question", "answer", "closed")


class Joined(NamedTuple):
    """
    Questions, one row each.

    Args:
        asked (`pd.DataFrame`):
            Columns `ASKED`. No question comes twice for a volume.
        incomplete (`int`):
            Rows left out because they lack the volume, the question or the answer.
        repeated (`int`):
            Rows left out because another row asks the same and has the same answer.
        contradicting (`int`):
            Questions left out because their rows choose different answers.
    """

    asked: pd.DataFrame
    incomplete: int = 0
    repeated: int = 0
    contradicting: int = 0


def find_files(given: Sequence[Path], pattern: str) -> list[Path]:
    """
    The CSV files among files and folders, sorted.

    Args:
        given (`Sequence[Path]`):
            Files, which are taken whatever they are called, and folders.
        pattern (`str`):
            Which files of a folder and its subfolders are taken, such as `"*_vqa_*.csv"`.

    Raises:
        `FileNotFoundError`: if there is no such file or folder, or if a folder has no such file.
    """
    files = []
    for path in given:
        if not path.exists():
            raise FileNotFoundError(no_such("file or folder", path))
        found = sorted(path.rglob(pattern)) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path} holds no file {pattern}. Give the folder of the data set's CSV files.")
        files += found
    return list(dict.fromkeys(files))


def read_columns(file: Path, needed: Iterable[str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """
    Columns of a CSV file as texts, without white space at either end. An empty cell is `None`, and so is each needed
    cell of a row that lacks another one. An optional column that does not exist is empty.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the file cannot be read or lacks a column.
    """
    needed, columns = list(needed), [*needed, *optional]
    try:
        table = pd.read_csv(file, dtype=str, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # of pandas, too
        told = str(error).strip().rstrip(".")
        raise TableError(f"{file} is not a readable CSV: {told}. Download it again.") from error
    if missing := [column for column in needed if column not in table]:
        has = ", ".join(map(str, table.columns[:20]))
        raise TableError(
            f"{file} has no column '{missing[0]}' (it has: {has}). Give a file of the data set as it was published."
        )
    table = table.reindex(columns=columns).astype(object).apply(lambda cells: cells.str.strip().replace("", None))
    table = table.where(table.notna(), None)
    table.loc[table[needed].isna().any(axis=1), needed] = None
    return table


def one_answer_each(asked: pd.DataFrame) -> Joined:
    """
    The questions with one answer each. Rows that ask a volume the same and answer it otherwise become one answer, in
    the order of the rows, with commas between. If the question offers its answers, or one of them is yes or no, the
    rows contradict each other, and the question is left out.

    Args:
        asked (`pd.DataFrame`):
            Columns `ASKED`, of which the texts may be `None`.
    """
    whole = asked.dropna(subset=["volume", "question", "answer"])
    once = whole.drop_duplicates(["volume", "question", "answer"])
    left_out = {"incomplete": len(asked) - len(whole), "repeated": len(whole) - len(once)}
    several = once.duplicated(["volume", "question"], keep=False)
    if not several.any():
        return Joined(once.reset_index(drop=True), **left_out)
    answers = once[several].assign(closed=once["closed"] | (once["answer"].map(question_type) == "closed"))
    answers = answers.groupby(["volume", "question"], sort=False, as_index=False).agg(
        answer=("answer", ", ".join), closed=("closed", "any")
    )
    open_ones = answers[~answers["closed"]]
    kept = pd.concat([once[~several], open_ones], ignore_index=True)
    return Joined(kept, **left_out, contradicting=len(answers) - len(open_ones))


def read_questions(files: Sequence[Path], questions_of: Callable[[Path], pd.DataFrame]) -> Joined:
    """The questions of several files. `questions_of` reads one file, to the columns `ASKED`."""
    return one_answer_each(pd.concat([questions_of(file) for file in files], ignore_index=True))
