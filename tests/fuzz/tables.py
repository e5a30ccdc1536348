"""The tables of a copy of CT-RATE, with faults, as a dataset reads them."""

import csv
import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from helpers.phantom_reports import cohort
from helpers.tree import write_tree

from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.tasks import TASKS
from ct_rate_pairs.volumes.slicing import VolumeError

from .harness import Kind, mutated


_FOLDERS = ("train_fixed", "valid_fixed", "train", "valid")
CELLS = (
    "", "nan", "NaN", "None", "-1", "2", "0.5", "1e999", "-0", "9" * 400, "²", "٣", "1,5", "[", "[1, 2]", "[nan, 1]",
    "[1, 0, 0, 0, 1, 0]", "[1, 1, 1, 1, 1, 1]", "(" * 300, "-" * 5000 + "1", "[" * 100 + "]" * 100, "1if 1else 2",
    "1_0", "0x1", "b'1'", "'1'", "{1: 2}", "True", "1j", "036Y", "999Y", "-01Y", "01W", "Y", "FRED", "male", " f ",
    "\x1b[31m", "\ud7ff", "\u202e", "a" * 70_000, "=1+1", "../../x", "train_1_a_1.nii.gz", "train_1_a_1",
    "train_٣_a_1.nii.gz", "train_1_a_99999999999999999999.nii.gz", "train_1_a_1.nii.gz\n", "TRAIN_1_A_1.nii.gz",
)  # fmt: skip


@cache
def _seed() -> dict[str, bytes]:
    """The tables of a sound copy, with the reports of a phantom, by their path."""
    with TemporaryDirectory() as folder:
        root = write_tree(Path(folder), scans=4, shape=(2, 2, 2))
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("dataset/*/*.*")}
    reports = iter(cohort(8).reports)
    for path in [path for path in files if path.endswith("_reports.csv")]:
        header, *rows = csv.reader(io.StringIO(files[path].decode()))
        for row in rows:
            row[header.index("Findings_EN")] = next(reports)
        files[path] = _written([header, *rows])
    return files


def _written(rows: list[list[str]], **form) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **form).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _other_cells(rng: np.random.Generator, data: bytes) -> bytes:
    """The table with other cells, rows or columns, or in the form of another program."""
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", "replace"))))
    if not rows or not rows[0]:
        return mutated(rng, data)
    for _ in range(rng.integers(1, 4)):
        row, column, way = rng.integers(len(rows)), rng.integers(max(len(rows[0]), 1)), rng.integers(8)
        match way:
            case 0:
                rows.append(list(rows[row]))
            case 1 if len(rows) > 1:
                rows.pop(row)
            case 2:
                rows = [[cell for place, cell in enumerate(line) if place != column] or [""] for line in rows]
            case 3:
                rows = [[*line, line[column % len(line)] if line else ""] for line in rows]
            case _ if column < len(rows[row]):
                rows[row][column] = CELLS[rng.integers(len(CELLS))]
    forms = ({}, {}, {}, {"delimiter": ";"}, {"delimiter": "\t"}, {"quotechar": "'"}, {"quoting": csv.QUOTE_ALL})
    data = _written(rows, **forms[rng.integers(len(forms))])
    encoding = ("", "", "", "", "utf-16", "latin-1", "utf-8-sig")[rng.integers(7)]
    return data.decode("utf-8", "replace").encode(encoding, "replace") if encoding else data


def _make(rng: np.random.Generator, folder: Path) -> None:
    files = dict(_seed())
    for _ in range(rng.integers(1, 3)):
        path = sorted(files)[rng.integers(len(files))]
        is_text = path.endswith(".csv") and rng.integers(3)
        files[path] = _other_cells(rng, files[path]) if is_text else mutated(rng, files[path])
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    for tree in _FOLDERS:
        for patient in range(1, 5):
            name = f"{tree.split('_')[0]}_{patient}"
            place = folder / "dataset" / tree / name / f"{name}_a"
            place.mkdir(parents=True)
            (place / f"{name}_a_1.nii.gz").touch()


class _Refused(Exception):
    """The product refuses the tables, and the message names a file."""


def _use(folder: Path) -> None:
    """As a dataset does: join the tables, and write the texts of the rows of each task."""
    try:
        for files in ("fixed", "original"):
            source = open_source(folder, files=files)
            for task in (name for name in TASKS if TASKS[name].of_reports):
                options = {"task": task, "files": files, "validation_size": 0.3, "on_error": "skip"}
                reader = RowReader(CTRatePairsConfig(data_dir=str(folder), **options), source)
                for split, table in reader.tables.items():
                    for name, number in reader.lines(split):
                        reader.texts(split, table.index.get_loc(name), number)
    except TableError as error:
        assert str(folder) in str(error), "the message names no file"
        raise _Refused from None


KINDS = {"tables": Kind(_make, _use, (_Refused, VolumeError))}
