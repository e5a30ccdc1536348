"""Masks that a table names: those of the phantom, and those of a reader's own."""

import re
from difflib import get_close_matches
from pathlib import Path

from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.sources.own_table import place_in
from ct_rate_pairs.sources.table_files import read_cells

from .mask import Mask


TABLE = "masks.csv"  # in the folder of the masks
COLUMNS = ("volume", "file", "value", "finding", "sentence")
_MOST_VALUE = 2**31  # of a voxel


def read_table(file: Path) -> dict[str, list[Mask]]:
    """
    Reads a table with a row for each mask.

    Args:
        file (`Path`):
            A `.csv`, `.jsonl` or `.parquet` file with the columns `volume` and `file` (relative to the table), and
            if need be `value` (of the finding's voxels; by default, all voxels that are not 0), `finding` and
            `sentence`. A volume without any finding has one row, without a `file`.

    Returns:
        `dict[str, list[Mask]]`: the masks of each volume.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if the table cannot be read, lacks a column, or names a file
            that is not there. The message quotes no cell.
    """
    cells = read_cells(file)
    for column in ("volume", "file"):
        if column not in cells:
            near = get_close_matches(column, cells.columns, n=1)
            raise TableError(f"{file}: it has no column '{column}'" + (f" (is '{near[0]}' meant?)." if near else "."))
    folder = file.parent.resolve()
    masks: dict[str, list[Mask]] = {}
    for row, cell in zip(cells.index, cells.to_dict("records"), strict=True):
        place = f"{file.name}, row {row}"
        if not cell["volume"]:
            raise TableError(f"{file}, row {row}, column 'volume': it is empty. Name the volume.")
        of_volume = masks.setdefault(cell["volume"], [])
        if cell["file"]:
            inside, wrong = place_in(folder, cell["file"])
            if wrong:
                raise TableError(f"{file}, row {row}, column 'file': {wrong}.")
            value = _value(cell.get("value"), f"{file}, row {row}")
            finding = cell.get("finding") or ""
            of_volume.append(Mask(finding, folder / inside, place, value, sentence=cell.get("sentence") or ""))
        elif cell.get("value") or cell.get("finding"):
            raise TableError(
                f"{file}, row {row}, column 'file': it is empty. Name the file of the mask. (A volume without any "
                "finding has a row of its name alone.)"
            )
    return masks


def _value(cell: str | None, place: str) -> int | None:
    if cell is None:
        return None
    found = re.fullmatch(r"(\d{1,10})(?:\.0)?", cell)
    if not found or not 0 < int(found[1]) < _MOST_VALUE:
        raise TableError(f"{place}, column 'value': it is no whole number above 0, as the voxels of a mask have.")
    return int(found[1])
