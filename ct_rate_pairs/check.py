"""The command `ct-rate-pairs check TABLE`, which finds what is wrong with a table of a reader's own scans."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ct_rate_pairs.volumes.settings import VolumeSettings, volume_options

from .command_line import CommandParser, add_options, run
from .config import CTRatePairsConfig
from .number_ranges import COUNT


FEW = 5  # scans with a label in a split: with fewer, nothing is learnt or measured of the label
_MOST_SHOWN = 50  # problems or notes in words; the JSON has all


class Reading(NamedTuple):
    """What came of reading a scan."""

    problem: str | None  # why it cannot be read
    warnings: list[str]  # of its reader


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns 1 if anything is wrong."""
    parser = CommandParser(
        "ct-rate-pairs check",
        description="Find what is wrong with a table of your own scans before you start a training: files that are\n"
        "missing or lie elsewhere, headers that cannot be read, geometry that is refused, reports that are empty or\n"
        "in another language, a scan twice, a patient in two splits, and scans without a possible negative. The\n"
        "columns of such a table are described in docs/own_data.md.\n\n"
        "The headers of all scans are read, and no voxel. With --whole, each scan is read as a training reads it.\n"
        "That also finds files that are cut and values that are not HU, and takes as long as an epoch.\n\n"
        "The exit code is 1 if anything is wrong, and 0 otherwise. Notes are not errors.",
        epilog="examples:\n  ct-rate-pairs check cohort.csv\n"
        "  ct-rate-pairs check DIR --whole --workers 16 --output_file problems.json",
    )
    add = parser.add_argument
    add("table", metavar="TABLE", help="table of your own scans, or the folder that holds it")
    add("--whole", action="store_true", help="read the voxels, too")
    add("--json", action="store_true", help="print the results as JSON")
    add("--output_file", type=Path, metavar="FILE", help="also write the results to this file, as JSON")
    add("--workers", type=int, range=COUNT, metavar="W", help="scans read at a time (default: one per core)")
    add_options(parser, VolumeSettings)
    args = vars(parser.parse_args(argv))
    settings = volume_options(args)

    from .sources import open_source
    from .whole_files import write_whole

    source = open_source(args["table"], **settings)
    if not source.is_own:
        parser.error(f"{args['table']} is no table of your own, and holds none: give a .csv, .jsonl or .parquet file.")
    results = check_table(source, args["whole"], args["workers"])
    content = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    if args["output_file"]:
        args["output_file"].parent.mkdir(parents=True, exist_ok=True)
        write_whole(args["output_file"], content)
    print(content if args["json"] else _in_words(results), end="")
    return 1 if results["problems"] else 0


def check_table(source, whole: bool = False, workers: int | None = None) -> dict:
    """
    Checks a table of a reader's own scans.

    Args:
        source ([`~ct_rate_pairs.sources.own.OwnSource`]):
            The table, with the settings that its scans are to be read with.
        whole (`bool`, *optional*, defaults to `False`):
            Whether the voxels are read, too.
        workers (`int`, *optional*):
            Scans that are read at a time. One per core by default.

    Returns:
        `dict`: ready for `json.dump`, with these keys:

        - `table`: path of the table.
        - `problems`: what is wrong, in the order of the rows, each with `row`, `column` and `told`.
        - `notes`: in words, what may be meant otherwise than it is read, what the readers of scans warn of, and what
          the cohort is too small for.
        - `scans`, `patients`: for each split, how many there are.
        - `names`: the neutral name of each scan, with its `row`.
    """
    from ct_rate_pairs.sources.own_table import Problem, is_empty
    from ct_rate_pairs.volumes.slicing import VolumeError
    from ct_rate_pairs.volumes.told import collected_warnings

    table = source.table
    scans, problems = table.read
    problems = list(problems)
    # A scan without a path has its problem already.
    there = [scan for _, scan in scans.iterrows() if scan["path"] is not None]

    def read(scan) -> Reading:
        """Reads a scan, or its headers."""
        with collected_warnings() as warnings:
            try:
                source.read_slices(scan) if whole else source.check(scan)
            except VolumeError as error:
                return Reading(str(error).partition(": ")[2], warnings)
        return Reading(None, warnings)

    readings = _in_parallel(read, there, workers)
    rows = [int(scan["row"]) for scan in there]
    problems += [
        Problem(row, "scan", reading.problem) for row, reading in zip(rows, readings, strict=True) if reading.problem
    ]
    if table.report_column and not table.has_questions:
        empty = [is_empty(*both) for both in zip(scans["findings"], scans["impression"], strict=True)]
        told = "the report is empty, or says that there is none. Complete it, or remove the row"
        problems += [Problem(int(row), table.report_column, told) for row in scans["row"][empty]]
    for split in source.splits:
        of_split = scans[scans["split"] == split]
        if len(of_split) and of_split["patient"].nunique() < 2:
            told = f"the split '{split}' has one patient, so its scans have no possible negative of another patient. "
            told += "Add patients, or train with negative='gauss' or 'none'"
            problems += [Problem(int(row), "patient", told) for row in of_split["row"]]
    problems.sort(key=lambda problem: problem.row)
    by_split = scans.groupby("split", sort=False)["patient"]
    return {
        "table": str(source.file),
        "problems": [problem._asdict() for problem in problems],
        "notes": [*table.doubts(), *_reader_notes(rows, readings), *_cohort_notes(scans, source.splits)],
        "scans": by_split.count().to_dict(),
        "patients": by_split.nunique().to_dict(),
        "names": {name: int(row) for name, row in scans["row"].items()},
    }


def _in_parallel(read: Callable[..., Reading], scans: Sequence, workers: int | None) -> list[Reading]:
    """The reading of each scan. Each thread has a process of its own that reads."""
    import logging

    from tqdm import tqdm

    from ct_rate_pairs.volumes.told import logger as of_readers

    level = of_readers.level
    of_readers.setLevel(logging.ERROR)  # the warnings become notes, and would break the progress bar here
    try:
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            return list(tqdm(pool.map(read, scans), total=len(scans), unit="scan", desc="checking"))
    finally:
        of_readers.setLevel(level)


def _reader_notes(rows: Sequence[int], readings: Sequence[Reading]) -> list[str]:
    """Each warning of the readers once, with the first row that it is about."""
    of_warning: dict[str, list[int]] = {}
    for row, reading in zip(rows, readings, strict=True):
        for told in dict.fromkeys(reading.warnings):
            of_warning.setdefault(told.removeprefix("the scan: "), []).append(row)
    return [
        f"row {of[0]}" + (f" and {len(of) - 1} more" if len(of) > 1 else "") + f", column 'scan': {told}"
        for told, of in of_warning.items()
    ]


def _cohort_notes(scans, splits: Sequence[str]) -> list[str]:
    """What each split is too small for, by the labels of its scans."""
    import numpy as np

    from ct_rate_pairs.reports.labels import LABELS

    notes, wanted = [], CTRatePairsConfig().min_label_distance
    for split in splits:
        of_split = scans[scans["split"] == split]
        if not len(of_split):
            notes.append(f"the split '{split}' has no scan.")
            continue
        labels = of_split[list(LABELS)].to_numpy(np.int16)  # [N, 18]
        if few := [label for label, count in zip(LABELS, labels.sum(0), strict=True) if count < FEW]:
            named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
            notes.append(
                f"in the split '{split}', {len(few)} of {len(LABELS)} labels have fewer than {FEW} scans, too few to "
                f"learn or to measure them: {named}."
            )
        patients = of_split["patient"].to_numpy()
        farthest = [
            np.abs(labels[patients != patient] - own).sum(1).max(initial=0)
            for own, patient in zip(labels, patients, strict=True)
        ]
        if near := sum(distance < wanted for distance in farthest):
            notes.append(
                f"in the split '{split}', {near} of {len(of_split)} scans have no partner that differs in {wanted} "
                "labels, as negative='heter' wants: they get those that differ most. `ct-rate-pairs partners` shows "
                "it."
            )
    return notes


def _in_words(results: dict) -> str:
    lines = [f"{results['table']}:"]
    problems = [f"  row {one['row']}, column '{one['column']}': {one['told']}" for one in results["problems"]]
    for listed in (problems, [f"  note: {note}" for note in results["notes"]]):
        lines += listed[:_MOST_SHOWN]
        if (more := len(listed) - _MOST_SHOWN) > 0:
            lines.append(f"  ... and {more} more: --output_file writes all of them")
    counted = ", ".join(
        f"{split} {count} scans of {results['patients'][split]} patients" for split, count in results["scans"].items()
    )
    lines.append(f"{counted}; {len(results['problems']) or 'no'} problems, {len(results['notes'])} notes")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(main)
