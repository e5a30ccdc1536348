"""The names that a reader gives to the scans of a batch."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def read_names(file: Path, scans: Sequence[Path]) -> dict[Path, str]:
    """
    Reads which name each scan of a batch has in its report.

    Args:
        file (`Path`):
            A CSV file with the columns `path` and `name`. A path that is not absolute is relative to the folder of the
            file.
        scans (`Sequence[Path]`):
            The scans.

    Returns:
        `dict[Path, str]`: the name of each scan.

    Raises:
        `ValueError`: if a column or the name of a scan is missing, if a name is used twice or cannot be that of a
            folder, or if a row is of no scan. The message names the row, and no path.
    """
    names: dict[Path, str] = {}
    rows = _read_rows(file)
    wanted = {scan.resolve(): scan for scan in scans}
    for number, (path, name) in enumerate(rows, start=2):
        if not NAME.fullmatch(name):
            raise ValueError(
                f"--names, row {number}: a name has 1 to 64 letters of A to Z, digits, points, hyphens and "
                "underscores, and begins with a letter or a digit: it becomes the name of a folder."
            )
        scan = wanted.get((file.parent / path).resolve())
        if scan is None:
            raise ValueError(
                f"--names, row {number}: its path is none of the {len(scans)} scans. Paths that are not absolute are "
                "relative to the folder of the file."
            )
        if scan in names or name.lower() in (used.lower() for used in names.values()):
            raise ValueError(f"--names, row {number}: the path or the name occurs twice.")
        names[scan] = name
    if lacking := [number for number, scan in enumerate(scans, start=1) if scan not in names]:
        raise ValueError(
            f"--names names {len(names)} of {len(scans)} scans. It lacks, in the order of their paths, number "
            f"{lacking[0]}: add a row for each."
        )
    return names


def _read_rows(file: Path) -> list[tuple[str, str]]:
    """Path and name of each row."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"--names: the file is no CSV in UTF-8 ({type(error).__name__}): write it again.") from None
    if not rows or not {"path", "name"} <= set(rows[0]):
        raise ValueError("--names: the file needs the columns path and name in its first row, and a row per scan.")
    return [((row["path"] or "").strip(), (row["name"] or "").strip()) for row in rows]
