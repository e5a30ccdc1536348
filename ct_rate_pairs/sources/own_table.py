"""
A reader's own table: one CSV, JSONL or Parquet file that names scans in its folder, their reports, and questions about
them. `docs/own_data.md` describes the columns.

Each fault of a row is a [`Problem`], which names row and column. So a dataset stops at the first one, and
`ct-rate-pairs check` lists all of them. No message quotes a path, a patient or a text of the table.
"""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import LONGEST_REPORT, is_missing, unread_language
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.texts import write_completion

from .ages import OLDEST, years_of
from .csv_tables import TableError
from .table_files import read_cells


TEXTS = ("report", "findings", "impression")
COLUMNS = ("scan", "patient", "split", *TEXTS, "question", "answer", "series", "age", "sex")
# Names that a column of metadata must not have: those of a dataset's rows, of what the tasks add to them, of the table
# of scans, and of prepared copies.
TAKEN = (
    *("volume", "images", "negative_images", "negative_volume", "label_distance", "prompt", "completion", "labels"),
    *("slice_mm", "question_number", "question_type", "answer_type", "label", "proof", "options", "correct"),
    *("statements", "wrong", "error", "path", "row", "rows", "questions", "_place", "_split"),
    *("row_group", "shape", "voxel_mm", "lungs", "masks", "mask_findings"),
)
_READ_OF_LONG = 1000  # letters of a text that is too long for a report, so that nothing takes long to refuse it
# What `datasets` takes for the name of each split.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_UNKNOWN = ("u", "unknown", "o", "other")  # sexes that are read as unknown
_IMPRESSION = re.compile(r"^[ \t]*(?:impressions?|conclusions?)[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE)
_FINDINGS = re.compile(r"\A\s*findings?[ \t]*:[ \t]*", re.IGNORECASE)


class Problem(NamedTuple):
    """What is wrong with a row of a table, and what to do."""

    row: int
    column: str
    told: str

    def __str__(self) -> str:
        return f"row {self.row}, column '{self.column}': {self.told}"


class OwnTable:
    """
    A reader's own table.

    Args:
        file (`Path`):
            A `.csv`, `.jsonl` or `.parquet` file. Paths in its column `scan` are relative to its folder.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the file cannot be read, lacks a column or has two columns
            of one name.
    """

    def __init__(self, file: Path):
        self.file, self.folder = file, file.parent.resolve()
        self.cells = read_cells(file)  # texts or None, by the number of the row
        self.has = set(self.cells.columns)
        self.differing: set[str] = set()  # metadata that rows of one scan differ in
        self._check_columns()

    @cached_property
    def metadata(self) -> tuple[str, ...]:
        """The columns that have no meaning here, and that the rows of the dataset hold as they are."""
        return tuple(column for column in self.cells.columns if column not in (*COLUMNS, *LABELS))

    @property
    def labels_from(self) -> str:
        """`"table"`, or `"rules"` if the rule labeler reads the labels from the reports."""
        return "table" if LABELS[0] in self.has else "rules"

    @property
    def report_column(self) -> str | None:
        """The first column of reports; `None` if the table has only questions."""
        return next((name for name in TEXTS if name in self.has), None)

    @property
    def has_questions(self) -> bool:
        """Whether the table has columns of questions and answers."""
        return "question" in self.has

    def doubts(self) -> list[str]:
        """What may be meant otherwise than it is read, in words."""
        told, _ = [], self.read
        if "patient" not in self.has:
            told.append(
                "it has no column 'patient', so each scan is taken for a patient of its own. If a patient has several "
                "scans, add the column: otherwise they may be each other's negatives, or stand in two splits."
            )
        if "split" not in self.has:
            told.append(
                "it has no column 'split', so all rows are in the split 'train', as with other files in `datasets`. "
                "`validation_size` holds out patients; a split 'test' needs the column."
            )
        if self.labels_from == "rules" and self.report_column:
            told.append(
                "it has no columns of labels, so the rule labeler, which makes errors, reads the 18 labels from the "
                "reports."
            )
        if self.labels_from == "rules" and not self.report_column:
            told.append(
                "it has neither labels nor reports, so the 18 labels are not known and are given as 0. A partner is "
                "then chosen by its answers alone."
            )
        for column in sorted(self.differing):
            told.append(f"rows of one scan differ in '{column}'. The metadata of a scan are those of its first row.")
        for column in self.metadata:
            if near := get_close_matches(column, [*COLUMNS, *LABELS], n=1, cutoff=0.8):
                told.append(f"its column '{column}' is taken for metadata: is '{near[0]}' meant?")
        return told

    @cached_property
    def read(self) -> tuple[pd.DataFrame, list[Problem]]:
        """
        The scans of the table, and what is wrong with its rows. [`~ct_rate_pairs.sources.own.OwnSource.scans`]
        describes the columns. Scans with a problem are among them, and `row` is the number of a scan's first row.
        """
        problems: list[Problem] = []
        places = self._places(problems)
        table = self.cells.assign(
            _place=places,
            _split=self._splits(problems),
            age=self._ages(problems),
            sex=self._sexes(problems),
            series=self._series(problems),
        )
        self._check_patients(table, problems)
        self._check_questions(problems)
        scans = self._scans(table, problems)
        scans = scans.assign(**self._labels(scans, problems))
        return scans, sorted(problems, key=lambda problem: problem.row)

    def _check_columns(self) -> None:
        twice = self.cells.columns[self.cells.columns.duplicated()]
        labels = [label for label in LABELS if label in self.has]
        if len(twice):
            self._refuse(f"two columns are called '{twice[0]}'. Rename or remove one of them")
        if "scan" not in self.has:
            near = get_close_matches("scan", self.has, n=1)
            self._refuse(
                "it has no column 'scan', which holds the path of each scan, relative to the table"
                + (f" (is '{near[0]}' meant?)" if near else "")
            )
        if ("question" in self.has) != ("answer" in self.has):
            self._refuse("a column 'question' needs a column 'answer', and the other way round")
        if not self.has & {*TEXTS, "question"}:
            self._refuse("it has neither a column of reports ('report', 'findings' or 'impression') nor questions")
        if "report" in self.has and self.has & {"findings", "impression"}:
            self._refuse("it has a column 'report' beside 'findings' or 'impression'. Keep the one or the others")
        if 0 < len(labels) < len(LABELS):
            missing = next(label for label in LABELS if label not in self.has)
            self._refuse(
                f"it has {len(labels)} of the {len(LABELS)} columns of labels, and no '{missing}'. Give all of them, "
                "or none, and the labels are then read from the reports"
            )
        if taken := [column for column in self.metadata if column in TAKEN]:
            self._refuse(f"the rows of the dataset have a column '{taken[0]}' of their own. Rename that of the table")

    def _refuse(self, what: str) -> None:
        header = ", ".join(map(str, self.cells.columns[:20]))
        raise TableError(f"{self.file}: {what}. (Its columns: {header}.)")

    def _column(self, name: str) -> Iterator[tuple[int, str | None]]:
        """Row number and cell of each row; no cell where the table lacks the column."""
        return zip(self.cells.index, self.cells[name] if name in self.has else [None] * len(self.cells), strict=True)

    def _places(self, problems: list[Problem]) -> list[str | None]:
        """The path of each scan relative to the folder of the table; `None` where it is wrong."""
        found = {cell: place_in(self.folder, cell) for cell in set(self.cells["scan"])}
        places = [found[cell] for cell in self.cells["scan"]]
        problems += [
            Problem(row, "scan", wrong) for row, (_, wrong) in zip(self.cells.index, places, strict=True) if wrong
        ]
        return [place for place, _ in places]

    def _splits(self, problems: list[Problem]) -> list[str]:
        splits = []
        for row, cell in self._column("split"):
            split = _SPLIT_OF.get((cell or "").lower()) if "split" in self.has else "train"
            if split is None:
                problems.append(Problem(row, "split", "it is not train, validation or test. Write one of these"))
            splits.append(split or "train")
        return splits

    def _ages(self, problems: list[Problem]) -> pd.arrays.IntegerArray:
        ages = []
        for row, cell in self._column("age"):
            found = re.fullmatch(r"(\d{1,3})(?:\.0)?", cell or "")  # 36.0, as pandas writes it
            age = int(found[1]) if found else years_of((cell or "").upper())
            if cell and (age is None or age > OLDEST):
                told = f"no age in whole years, 0 to {OLDEST}, nor as in DICOM (036Y). Correct or empty it"
                problems.append(Problem(row, "age", told))
                age = None
            ages.append(age)
        return pd.array(ages, dtype="Int16")

    def _sexes(self, problems: list[Problem]) -> list[str | None]:
        sexes = []
        for row, cell in self._column("sex"):
            if cell and cell.lower() not in (*_SEXES, *_UNKNOWN):
                problems.append(Problem(row, "sex", "it is not M or F. Write one of these, or nothing if not known"))
            sexes.append(_SEXES.get((cell or "").lower()))
        return sexes

    def _series(self, problems: list[Problem]) -> pd.arrays.IntegerArray:
        numbers = []
        for row, cell in self._column("series"):
            found = re.fullmatch(r"([1-9]\d{0,5})(?:\.0)?", cell or "")
            if cell and not found:
                problems.append(Problem(row, "series", "no number of a DICOM series, which begins at 1. Correct it"))
            numbers.append(int(found[1]) if found else None)
        return pd.array(numbers, dtype="Int32")

    def _check_patients(self, table: pd.DataFrame, problems: list[Problem]) -> None:
        """Finds rows without a patient, and patients who stand in two splits."""
        first: dict[str, tuple[int, str]] = {}
        if "patient" not in self.has:
            return
        for row, patient, split in zip(table.index, table["patient"], table["_split"], strict=True):
            if patient is None:
                told = "it is empty. Name the patient, by any name that stands for one patient alone"
                problems.append(Problem(row, "patient", told))
                continue
            of_first, split_of_first = first.setdefault(patient, (row, split))
            if split != split_of_first:
                told = f"the patient of row {of_first}, in '{split_of_first}', stands in '{split}' here. Choose one"
                problems.append(Problem(row, "split", told))

    def _check_questions(self, problems: list[Problem]) -> None:
        asked: dict[tuple, int] = {}
        if not self.has_questions:
            return
        columns = (dict(self._column(name)) for name in ("scan", "series", "question", "answer"))
        scan, series, questions, answers = columns
        for row, question in questions.items():
            for column, text in (("question", question), ("answer", answers[row])):
                if text and len(text) > LONGEST_REPORT:
                    told = f"it has {len(text):,} letters, and up to {LONGEST_REPORT:,} are read. Shorten it"
                    problems.append(Problem(row, column, told))
            if (question is None) != (answers[row] is None):
                empty, other = ("question", "answer") if question is None else ("answer", "question")
                problems.append(Problem(row, empty, f"it is empty, and the {other} is not. Complete or empty both"))
            elif question is not None and (before := asked.setdefault((scan[row], series[row], question), row)) != row:
                problems.append(Problem(row, "question", f"row {before} asks the same of the same scan. Keep one"))

    def _scans(self, table: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame:
        """One row per scan. With questions, a scan may have several rows, which must say the same of it."""
        keys = [
            (place or ("row", row), None if pd.isna(series) else int(series))
            for row, place, series in zip(table.index, table["_place"], table["series"], strict=True)
        ]
        groups: dict[tuple, list[int]] = {}
        for position, key in enumerate(keys):
            groups.setdefault(key, []).append(position)
        patients: dict[object, int] = {}
        taken: dict[int, int] = {}
        rows, names = [], []
        # Where patients are named, each has one split already.
        by_row = ("patient",) if "patient" in self.has else ("split",)
        same = [column for column in (*by_row, *TEXTS, "age", "sex", *LABELS) if column in self.has]
        records = table.to_dict("records")
        numbers = table.index.tolist()
        for (place, series), positions in groups.items():
            of_scan = [records[position] for position in positions]
            first, row = dict(of_scan[0]), numbers[positions[0]]
            for position, record in zip(positions[1:], of_scan[1:], strict=True):
                if not self.has_questions:
                    told = f"it is the scan of row {row}, and a scan has one row. Remove one of the two"
                    problems.append(Problem(numbers[position], "scan", told))
                    continue
                for column in same:
                    value = None if pd.isna(record[column]) else record[column]
                    if value is not None and pd.isna(first[column]):
                        first[column] = value
                    elif value is not None and value != first[column]:
                        told = f"row {row} says something else of the same scan. Correct one of the two, or empty it"
                        problems.append(Problem(numbers[position], column, told))
                self.differing |= {column for column in self.metadata if record[column] != first[column]}
            patient = first.get("patient") if "patient" in self.has else None
            number = patients.setdefault(patient if patient is not None else ("of row", row), len(patients) + 1)
            taken[number] = taken.get(number, 0) + 1
            names.append(neutral_name(number, taken[number]))
            findings, impression = _sections(first)
            if (letters := len(findings or "") + len(impression or "")) > LONGEST_REPORT:
                told = f"{letters:,} letters are no report: up to {LONGEST_REPORT:,} are read. Shorten the text"
                problems.append(Problem(row, self.report_column, told))
                findings, impression = (text and text[:_READ_OF_LONG] for text in (findings, impression))
            rows.append(
                {
                    "path": place if isinstance(place, str) else None,
                    "row": row,
                    "rows": [numbers[position] for position in positions],
                    "series": series,
                    "split": first["_split"],
                    "patient": f"patient_{number}",
                    "findings": findings,
                    "impression": impression,
                    "age": first["age"],
                    "sex": first["sex"],
                    "questions": [
                        (record["question"], record["answer"])
                        for record in (of_scan if self.has_questions else [])
                        if record["question"] and record["answer"]
                    ],
                    **{column: None if pd.isna(first[column]) else first[column] for column in self.metadata},
                    **{label: first[label] for label in LABELS if label in self.has},
                }
            )
        scans = pd.DataFrame(rows, index=pd.Index(names, name="volume"), dtype=object)
        return scans.astype({"row": int, "age": "Int16"})

    def _labels(self, scans: pd.DataFrame, problems: list[Problem]) -> dict[str, np.ndarray]:
        """The 18 labels of each scan, from the table or from the reports."""
        labels = np.zeros((len(scans), len(LABELS)), np.int8)
        if self.labels_from == "table":
            for place, column in enumerate(LABELS):
                values = scans[column].map({"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1})
                for row in scans["row"][values.isna()]:
                    problems.append(Problem(row, column, "a label is 0 or 1. Correct it"))
                labels[:, place] = values.fillna(0)
        else:
            texts = [write_completion(*both) for both in zip(scans["findings"], scans["impression"], strict=True)]
            languages = {text: unread_language(text) for text in set(texts) - {""}}
            for place, (row, text) in enumerate(zip(scans["row"], texts, strict=True)):
                if languages.get(text):
                    told = f"the report seems to be in {languages[text]}, and labels are read from reports in English "
                    told += "or Chinese only. Translate it, or give the 18 labels of each scan as columns"
                    problems.append(Problem(row, self.report_column, told))
                elif text:
                    labels[place] = label_report(text)
        return {label: labels[:, place] for place, label in enumerate(LABELS)}


def neutral_name(patient: int, scan: int) -> str:
    """The name of a patient's `scan`-th scan, in the form of CT-RATE's: `patient_3_b_1.nii.gz`."""
    letters = ""
    while scan:
        scan, letter = divmod(scan - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"patient_{patient}_{letters}_1.nii.gz"


def place_in(folder: Path, cell: str | None) -> tuple[str | None, str]:
    """The path of a scan relative to the folder, and what is wrong with it."""
    if cell is None:
        return None, "it is empty. Give the path of the scan, relative to the table"
    if cell.startswith(("/", "~")) or re.match(r"[A-Za-z]:|\\\\", cell):
        return None, "the path does not begin at the table. Give it relative to the folder of the table"
    path = os.path.join(folder, cell)
    if "\0" in cell or not os.path.lexists(path):
        windows = " (folders are separated by /, and not by \\)" if "\\" in cell else ""
        return None, f"there is no such file or folder{windows}. Correct it"
    real = Path(os.path.realpath(path))
    if folder not in real.parents:
        return None, "the path leads out of the table's folder, by .. or by a link. Copy the scan into the folder"
    if not real.exists():
        return None, "it is a link that leads nowhere. Copy the scan into the folder of the table"
    return PurePosixPath(real.relative_to(folder)).as_posix(), ""


def _sections(row: dict) -> tuple[str | None, str | None]:
    """Findings and impression. A report is divided where a line begins with `Impression:`."""
    report = row.get("report")
    if report is None or pd.isna(report):
        return row.get("findings"), row.get("impression")
    parts = _IMPRESSION.split(_FINDINGS.sub("", report), maxsplit=1)
    findings, impression = (*(part.strip() for part in parts), "")[:2]
    return findings or None, impression or None


def is_empty(findings: str | None, impression: str | None) -> bool:
    """Whether a report says nothing."""
    return is_missing(findings) and is_missing(impression)
