"""
The record of what generated reports were made with, kept in a file beside them.

Because of this record, a file never holds reports of two models, and reports are scored only against the references of
the scans that they were written for.
"""

import hashlib
import json
import logging
from datetime import datetime
from pathlib import Path

from datasets import Dataset

from ct_rate_pairs.json_files import JSONFileError, NotJSONError, read_json
from ct_rate_pairs.json_schemas.evaluation import Provenance
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.findings_line import report_of
from ct_rate_pairs.trainer.row_settings import ROW_SETTINGS, row_settings
from ct_rate_pairs.trainer.run_record import sources_version


logger = logging.getLogger(__name__)

# What a record of reports that were written here has only if it is not the default.
DEFAULTS = {"operating_point": "none", "slices_as": "slices"}


def describe_provenance(weights: str, scans: Dataset, *, split: str, dtype: str, max_new_tokens: int) -> dict:
    """
    Everything that a report depends on. Paths of model and data are left out: both may move while a file is written.

    Args:
        weights (`str`):
            What identifies the model, see [`~ct_rate_pairs.eval.load_model.version_of`].
        scans ([`~datasets.Dataset`]):
            The whole split, even if only some of its scans get reports.
        split (`str`), dtype (`str`), max_new_tokens (`int`):
            Name of the split, data type of the weights, and maximum length of a report.

    Returns:
        `dict`: the arguments, `code` (the version of the code), the row settings, and `references`, the
        [`fingerprint`] of the split. Ready for `json.dump`.
    """
    reader = reader_of(scans)
    described = {"weights": weights, "code": sources_version(), "dtype": dtype, **row_settings(reader), "split": split}
    return described | {"references": fingerprint(scans), "max_new_tokens": max_new_tokens}


def fingerprint(scans: Dataset) -> str:
    """A hash (16 hexadecimal digits) of the scans' names, order and reports, without findings lines. Reads no scan."""
    texts = scans.with_format(None).select_columns(["volume", "completion"])
    digest = hashlib.sha256()
    for volume, completion in zip(texts["volume"], texts["completion"], strict=True):
        digest.update(json.dumps([volume, report_of(completion[-1])]).encode())
    return digest.hexdigest()[:16]


def provenance_path(predictions: str | Path) -> Path:
    """The file beside `predictions.jsonl`: `predictions.provenance.json`."""
    return Path(predictions).with_suffix(".provenance.json")


def read_provenance(predictions: str | Path) -> dict:
    """What a file of predictions was made with; empty without a record, as for files of other programs."""
    path = provenance_path(predictions)
    try:
        return read_json(path, Provenance) if path.exists() else {}
    except NotJSONError:
        raise
    except JSONFileError as error:
        raise JSONFileError(
            f"{error} So nobody knows what made the reports beside it: remove both files, or choose another "
            "--output_dir."
        ) from error


def row_settings_of(predictions: str | Path) -> dict:
    """The options of `load_dataset("ct_rate_pairs", ...)` that a file of predictions was written under."""
    before = read_provenance(predictions)
    return {name: value for name, value in before.items() if name in ROW_SETTINGS}


def differences(first: str | Path, second: str | Path) -> list[str]:
    """How two files of predictions were made differently, in words, apart from the model and its weights."""
    records = read_provenance(first), read_provenance(second)
    # A file of another program has no `dtype`, and tells nothing by what it lacks.
    before, other = (DEFAULTS | record if "dtype" in record else record for record in records)
    names = sorted((before.keys() & other.keys()) - {"weights", "references", "thresholds"})
    return [f"{name} {before[name]} and {other[name]}" for name in names if before[name] != other[name]]


def check_provenance(predictions: str | Path, provenance: dict) -> None:
    """Raises a `ValueError` if a file of predictions has another record than `provenance`, or no record."""
    before, now = read_provenance(predictions), json.loads(json.dumps(provenance))
    if not before:
        raise ValueError(
            f"{predictions} holds reports, but {provenance_path(predictions).name}, which tells what made them, is "
            "missing. Choose another folder, or delete the file."
        )
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    if changed:
        told = "; ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in changed)
        raise ValueError(
            f"{predictions} was begun with other settings: {told}. Choose another folder, or delete the file."
        )


def set_aside_unknown(predictions: Path) -> None:
    """
    If the record of a file of predictions is empty or cut, nobody knows what made the reports: the file gets another
    name, which is told, and its reports are written again.
    """
    try:
        read_provenance(predictions)
    except NotJSONError as error:
        aside = predictions.with_name(f"{predictions.stem}.unknown-{datetime.now():%Y%m%d-%H%M%S}{predictions.suffix}")
        if predictions.exists():
            predictions.replace(aside)
        provenance_path(predictions).unlink()
        logger.warning("%s What made the reports is unknown: they are in %s, and are written again.", error, aside)


def check_references(predictions: str | Path, scans: Dataset, split: str) -> None:
    """
    Raises a `ValueError` if the record of a file of predictions names other scans or reference reports than `scans`.

    `scans` is the whole split. A file without a record is not checked.
    """
    before = read_provenance(predictions)
    if before and before.get("references") != fingerprint(scans):
        raise ValueError(
            f"{predictions} was written for the split {before.get('split')} with target={before.get('target')!r}, "
            f"whose scans and reference reports are not those of the split {split} here. Choose the data_dir, split "
            "and target that it was written for. To measure it against these references all the same, move it away "
            f"from {provenance_path(predictions).name}."
        )
