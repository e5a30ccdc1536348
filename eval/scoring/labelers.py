"""Turns reports into label vectors, by a named labeler."""

import warnings
from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import check_language, check_lengths, is_missing, unread_language
from ct_rate_pairs.reports.rules import label_report


def label_reports(texts: Sequence[str], labeler: str = "rules") -> np.ndarray:
    """
    Reads the 18 labels from report texts.

    Args:
        texts (`Sequence[str]`):
            Reports: findings, impression or both. For both labelers, an empty report states no finding. A warning
            tells how many reports are empty, because their labels are those of a normal report.
        labeler (`str`, *optional*, defaults to `"rules"`):
            Full name of the labeler, to be reported with every number that depends on it. `"rules"` is
            [`~ct_rate_pairs.reports.rules.label_report`], for reports in English or Chinese.
            `"radbert:CHECKPOINT"` is the RadBERT classifier of CT-RATE; `CHECKPOINT` is a file, a folder or a Hub
            repository, see [`~ct_rate_pairs.eval.scoring.radbert.load_radbert`].

    Returns:
        `np.ndarray`: int8 array of shape `[N, 18]`, columns in the official order of `ct_rate_pairs.LABELS`.

    Raises:
        `ValueError`: for an unknown labeler, for a string instead of a list of strings, for a row that is no string
            (`None`, NaN), for a text that is too long for a report, or for `"rules"` and a report in another language.
            The message names the row.
        `OSError`: if there is no such checkpoint.
    """
    if isinstance(texts, str):
        raise ValueError("`texts` is one string; pass a list of reports, for a single report `[report]`.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"`texts` row {row} is no report: {text!r}. Leave the row out, or pass '' where a model wrote nothing."
            )
    check_lengths(texts, "texts")
    if labeler == "rules":
        check_language(texts, "texts")
    labels, told = label_predictions(texts, labeler)
    if told["empty_predictions"]:
        row, first = next((row, text) for row, text in enumerate(texts) if is_missing(text))
        warnings.warn(
            f"{told['empty_predictions']} of the {len(texts)} texts are no reports, the first in row {row}: "
            f"{first!r}. Their labels are 0, like those of a normal report: leave them out, or count them "
            "apart.",
            stacklevel=2,
        )
    return labels


def label_predictions(reports: Sequence[str], labeler: str = "rules") -> tuple[np.ndarray, dict[str, int]]:
    """
    Reads the 18 labels from reports that a model wrote, and counts the reports that cannot be read.

    A model may write nothing, or lapse into another language. That is a wrong answer and no reason to stop, so such a
    report states no finding, and is counted.

    Args:
        reports (`Sequence[str]`):
            Generated reports.
        labeler (`str`, *optional*, defaults to `"rules"`):
            See [`label_reports`].

    Returns:
        `tuple`: int8 array of shape `[N, 18]`; and the numbers `empty_predictions` and `foreign_predictions`. Only the
        labeler `"rules"` counts reports in a language that it does not read.

    Raises:
        `ValueError`: for a text that is too long for a report. The message names the row.
    """
    check_lengths(reports, "reports")
    empty = np.array([is_missing(text) for text in reports], dtype=bool)
    foreign = np.zeros(len(reports), dtype=bool)
    if labeler == "rules":
        foreign[~empty] = [unread_language(text) is not None for text in np.asarray(reports, dtype=object)[~empty]]
        unread = empty | foreign
        rows = [[0] * len(LABELS) if skip else label_report(text) for text, skip in zip(reports, unread, strict=True)]
        labels = np.array(rows, dtype=np.int8).reshape(len(reports), len(LABELS))
    else:
        labels = _radbert_labels(reports, labeler)
        # The output of the model for an empty text is meaningless.
        labels[empty] = 0
    return labels, {"empty_predictions": int(empty.sum()), "foreign_predictions": int(foreign.sum())}


def _radbert_labels(texts: Sequence[str], labeler: str) -> np.ndarray:
    name, _, checkpoint = labeler.partition(":")
    if name != "radbert" or not checkpoint:
        raise ValueError(
            f"Unknown labeler {labeler!r}; choose 'rules', or 'radbert:CHECKPOINT' with a file, folder or Hub name."
        )
    # Imported here, because it imports transformers, which takes seconds and which the rules do not need.
    from .radbert import THRESHOLD, load_radbert, radbert_probabilities  # noqa: PLC0415

    return (radbert_probabilities(list(texts), *load_radbert(checkpoint)) >= THRESHOLD).astype(np.int8)
