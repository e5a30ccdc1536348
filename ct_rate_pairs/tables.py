"""CT-RATE's CSV files, joined into one table a split: a row a scan, with its text, labels and metadata."""

import hashlib
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd

from .labels import LABELS
from .source import HubSource, LocalSource


logger = logging.getLogger(__name__)

NOT_GIVEN = "Not given."
VOLUME_NAME = r"[a-z]+_\d+_[a-z]+_\d+\.nii\.gz"  # split, patient, scan, reconstruction
# folder of the volumes, and the stems of the tables: CT-RATE says `valid` here and `validation` there
_OFFICIAL = {"train": ("train_fixed", "train", "train"), "test": ("valid_fixed", "valid", "validation")}


class TableError(ValueError):
    """A CSV of CT-RATE that is missing a column or a volume. The message names the file and the remedy."""


def read_tables(source: LocalSource | HubSource, validation_size: float, on_error: str) -> dict[str, pd.DataFrame]:
    """
    Read the splits `train`, `validation` (carved out of CT-RATE's train by patient) and `test` (its official
    validation set).

    Returns:
        `dict[str, pd.DataFrame]`: columns `volume`, `path` (relative to the source), `patient`, `completion`,
        `labels`,
        `age` and `sex`; one row a scan, in the order of the label table.

    Raises:
        `FileNotFoundError`: when a table is missing.
        `TableError`: when a table lacks a column or a volume.
    """
    train = _read_official(source, "train", on_error)
    held_out = train["patient"].map(lambda patient: _uniform_hash(patient) < validation_size).astype(bool)
    return {
        "train": train[~held_out].reset_index(drop=True),
        "validation": train[held_out].reset_index(drop=True),
        "test": _read_official(source, "test", on_error),
    }


def patient_of(volume: str) -> str:
    """`train_1_a_2.nii.gz` -> `train_1`."""
    return "_".join(volume.split("_")[:2])


def _read_official(source: LocalSource | HubSource, split: str, on_error: str) -> pd.DataFrame:
    folder, short, long = _OFFICIAL[split]
    labels_file = source.file(f"dataset/multi_abnormality_labels/{short}_predicted_labels.csv")
    reports_file = source.file(f"dataset/radiology_text_reports/{long}_reports.csv")
    metadata_file = source.file(f"dataset/metadata/{long}_metadata.csv")
    no_chest_file = source.file(f"dataset/metadata/no_chest_{short}.txt")
    labels = _read_csv(labels_file, LABELS)
    reports = _read_csv(reports_file, ("Findings_EN", "Impressions_EN"))
    metadata = _read_csv(metadata_file, ("PatientAge", "PatientSex"))
    _check_labels(labels, labels_file)

    names = labels.index
    on_disk = source.volumes(f"dataset/{folder}")
    if on_disk is not None:
        unnamed = sorted(on_disk - set(names))
        if unnamed:
            _report(f"{unnamed[0]} lies under dataset/{folder} but has no row in {labels_file}", unnamed, on_error)
        absent = ~names.isin(on_disk)
        if absent.any():
            logger.warning(
                "%d of the %d volumes in %s are not under dataset/%s and are left out, the first: %s.",
                absent.sum(), len(names), labels_file.name, folder, names[absent][0],
            )  # fmt: skip
        names = names[~absent]
    names = names[~names.isin(no_chest_file.read_text().split())]
    for table, file in ((reports, reports_file), (metadata, metadata_file)):
        missing = names[~names.isin(table.index)]
        if len(missing):
            _report(f"{missing[0]} has no row in {file}", list(missing), on_error)
            names = names.difference(missing, sort=False)

    # Reconstructions of one scan share report and labels: keep the first of each scan.
    parts = names.to_series().str.removesuffix(".nii.gz").str.rsplit("_", n=1, expand=True).reindex(columns=[0, 1])
    order = parts.assign(position=np.arange(len(parts)), number=parts[1].astype(int))
    first = order.sort_values("number", kind="stable").drop_duplicates(0).sort_values("position")
    names = first.index

    reports, metadata = reports.loc[names], metadata.loc[names]
    completion = [_completion(*texts) for texts in zip(reports["Findings_EN"], reports["Impressions_EN"], strict=True)]
    table = pd.DataFrame(
        {
            "volume": names,
            "path": [_path(folder, name) for name in names],
            "patient": [patient_of(name) for name in names],
            "completion": completion,
            "labels": labels.loc[names, list(LABELS)].to_numpy(np.int8).tolist(),
            "age": [_age(age) for age in metadata["PatientAge"]],
            "sex": [sex if isinstance(sex, str) else None for sex in metadata["PatientSex"]],
        }
    ).astype({"age": object, "sex": object})
    without_text = table["completion"] == ""
    if without_text.any():
        logger.warning(
            "%d scans of %s have neither findings nor impression: left out.", without_text.sum(), reports_file
        )
    return table[~without_text].reset_index(drop=True)


def _read_csv(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table by its `VolumeName`, with `columns` checked."""
    try:
        table = pd.read_csv(file)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise TableError(f"{file} is not a readable CSV: {error}. Download it again.") from error
    for column in ("VolumeName", *columns):
        if column not in table.columns:
            raise TableError(
                f"{file} has no column '{column}' (it has: {', '.join(table.columns[:20])}). CT-RATE's own file has "
                "it: download it again, or write the phantom anew."
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
    return table.set_index("VolumeName")


def _check_labels(labels: pd.DataFrame, file: Path) -> None:
    wrong = ~labels[list(LABELS)].isin([0, 1])
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        raise TableError(
            f"{file}, row {row + 2}: column '{LABELS[column]}' of {labels.index[row]} holds "
            f"{labels[LABELS[column]].iloc[row]}, but a label is 0 or 1. Correct or "
            "remove the row."
        )


def _report(message: str, volumes: list[str], on_error: str) -> None:
    if on_error == "raise":
        raise TableError(
            f"{message} ({len(volumes)} such volumes). Complete the table, remove the file, or pass on_error='skip'."
        )
    logger.warning("%s: left out with %d more like it.", message, len(volumes) - 1)


def _path(folder: str, name: str) -> str:
    parts = name.removesuffix(".nii.gz").split("_")
    return f"dataset/{folder}/{'_'.join(parts[:2])}/{'_'.join(parts[:3])}/{name}"


def _completion(findings: str, impression: str) -> str:
    given = {"Findings": findings, "Impression": impression}
    return "\n".join(
        f"{heading}: {text.strip()}"
        for heading, text in given.items()
        if isinstance(text, str) and text.strip() not in ("", NOT_GIVEN)
    )


def _age(age: str) -> int | None:
    """DICOM's age string, `036Y`."""
    return int(age[:-1]) if isinstance(age, str) and re.fullmatch(r"\d{1,3}Y", age) else None


def _uniform_hash(patient: str) -> float:
    """A number in [0, 1) that depends on the patient alone, so that the split is the same everywhere and for ever."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
