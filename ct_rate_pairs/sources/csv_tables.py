"""Joins CT-RATE's CSV files into one table of scans per official split."""

import ast
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import LONGEST_REPORT, is_missing, unread_language
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.texts import write_completion
from ct_rate_pairs.volume_names import VOLUME_NAME, patient_of
from ct_rate_pairs.volumes.settings import VolumeSettings

from .ages import OLDEST, years_of


logger = logging.getLogger(__name__)
# Names of a split in folders and in tables: CT-RATE says `valid` in some and `validation` in others.
_OFFICIAL = {"train": ("train", "train"), "test": ("valid", "validation")}
# Tables with the labels of each official split
LABEL_TABLES = {
    split: f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv" for split, (short, _) in _OFFICIAL.items()
}
_NO_LABELS = "dataset/multi_abnormality_labels/*_predicted_labels.csv"
_GEOMETRY = ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")  # of the original files
_DIRECTION = ("ImageOrientationPatient", "PatientPosition")  # of the original files, where the table has them
_ON_THE_BACK = ("HFS", "FFS")  # PatientPosition of patients whose axes are those of nearly all scans
_LONGEST_NUMBERS = 300  # letters of a cell; six cosines of 17 digits have about 130
# Columns of the table of scans that rows hold as texts, and what of the tables they are.
METADATA = {
    "clinical_information": ("ClinicalInformation_EN",),
    "technique": ("Technique_EN",),
    "device": ("Manufacturer", "ManufacturerModelName"),
}
# Columns of the table of scans that only the original files have: arguments of `read_volume`.
FROM_TABLE = ("rescale", "spacing", "orientation")


class TableError(ValueError):
    """A table lacks a column or a scan, or holds a wrong value. The message names the file and the remedy."""


def read_scans(
    file: Callable[[str], Path],
    volumes: Callable[[str], set[str] | None],
    settings: VolumeSettings,
    split: str,
    on_error: str,
    labels_from: str = "table",
) -> pd.DataFrame:
    """
    Read the tables of one official split.

    Args:
        file (`Callable[[str], Path]`):
            Finds a table, see [`~ct_rate_pairs.sources.tree.TreeSource.file`].
        volumes (`Callable[[str], set[str] | None]`):
            Lists the volumes in a folder, see [`~ct_rate_pairs.sources.tree.TreeSource.volumes`].
        settings ([`~ct_rate_pairs.volumes.settings.VolumeSettings`]):
            How volumes are read. Only `files` and `reconstructions` are used.
        split (`str`):
            `"train"` or `"test"` (CT-RATE's validation set).
        on_error (`str`):
            What happens with a volume that a table lacks. `"raise"`: an error. `"skip"`: the volume is left out, with
            a warning.
        labels_from (`str`, *optional*, defaults to `"table"`):
            `"table"`: the labels are those of the label table. `"rules"`: there is no such table, and the rule labeler
            reads the labels from the reports, with a warning.

    Returns:
        `pd.DataFrame`: one row per volume, indexed by the volume's name, in the order of the label table, or of the
        table of reports if there are no labels. Its columns are `path` (relative to the source), `patient`,
        `findings`, `impression`, `age`, `sex`, the texts of `METADATA` (`None` where there is none) and the 18 labels,
        and for the original files `rescale` (slope, intercept), `spacing` (x, y, z in mm) and `orientation` (the
        cosines of `ImageOrientationPatient`, or `None`).

    Raises:
        `FileNotFoundError`: if a table is missing.
        `TableError`: if a table lacks a column or a volume, if a cell holds a value that its column cannot have, if a
            text is too long for a report, or if the labels are read from reports and a report is in a language that
            the labeler does not read.
    """
    short, long = _OFFICIAL[split]
    original = settings.files == "original"
    folder = short if original else f"{short}_fixed"
    reports_file = file(f"dataset/radiology_text_reports/{long}_reports.csv")
    metadata_file = file(f"dataset/metadata/{long}_metadata.csv")
    no_chest_file = file(f"dataset/metadata/no_chest_{short}.txt")
    texts = (*METADATA["clinical_information"], *METADATA["technique"])
    reports = _read_csv(reports_file, ("Findings_EN", "Impressions_EN"), texts)
    if labels_from == "rules":
        names_file, listed = reports_file, reports
    else:
        names_file = file(LABEL_TABLES[split])
        listed = _read_csv(names_file, LABELS)
        _check_labels(listed, names_file)
    needed, optional = (_GEOMETRY, _DIRECTION) if original else ((), ())
    metadata = _read_csv(metadata_file, ("PatientAge", "PatientSex", *needed), (*optional, *METADATA["device"]))

    names = _present(listed.index, volumes(f"dataset/{folder}"), names_file, folder, on_error)
    names = names[~names.isin(_read_no_chest(no_chest_file))]
    for table, table_file in ((reports, reports_file), (metadata, metadata_file)):
        missing = names[~names.isin(table.index)]
        if len(missing):
            _report(f"{missing[0]} has no row in {table_file}", list(missing), on_error)
            names = names.difference(missing, sort=False)
    if settings.reconstructions == "first":
        names = _first_reconstructions(names)
    names = _of_reports(reports.loc[names], reports_file, on_error)

    labels = _read_labels(reports.loc[names], reports_file, on_error) if labels_from == "rules" else listed.loc[names]
    names = labels.index
    reports, metadata = reports.loc[names], metadata.loc[names]
    record = reports.join(metadata)
    scans = pd.DataFrame(
        {
            "path": [_path(folder, name) for name in names],
            "patient": [patient_of(name) for name in names],
            "findings": reports["Findings_EN"],
            "impression": reports["Impressions_EN"],
            "age": _ages(metadata, metadata_file),
            "sex": _sexes(metadata, metadata_file),
            **{name: _texts(record, columns) for name, columns in METADATA.items()},
            **labels.astype(np.int8),
        },
        index=names,
    )
    return scans.assign(**_geometry(metadata, metadata_file)) if original else scans


def _of_reports(reports: pd.DataFrame, file: Path, on_error: str) -> pd.Index:
    """The volumes whose findings and impression are not too long for a report."""
    cells = reports[["Findings_EN", "Impressions_EN"]]
    letters = cells.map(lambda cell: len(cell) if isinstance(cell, str) else 0).sum(axis=1)
    long = letters[letters > LONGEST_REPORT]
    if len(long):
        _report(
            f"{file}, row of {long.index[0]}: Findings_EN and Impressions_EN have {long.iloc[0]:,} letters, which are "
            f"no report: up to {LONGEST_REPORT:,} are read",
            list(long.index),
            on_error,
            "Shorten these texts",
        )
    return letters.index[letters <= LONGEST_REPORT]


def _read_labels(reports: pd.DataFrame, file: Path, on_error: str) -> pd.DataFrame:
    """The labels that the rule labeler reads from findings and impression, for a cohort without a label table."""
    sections = zip(reports["Findings_EN"], reports["Impressions_EN"], strict=True)
    texts = pd.Series([write_completion(*both) for both in sections], index=reports.index, dtype=object)
    languages = texts.map({text: unread_language(text) for text in texts.unique()}).dropna()
    if len(languages):
        _report(
            f"{file}, row of {languages.index[0]}: the report seems to be in {languages.iloc[0]}. There is no label "
            f"table ({_NO_LABELS}), and labels are read from reports in English or Chinese only",
            list(languages.index),
            on_error,
            "Translate these reports, give the 18 labels of each volume in such a table",
        )
        texts = texts.drop(languages.index)
    logger.warning(
        "There is no label table (%s). The 18 labels of the %d volumes in %s are read from their reports by the rule "
        "labeler, which makes errors.",
        *(_NO_LABELS, len(texts), file.name),
    )
    stated = {text: label_report(text) for text in texts.unique()}
    return pd.DataFrame(
        np.array([stated[text] for text in texts], np.int8).reshape(-1, len(LABELS)),
        index=texts.index,
        columns=list(LABELS),
    )


def _present(names: pd.Index, on_disk: set[str] | None, names_file: Path, folder: str, on_error: str) -> pd.Index:
    """The volumes that exist. Volumes that the table lacks are reported, and so are rows without a volume."""
    if on_disk is None:
        return names
    unnamed = sorted(on_disk - set(names))
    if unnamed:
        _report(f"{unnamed[0]} lies under dataset/{folder} but has no row in {names_file}", unnamed, on_error)
    absent = ~names.isin(on_disk)
    if absent.any():
        logger.warning(
            "%d of the %d volumes in %s are not under dataset/%s and are left out, the first: %s.",
            absent.sum(), len(names), names_file.name, folder, names[absent][0],
        )  # fmt: skip
    return names[~absent]


def _first_reconstructions(names: pd.Index) -> pd.Index:
    """The reconstruction with the lowest number of each scan: all reconstructions share report and labels."""
    scan, number = [names.str.extract(pattern, expand=False) for pattern in (r"(.+)_\d+\.", r"_(\d+)\.")]
    order = pd.DataFrame({"scan": scan, "number": number.astype(int), "position": np.arange(len(names))})
    first = order.sort_values("number", kind="stable").drop_duplicates("scan")["position"]
    return names[np.sort(first)]


def _read_no_chest(file: Path) -> list[str]:
    """The volumes that a text file lists as no chests. What is no name of a volume is told."""
    try:
        names = file.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise TableError(f"{file} is no text in UTF-8: {error}. Download it again.") from error
    unread = [name for name in names if not re.fullmatch(VOLUME_NAME, name)]
    if unread:
        logger.warning(
            "%s: %d of %d entries are no names of volumes, the first: %.80r. They leave no volume out. Write one name "
            "per line, such as train_12_a_1.nii.gz.", file, len(unread), len(names), unread[0],
        )  # fmt: skip
    return names


def _read_csv(file: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """
    A table with `VolumeName` as its index. Only `columns`, which must exist, and `optional` columns are read. An
    optional column that does not exist is empty.
    """
    columns = ("VolumeName", *columns)
    try:
        header = pd.read_csv(file, nrows=1, header=None, dtype=str).iloc[0].dropna()  # pandas renames what is twice
        twice = header[header.duplicated() & header.isin([*columns, *optional])].tolist()
        if twice:
            raise TableError(f"{file}: two columns are called '{twice[0]}'. Rename or remove one of them.")
        header = header.tolist()
        missing = [column for column in columns if column not in header]
        if missing:
            raise TableError(
                f"{file} has no column '{missing[0]}' (it has: {', '.join(header[:20])}). CT-RATE's own file has "
                "this column: download the file again, or write the phantom again. A spreadsheet must save it as CSV "
                "in UTF-8, with commas."
            )
        table = pd.read_csv(file, usecols=[*columns, *(column for column in optional if column in header)])
    except TableError:
        raise
    except Exception as error:  # pandas raises errors of many types
        raise TableError(
            f"{file} is not a readable CSV: {error}. Download it again, or save it as CSV in UTF-8, with commas."
        ) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas then takes the first column for the names of the rows
        raise TableError(
            f"{file}: its rows have more cells than its header. Download it again, or save it as CSV anew."
        )
    named = table["VolumeName"].astype(str).str.fullmatch(VOLUME_NAME)
    if not named.all():
        row = int(np.flatnonzero(~named)[0])
        raise TableError(
            f"{file}, row {row + 2}: '{table['VolumeName'][row]}' is not a CT-RATE volume name "
            "(split_patient_scan_reconstruction.nii.gz, such as train_12_a_1.nii.gz). Correct or remove the row."
        )
    duplicated = table["VolumeName"].duplicated()
    if duplicated.any():
        row = int(np.flatnonzero(duplicated)[0])
        raise TableError(f"{file}, row {row + 2}: '{table['VolumeName'][row]}' occurs twice. Remove one of the rows.")
    return table.set_index("VolumeName").reindex(columns=[*columns[1:], *optional])


def _check_labels(labels: pd.DataFrame, file: Path) -> None:
    wrong = ~labels[list(LABELS)].isin([0, 1]).to_numpy()
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise TableError(
            f"{file}, row {row + 2}: column '{LABELS[column]}' of {labels.index[row]} holds "
            f"{labels[LABELS[column]].iloc[row]}, but a label is 0 or 1. Correct or remove the row."
        )


def _report(
    message: str, volumes: list[str], on_error: str, remedy: str = "Complete the table, remove the file"
) -> None:
    if on_error == "raise":
        raise TableError(f"{message} ({len(volumes)} such volumes). {remedy}, or pass on_error='skip'.")
    logger.warning("%s. This volume and %d others like it are left out.", message, len(volumes) - 1)


def _path(folder: str, name: str) -> str:
    parts = name.removesuffix(".nii.gz").split("_")
    return f"dataset/{folder}/{'_'.join(parts[:2])}/{'_'.join(parts[:3])}/{name}"


def _ages(metadata: pd.DataFrame, file: Path) -> pd.Series:
    """Ages in whole years from DICOM's age strings (`036Y`; months, weeks and days, too)."""
    cells = metadata["PatientAge"]
    read = pd.Series([years_of(str(cell)) for cell in cells], cells.index, dtype="Int16")
    return _told(read, cells, file, f"ages as in DICOM (036Y, 018M), up to {OLDEST} years")


def _sexes(metadata: pd.DataFrame, file: Path) -> pd.Series:
    """The sex of each patient, `M` or `F`."""
    words = metadata["PatientSex"].astype(str).str.strip().str.upper().replace({"MALE": "M", "FEMALE": "F"})
    return _told(words.where(words.isin(["M", "F"]), None), metadata["PatientSex"], file, "M or F")


def _texts(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series:
    """The texts in some columns, joined by blanks; `None` where there is none."""
    cells = table[[*columns]].astype(object)
    texts = [" ".join(str(cell).strip() for cell in row if not is_missing(cell)) or None for row in cells.to_numpy()]
    return pd.Series(texts, table.index, dtype=object)


def _told(read: pd.Series, cells: pd.Series, file: Path, form: str) -> pd.Series:
    """Returns `read`, and tells of cells that hold something else than was expected and are left out."""
    unread = cells[read.isna() & cells.notna()]
    if len(unread):
        logger.warning(
            "%s: %d of the %d cells of %s are left out, the first: %r of %s. The column holds %s.",
            file, len(unread), len(cells), cells.name, unread.iloc[0], unread.index[0], form,
        )  # fmt: skip
    return read


def _geometry(metadata: pd.DataFrame, file: Path) -> dict[str, list]:
    """The columns `FROM_TABLE`, which say what the headers of the original files lack."""
    rescale, spacing, orientation, untold = [], [], [], []
    for name, slope, intercept, in_plane, through in metadata[[*_GEOMETRY]].itertuples():
        cells = [_numbers(cell) for cell in (slope, intercept, in_plane, through)]
        values = tuple(number for cell in cells for number in cell)
        counts = [len(cell) for cell in cells]
        if counts != [1, 1, 2, 1] or not np.isfinite(values).all() or not values[0] or min(values[2:]) <= 0:
            raise TableError(
                f"{file}, row of {name}: RescaleSlope={_shown(slope)}, RescaleIntercept={_shown(intercept)}, "
                f"XYSpacing={_shown(in_plane)}, ZSpacing={_shown(through)}. Each must be a number, XYSpacing a pair "
                "such as '[0.75, 0.75]', and a slope is not 0 and a spacing above 0. Correct the row, or use "
                "files='fixed', which does not need these columns."
            )
        rescale.append(values[:2])
        spacing.append(values[2:])
    for name, cosines, position in metadata[[*_DIRECTION]].itertuples():
        if pd.isna(cosines) and (pd.isna(position) or str(position).strip().upper() in _ON_THE_BACK):
            untold.append(name)
            orientation.append(None)
            continue
        values = _numbers(cosines)
        if not _are_directions(values):
            raise TableError(
                f"{file}, row of {name}: ImageOrientationPatient={_shown(cosines)} with "
                f"PatientPosition={_shown(position)} does not say where the axes of the volume point. It must be the "
                "cosines of two directions at a right angle, such as '[1, 0, 0, 0, 1, 0]'. Correct the row, or use "
                "files='fixed', which does not need this column."
            )
        orientation.append(values)
    if untold:
        logger.warning(
            "%s has no ImageOrientationPatient for %d of %d volumes, the first: %s. Their axes are taken as left, "
            "posterior, superior (LPS).", file, len(untold), len(metadata), untold[0],
        )  # fmt: skip
    return dict(zip(FROM_TABLE, (rescale, spacing, orientation), strict=True))


@lru_cache(maxsize=10_000)  # most cells of a column are alike
def _numbers(cell: float | str) -> tuple[float, ...]:
    """The number or the numbers in a cell, such as `0.75` or `[0.75, 0.75]`; none if it holds anything else."""
    text = str(cell)
    if len(text) > _LONGEST_NUMBERS:  # a cell that goes deep would need too much of Python's stack
        return ()
    try:
        return tuple(map(float, np.ravel(ast.literal_eval(text))))
    except (TypeError, ValueError, SyntaxError, OverflowError):
        return ()


def _shown(cell: object) -> str:
    """A cell as an error names it: in quotes, and at most its beginning."""
    text = repr(cell)
    return text if len(text) <= _LONGEST_NUMBERS else f"{text[:_LONGEST_NUMBERS]}..."


def _are_directions(cosines: tuple[float, ...]) -> bool:
    """Whether these are six cosines of two directions at a right angle, up to their rounding as decimals."""
    if len(cosines) != 6:
        return False
    first, second = np.reshape(cosines, (2, 3))
    return bool(np.allclose([first @ first, second @ second, first @ second], [1, 1, 0], atol=0.01))
