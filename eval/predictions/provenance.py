"""
What generated reports were made with, kept beside their file: one file never holds two models' reports, and they are
measured against the references that they were written for.
"""

import hashlib
import json
from pathlib import Path

from datasets import Dataset

from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer.row_settings import ROW_SETTINGS, row_settings


def describe_provenance(weights: str, scans: Dataset, *, split: str, dtype: str, max_new_tokens: int) -> dict:
    """
    All that a report depends on, and nothing else: where model and data lie may change while a file is written.

    Args:
        weights (`str`):
            What tells the model from others, see [`~ct_rate_pairs.eval.load_model.version_of`].
        scans ([`~datasets.Dataset`]):
            The whole split, even if reports are wanted for some of its scans only.
        split (`str`), dtype (`str`), max_new_tokens (`int`):
            Name of the split, type of the weights, longest report.

    Returns:
        `dict`: these, the row settings, and `references`, a [`fingerprint`] of the split. Ready for `json.dump`.
    """
    reader = reader_of(scans)
    described = {"weights": weights, "dtype": dtype, **row_settings(reader), "split": split}
    return described | {"references": fingerprint(scans), "max_new_tokens": max_new_tokens}


def fingerprint(scans: Dataset) -> str:
    """Sixteen hexadecimal digits that change with the scans' names, order or reference reports. No scan is read."""
    texts = scans.with_format(None).select_columns(["volume", "completion"])
    digest = hashlib.sha256()
    for volume, completion in zip(texts["volume"], texts["completion"], strict=True):
        digest.update(json.dumps([volume, completion[0]["content"]]).encode())
    return digest.hexdigest()[:16]


def provenance_path(predictions: str | Path) -> Path:
    """The file beside `predictions.jsonl`: `predictions.provenance.json`."""
    return Path(predictions).with_suffix(".provenance.json")


def read_provenance(predictions: str | Path) -> dict:
    """What a file of predictions was made with; empty for one that does not tell, such as another program's."""
    path = provenance_path(predictions)
    return json.loads(path.read_text()) if path.exists() else {}


def row_settings_of(predictions: str | Path) -> dict:
    """The options of `load_dataset("ct_rate_pairs", ...)` that a file of predictions was written under."""
    before = read_provenance(predictions)
    return {name: value for name, value in before.items() if name in ROW_SETTINGS}


def check_provenance(predictions: str | Path, provenance: dict) -> None:
    """Raises a `ValueError` if a file of predictions was begun otherwise than `provenance`, or does not tell how."""
    before, now = read_provenance(predictions), json.loads(json.dumps(provenance))
    if not before:
        raise ValueError(
            f"{predictions} holds reports, but {provenance_path(predictions).name}, which tells what made them, is "
            "missing. Choose another folder, or delete the file."
        )
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    if changed:
        told = "; ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in changed)
        raise ValueError(f"{predictions} was begun otherwise: {told}. Choose another folder, or delete the file.")


def check_references(predictions: str | Path, scans: Dataset, split: str) -> None:
    """
    Raises a `ValueError` if a file of predictions tells that it was written for other scans or reference reports than
    those of `scans`, the whole split.
    """
    before = read_provenance(predictions)
    if before and before["references"] != fingerprint(scans):
        raise ValueError(
            f"{predictions} was written for the split {before['split']} with target={before['target']!r}, whose scans "
            f"and reference reports are not those of the split {split} here. Choose data_dir, split and target as "
            f"then. To measure it against these all the same, move it away from {provenance_path(predictions).name}."
        )
