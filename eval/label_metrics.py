"""
Plain functions from label vectors to numbers: Coverage, accuracy, precision, recall and F1.

All take 0/1 arrays of shape `[N, L]` (reports by labels). Nothing is ever NaN: a quotient without a denominator is
`None` where it has no meaning and 0 where the report earned nothing; each function says which. This file needs numpy
alone, as it is also shipped beside the `evaluate` modules.
"""

from collections.abc import Sequence

import numpy as np


def check_labels(rows: Sequence[Sequence[int]], names: Sequence[str], what: str) -> np.ndarray:
    """
    Turns label rows into an array, or says what is wrong with them.

    Args:
        rows (`Sequence[Sequence[int]]`):
            Label rows, one a report.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        what (`str`):
            Name of the rows in an error: `"predictions"` or `"references"`.

    Returns:
        `np.ndarray`: int64 array of shape `[N, L]`.

    Raises:
        `ValueError`: if there are no rows, a row has another length than `names`, or a value is neither 0 nor 1.
    """
    if len(rows) == 0:
        raise ValueError(f"`{what}` is empty: there is no report to score.")
    for index, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(
                f"`{what}` row {index} has {len(row)} labels; {len(names)} are expected: {', '.join(names)}."
            )
    values = np.asarray(rows)  # [N, L]
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"`{what}` row {row}, label {names[column]!r}: {values[row, column].item()!r} is neither 0 nor 1; "
            "threshold probabilities first."
        )
    return values.astype(np.int64)


def check_pair(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides through [`check_labels`]; unequal numbers of rows raise a `ValueError`."""
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references: pass one prediction a reference, in "
            "the same order."
        )
    return check_labels(predictions, names, "predictions"), check_labels(references, names, "references")


def ratio(part: int, whole: int, empty: float | None = None) -> float | None:
    """`part / whole`, or `empty` where `whole` is 0."""
    return float(part / whole) if whole else empty


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean over the values that are not `None`; `None` if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def coverage(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, float | dict | None]:
    r"""
    Coverage, the paper's measure of a report: the share of the reference's positive labels that the report states too,
    \\(\sum_{n,l} y_{nl} \hat{y}_{nl} / \sum_{n,l} y_{nl}\\). It is the micro-averaged recall; false positives cost
    nothing, so read it beside precision.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.

    Returns:
        `dict`: `coverage` over all positives; `coverage_macro`, the mean over the labels that occur in the references;
        `per_label`, for each name its `coverage` and its `support` (number of reference positives). A label that never
        occurs has coverage `None` and is left out of the macro mean; without any reference positive all are `None`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
    """
    predictions, references = check_pair(predictions, references, names)
    hits = (predictions * references).sum(axis=0)  # [L]
    support = references.sum(axis=0)  # [L]
    per_label = {
        name: {"coverage": ratio(hits[i], support[i]), "support": int(support[i])} for i, name in enumerate(names)
    }
    return {
        "coverage": ratio(hits.sum(), support.sum()),
        "coverage_macro": mean_known([row["coverage"] for row in per_label.values()]),
        "per_label": per_label,
    }


def precision_recall_f1(hits: int, predicted: int, support: int) -> dict[str, float | None]:
    """
    Precision, recall and F1 from counts of true positives, predicted positives and reference positives.

    Precision is 0 where nothing was predicted although something is there, recall is `None` where nothing is there,
    and F1, \\(2 hits / (predicted + support)\\), is 0 where either is 0. With neither predicted nor reference
    positives all three are `None`.
    """
    return {
        "precision": ratio(hits, predicted, empty=0.0 if support else None),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, predicted + support),
    }


def label_accuracy(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, float | dict | None]:
    """
    Agreement of label vectors: accuracy, and precision, recall and F1.

    Most labels are negative, so the all-negative report already reaches an accuracy of about .81 on CT-RATE: read it
    beside F1 and the trivial rows.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.

    Returns:
        `dict`: `accuracy`, the share of the N x L entries that agree; `exact_match`, the share of reports with all L
        right; `precision_micro`, `recall_micro`, `f1_micro` over all entries; `precision_macro`, `recall_macro`,
        `f1_macro`, means over the labels that occur in the references; `per_label`, for each name `precision`,
        `recall`, `f1`, `accuracy`, `support` and `predicted`. [`precision_recall_f1`] says where a value is `None`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
    """
    predictions, references = check_pair(predictions, references, names)
    agree = predictions == references  # [N, L]
    hits = (predictions * references).sum(axis=0)  # [L]
    predicted, support = predictions.sum(axis=0), references.sum(axis=0)  # [L], [L]
    per_label = {
        name: {
            **precision_recall_f1(hits[i], predicted[i], support[i]),
            "accuracy": float(agree[:, i].mean()),
            "support": int(support[i]),
            "predicted": int(predicted[i]),
        }
        for i, name in enumerate(names)
    }
    micro = precision_recall_f1(hits.sum(), predicted.sum(), support.sum())
    occurring = [row for row in per_label.values() if row["support"]]
    return {
        "accuracy": float(agree.mean()),
        "exact_match": float(agree.all(axis=1).mean()),
        **{f"{key}_micro": value for key, value in micro.items()},
        **{f"{key}_macro": mean_known([row[key] for row in occurring]) for key in micro},
        "per_label": per_label,
    }
