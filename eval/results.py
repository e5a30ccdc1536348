"""All numbers of a set of reports in one flat dict, and the table that sets a model beside the trivial rows."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.labeler import label_reports
from ct_rate_pairs.eval.text_metrics import text_scores
from ct_rate_pairs.labels import LABELS


# Column titles of the table and the keys they show.
COLUMNS = {
    "Coverage": "coverage",
    "Precision": "precision_micro",
    "F1 micro": "f1_micro",
    "Accuracy": "accuracy",
    "BLEU-1": "bleu1",
    "BLEU-4": "bleu4",
    "ROUGE-L": "rouge_l",
    "loss gap": "loss_gap",
}


def score_reports(predictions: Sequence[str], references: Sequence[str], labels: np.ndarray) -> dict:
    """
    Scores generated reports against reference reports and the data set's own labels.

    Args:
        predictions (`Sequence[str]`):
            Generated reports.
        references (`Sequence[str]`):
            Reference reports, one a prediction: for BLEU and ROUGE-L.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels in the official order: for all other numbers. They come from the data set and not from a
            labeler run over `references`, so a labeler's error on the reference cannot cancel its error on the
            prediction.

    Returns:
        `dict`: the keys of [`~ct_rate_pairs.eval.coverage`], [`~ct_rate_pairs.eval.label_accuracy`] and
        [`~ct_rate_pairs.eval.text_scores`], `n` (the number of reports), and the names that belong to the numbers:
        `labeler` and `recipe`. Each row of `per_label` also holds the label's `coverage`. Ready for `json.dump`; a
        number without a meaning is `None`.

    Raises:
        `ValueError`: for no reports, unequal numbers of them, an empty reference, or labels of another shape or value.
    """
    stated = label_reports(predictions, labeler="rules")
    covered = coverage(stated, labels, LABELS)
    agreement = label_accuracy(stated, labels, LABELS)
    return {
        **covered,
        **agreement,
        **text_scores(predictions, references, recipe="lower"),
        "per_label": {name: {**covered["per_label"][name], **agreement["per_label"][name]} for name in LABELS},
        "n": len(predictions),
        "labeler": "rules",
    }


def format_table(rows: dict[str, dict]) -> str:
    """
    The terminal table: one line a row, a model's beside the trivial reports'.

    Args:
        rows (`dict[str, dict]`):
            Name of a row to its numbers, as [`score_reports`] gives them; `loss_gap` in nats a token where it is
            known.

    Returns:
        `str`: the table; `-` where a row has no such number. A last line names the labeler and the recipe.
    """
    cells = [["", *COLUMNS]]
    for name, numbers in rows.items():
        values = [numbers.get(key) for key in COLUMNS.values()]
        cells.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    lines.insert(1, "-" * len(lines[0]))
    named = {f"{key}: {numbers[key]}" for numbers in rows.values() for key in ("labeler", "recipe") if key in numbers}
    return "\n".join([*lines, ", ".join(sorted(named))])
