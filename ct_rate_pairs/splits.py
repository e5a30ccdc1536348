"""
The splits of the dataset, each as one table. A table has one row per scan (or per reconstruction), with its report,
its labels and where its volume is.
"""

import hashlib
import logging

import numpy as np
import pandas as pd

from ct_rate_pairs.reports.readable import is_missing, unread_language
from ct_rate_pairs.reports.texts import write_completion
from ct_rate_pairs.sources import Source
from ct_rate_pairs.tasks import TASKS

from .config import CTRatePairsConfig


logger = logging.getLogger(__name__)


def read_tables(source: Source, config: CTRatePairsConfig) -> dict[str, pd.DataFrame]:
    """
    Read the splits `train`, `validation` (some patients of CT-RATE's training set) and `test` (CT-RATE's official
    validation set). A reader's own table may divide its rows into these splits itself.

    Args:
        source ([`~ct_rate_pairs.sources.Source`]):
            Where the scans come from.
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            Options of the dataset. Only `validation_size`, `on_error` and `target` are used.

    Returns:
        `dict[str, pd.DataFrame]`: one table per split, indexed by the volume's name, in the order of the label table.
        Its columns are `patient`, `findings`, `impression`, `age`, `sex`, the 18 labels, and what the source needs to
        find the volume. Scans whose report has nothing of the `target` are left out, or for the task
        `"own_questions"` those without a question.

    Raises:
        `FileNotFoundError`: if a table is missing.
        `TableError`: if a table lacks a column or a volume.
        `ValueError`: if the task `"own_questions"` is asked for and the source has no questions.
    """
    tables = {split: source.scans(split, config.on_error) for split in source.splits}
    keep = _with_text if TASKS[config.task].of_reports else _with_questions
    tables = {split: keep(table, split, config) for split, table in tables.items()}
    if "validation" in tables:
        return tables
    train, test = tables["train"], tables["test"]
    held_out = train["patient"].map(lambda patient: _uniform_hash(patient) < config.validation_size).astype(bool)
    return {"train": train[~held_out], "validation": train[held_out], "test": test}


def _with_text(scans: pd.DataFrame, split: str, config: CTRatePairsConfig) -> pd.DataFrame:
    sections = zip(scans["findings"], scans["impression"], strict=True)
    texts = np.array([write_completion(*both, config.target) for both in sections], dtype=object)
    given = texts != ""
    if not given.all():
        logger.warning(
            "%d of the %d scans of the split '%s' have no %s and are left out, the first: %s.",
            (~given).sum(), len(scans), split, config.target, scans.index[~given][0],
        )  # fmt: skip
    for section in ("findings", "impression"):
        if section in config.target:
            _tell_foreign(scans.loc[given, section], split)
    return scans[given]


def _with_questions(scans: pd.DataFrame, split: str, config: CTRatePairsConfig) -> pd.DataFrame:
    if "questions" not in scans:
        raise ValueError(
            f"task={config.task!r} asks the questions of a table of your own, with columns 'question' and 'answer' "
            "(docs/own_data.md). Questions about CT-RATE are made by task='vqa'."
        )
    return scans[scans["questions"].map(len) > 0]


def _tell_foreign(texts: pd.Series, split: str) -> None:
    """Tells how many texts of a section the rules cannot read, and which is the first."""
    texts = texts[[not is_missing(text) for text in texts]]
    languages = texts.map({text: unread_language(text) for text in texts.unique()}).dropna()
    if len(languages):
        logger.warning(
            "%d of the %d texts in the %s of the split '%s' seem to be in another language than English and "
            "Chinese, most in %s, the first: %s. They are taught, but the labeler reads no findings from them, nor do "
            "the tasks and metrics that use it. Translate these cells, or empty them.",
            *(len(languages), len(texts), texts.name, split, languages.mode()[0], languages.index[0]),
        )


def _uniform_hash(patient: str) -> float:
    """A number in [0, 1) that depends only on the patient, so that the split is the same on every machine."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") / 2**64
