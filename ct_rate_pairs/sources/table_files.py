"""
Reads the file of a reader's own table, CSV, JSONL or Parquet, as cells of text.
[`~ct_rate_pairs.sources.own_table.OwnTable`] knows what the columns mean.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ct_rate_pairs.json_files import JSONFileError, parse_json
from ct_rate_pairs.reports.labels import LABELS

from .csv_tables import TableError


FORMATS = (".csv", ".jsonl", ".parquet")
_AS_CSV = "Save it as CSV in UTF-8 with commas, as JSONL, or as Parquet; from a spreadsheet, as CSV in UTF-8."


def find_table(folder: Path) -> Path | None:
    """
    The table of a folder; `None` if there is none.

    Raises:
        `ValueError`: if there are several.
    """
    tables = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.is_file()
    )
    if len(tables) > 1:
        listed = ", ".join(path.name for path in tables[:10])
        raise ValueError(
            f"{folder} holds {len(tables)} tables ({listed}). Give one of them, as table={str(tables[0])!r}."
        )
    return tables[0] if tables else None


def read_cells(file: Path) -> pd.DataFrame:
    """
    Reads a table.

    Args:
        file (`Path`):
            A `.csv`, `.jsonl` or `.parquet` file.

    Returns:
        `pd.DataFrame`: the cells, texts or `None`, by the number of the row: as spreadsheets count, or the line of
        JSONL. The names of the columns are in lower case with underscores, and those of labels as CT-RATE writes them.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the file cannot be read or has no row.
    """
    return _with_plain_names(_read(file), file)


def _read(file: Path) -> pd.DataFrame:
    try:
        match file.suffix.lower():
            case ".csv":
                return _read_csv(file)
            case ".jsonl":
                return _read_jsonl(file)
            case ".parquet":
                table = pq.read_table(file, page_checksum_verification=True)
                rows = table.to_pylist()
                columns = table.column_names
                return _framed(file, columns, [(number, row) for number, row in enumerate(rows, start=1)])
    except TableError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise TableError(f"{file} cannot be read: {str(error).strip().rstrip('.')}. {_AS_CSV}") from error
    raise TableError(f"{file} is no table that is read here. {_AS_CSV}")


def _read_csv(file: Path) -> pd.DataFrame:
    options = {"dtype": str, "keep_default_na": False, "na_values": [""], "skip_blank_lines": False}
    cells = pd.read_csv(file, header=None, encoding="utf-8-sig", **options)  # a longer row than the first is an error
    header = cells.iloc[0]
    if len(header) == 1 and re.search("[;\t]", str(header[0])):
        raise TableError(f"{file}: its columns are not separated by commas. {_AS_CSV}")
    if unnamed := [place for place, name in enumerate(header) if pd.isna(name) and cells[place].notna().any()]:
        raise TableError(f"{file}: column {unnamed[0] + 1} has no name. Name or remove it.")
    kept = [place for place, name in enumerate(header) if pd.notna(name)]
    rows = cells[kept].iloc[1:].astype(object)
    rows.columns = header[kept].tolist()
    rows.index = range(2, len(cells) + 1)
    rows = rows.map(lambda cell: None if pd.isna(cell) else str(cell).strip() or None)
    return rows.dropna(how="all")


def _read_jsonl(file: Path) -> pd.DataFrame:
    rows, columns = [], {}
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(line, f"{file}, row {number}")
            except JSONFileError as error:
                raise TableError(str(error)) from error
            if not isinstance(row, dict):
                raise TableError(f"{file}, row {number}: it is no JSON object. Write one object per line.")
            columns |= dict.fromkeys(row)
            rows.append((number, row))
    return _framed(file, list(columns), rows)


def _framed(file: Path, columns: list[str], rows: list[tuple[int, dict]]) -> pd.DataFrame:
    """A table of texts from values of JSON or Parquet."""
    cells = [[_text(file, number, name, row.get(name)) for name in columns] for number, row in rows]
    return pd.DataFrame(cells, index=[number for number, _ in rows], columns=columns, dtype=object)


def _text(file: Path, row: int, column: str, value: object) -> str | None:
    """A value as it would stand in a CSV file."""
    if isinstance(value, list | dict | bytes):
        raise TableError(
            f"{file}, row {row}, column '{column}': a {type(value).__name__}, but a cell holds a text or a number. "
            "Give one value per column."
        )
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _with_plain_names(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table with the names of its columns in lower case with underscores, and labels as CT-RATE writes them."""
    if not len(table):
        raise TableError(f"{file} has no row. Write one row per scan below the names of the columns.")
    labels = {_plain(label): label for label in LABELS}
    table = table.astype(object).where(table.notna(), None)  # pandas makes NaN of a column without a value
    return table.set_axis([labels.get(_plain(name), _plain(name)) for name in table.columns], axis="columns")


def _plain(name: object) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())
