"""A reader's own table, with faults, as a dataset reads it."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers.own_scans import REPORTS

from ct_rate_pairs import LABELS
from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.sources.csv_tables import TableError

from .harness import Kind, mutated
from .tables import CELLS


_COLUMNS = ("scan", "patient", "split", "report", "question", "answer", "age", "sex", "series", "note")


def _rows(rng: np.random.Generator) -> list[dict]:
    """Rows of a sound table, with some other cells."""
    rows = []
    for number in range(6):
        row = {"scan": f"{number}.nii.gz", "patient": f"P{number // 2}", "split": "test" if number > 3 else "train"}
        row |= {"report": REPORTS[number], "question": f"What is {number}?", "answer": "Yes", "age": "63", "sex": "F"}
        rows.append(row | {"series": "", "note": "DOE^JANE"} | dict.fromkeys(LABELS, str(number % 2)))
    for _ in range(rng.integers(3)):
        cell = CELLS[rng.integers(len(CELLS))]
        rows[rng.integers(len(rows))][_COLUMNS[rng.integers(len(_COLUMNS))]] = cell
    dropped = {_COLUMNS[rng.integers(len(_COLUMNS))]} if rng.integers(2) else set()
    return [{name: cell for name, cell in row.items() if name not in dropped} for row in rows]


def _make(rng: np.random.Generator, folder: Path) -> None:
    for number in range(6):
        (folder / f"{number}.nii.gz").touch()
    rows = _rows(rng)
    match rng.integers(3):
        case 0:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            name, data = "t.csv", text.getvalue().encode("utf-8", "surrogatepass")
        case 1:
            name, data = "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()
        case _:
            written = io.BytesIO()
            clean = [{key: cell.encode("utf-8", "replace").decode() for key, cell in row.items()} for row in rows]
            pq.write_table(pa.Table.from_pylist(clean), written, write_page_checksum=True)
            name, data = "t.parquet", written.getvalue()
    (folder / name).write_bytes(mutated(rng, data) if rng.integers(2) else data)


class _Refused(Exception):
    """The product refuses the table, and the message names it."""


def _use(folder: Path) -> None:
    """As a dataset does: read the table, and write the texts of the rows of each task."""
    try:
        source = open_source(folder)
        for task in ("report", "own_questions"):
            for on_error in ("skip", "raise"):
                options = {"task": task, "validation_size": 0.3, "on_error": on_error}
                reader = RowReader(CTRatePairsConfig(data_dir=str(folder), **options), source)
                for split, table in reader.tables.items():
                    for name, number in reader.lines(split):
                        reader.texts(split, table.index.get_loc(name), number)
    except TableError as error:
        assert str(folder) in str(error), "the message names no file"
        raise _Refused(str(error).replace(str(folder), "")) from None


KINDS = {"own tables": Kind(_make, _use, (_Refused,), ("DOE^JANE",))}
