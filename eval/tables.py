"""Tables as Markdown and CSV, and their cells."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path


def format_markdown(lines: list[list[str]]) -> str:
    """A table as Markdown."""
    rows = [lines[0], ["---"] + ["---:"] * (len(lines[0]) - 1), *lines[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_markdown(lines: list[list[str]], path: str | Path) -> None:
    """Writes a table as Markdown."""
    Path(path).write_text(format_markdown(lines))


def write_csv(lines: list[list[str]], path: str | Path) -> None:
    """Writes a table as CSV."""
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(lines)


def format_number(numbers: Mapping, key: str) -> str:
    """`0.500 [0.400, 0.600]`: a number and, where it has one, its interval."""
    if numbers[key] is None:
        return "-"
    bounds = numbers.get(f"{key}_ci")
    return f"{numbers[key]:.3f}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "")


def write_table(results: Mapping[str, Mapping], lines: list[list[str]], out: Path) -> None:
    """Writes `results.json` and `table.md`, and prints the table."""
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    write_markdown(lines, out / "table.md")
    print("", (out / "table.md").read_text(), f"written to {out}", sep="\n")
