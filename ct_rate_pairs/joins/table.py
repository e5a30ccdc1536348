"""Joins questions to scans by the names of volumes, and writes them as a table of a reader's own."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.sources.tree import LocalSource
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.whole_files import write_whole

from . import rad_chestct, radgenome, three_d_rad
from .questions import Joined, find_files, read_questions


OF_CT_RATE = {"3d-rad": three_d_rad, "radgenome": radgenome}
OF_SCAN = ("age", "sex", *LABELS)  # written in the first row of a scan alone


def join_ct_rate(name: str, given: Sequence[Path], data_dir: Path) -> tuple[Joined, pd.DataFrame, str]:
    """
    Questions about volumes of CT-RATE.

    Args:
        name (`str`):
            `"3d-rad"` or `"radgenome"`.
        given (`Sequence[Path]`):
            CSV files of the data set, or folders of them.
        data_dir (`Path`):
            A copy of CT-RATE, or of some of its volumes.

    Returns:
        `tuple[Joined, pd.DataFrame, str]`: the questions; the scans of the copy by name, with `path`, `patient`,
        `split`, `age`, `sex` and the 18 labels; and what the reader must know of the data set.

    Raises:
        `FileNotFoundError`: if a file or folder is missing.
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if a table cannot be read or lacks a column.
    """
    known = OF_CT_RATE[name]
    files = find_files(given, known.PATTERN)
    if known is radgenome:  # in folders, also sentences of reports and paths
        files = [file for file in files if file in given or radgenome.is_of_questions(file)]
    source = LocalSource(data_dir, VolumeSettings(reconstructions="all"))
    scans = pd.concat([source.scans(split, "raise").assign(split=split) for split in source.splits])
    return read_questions(files, known.questions_of), scans, known.NOTE


def join_rad_chestct(name: str, given: Sequence[Path], data_dir: Path) -> tuple[Joined, pd.DataFrame, str]:
    """
    The labels of RAD-ChestCT as questions. Arguments, results and errors are those of [`join_ct_rate`]; the scans have
    neither age, sex nor labels.
    """
    tables = [path for path in given if not path.match(rad_chestct.PATIENTS)]
    label_files = find_files(tables, rad_chestct.PATTERN)
    beside = [path for path in given if path.is_dir() or path.match(rad_chestct.PATIENTS)]
    patients_file = find_files(beside or [data_dir], rad_chestct.PATIENTS)[0]
    scans = rad_chestct.scans_of(data_dir, label_files, patients_file)
    return read_questions(label_files, rad_chestct.questions_of), scans, rad_chestct.NOTE


def write_table(out: Path, joined: Joined, scans: pd.DataFrame, note: str) -> str:
    """
    Writes a table of a reader's own, and beside it the names of the volumes that have no scan.

    Args:
        out (`Path`):
            The table, a `.csv` file in the folder that the paths of the scans begin at.
        joined ([`~ct_rate_pairs.joins.questions.Joined`]), scans (`pd.DataFrame`), note (`str`):
            As from [`join_ct_rate`].

    Returns:
        `str`: what was joined and what was left out, in words.

    Raises:
        [`~ct_rate_pairs.sources.csv_tables.TableError`]: if no question is about any of the scans.
    """
    asked = joined.asked
    if not len(asked):
        raise TableError("The files hold no question that has an answer. Give the files of the data set as published.")
    volumes = asked["volume"].unique()
    lacking = [volume for volume in volumes if volume not in scans.index]
    if len(lacking) == len(volumes):
        raise TableError(
            f"None of the {len(volumes)} volumes with questions, such as {', '.join(volumes[:3])}, has a scan in "
            f"{out.parent}. Give the folder that holds these scans as --data_dir."
        )
    place = pd.Index(scans.index).get_indexer(asked["volume"])
    asked = asked.assign(_place=place)[place >= 0].sort_values("_place", kind="stable")
    of_scan = scans.iloc[asked["_place"]].reset_index(drop=True)
    asked = asked.reset_index(drop=True)
    first = ~asked["_place"].duplicated()  # of the rows of a scan
    table = pd.DataFrame(
        {
            "scan": of_scan["path"],
            **{name: of_scan[name] for name in ("patient", "split")},
            **{name: asked[name] for name in ("question", "answer")},
            **{name: of_scan[name].astype(object).where(first, None) for name in OF_SCAN if name in scans},
        }
    )
    write_whole(out, table.to_csv(index=False))
    unmatched = out.with_name(f"{out.stem}_unmatched.txt")
    unmatched.unlink(missing_ok=True)
    if lacking:
        write_whole(unmatched, "".join(f"{volume}\n" for volume in lacking))
    splits = table.drop_duplicates("scan")["split"].value_counts(sort=False)
    told = [
        f"{out}: {len(table)} questions about {splits.sum()} scans "
        f"({', '.join(f'{split} {count}' for split, count in splits.items())}).",
        f"{len(lacking)} of {len(volumes)} volumes with questions have no scan in {out.parent}, such as {lacking[0]}. "
        f"{unmatched} lists them."
        if lacking
        else "",
        f"Left out: {joined.incomplete} rows that lack a volume, question or answer, {joined.repeated} that repeat "
        f"another, and {joined.contradicting} questions whose answers contradict each other."
        if joined.incomplete or joined.repeated or joined.contradicting
        else "",
        note,
        f'Load it with load_dataset("ct_rate_pairs", table="{out}", task="own_questions").',
    ]
    return "\n".join(filter(None, told))
