"""
Functions from label vectors to numbers: Coverage, accuracy, precision, recall and F1.

All take 0/1 arrays of shape `[N, L]` (reports by labels). No result is NaN: a quotient with denominator 0 is `None` if
it is undefined, and 0 if a wrong report caused it; each docstring states which. This file imports only numpy and
`bootstrap.py`, because both files are also shipped beside the `evaluate` scripts.
"""

from collections.abc import Sequence

import numpy as np

from .bootstrap import divide, estimate, known


def check_labels(rows: Sequence[Sequence[int]], names: Sequence[str], what: str) -> np.ndarray:
    """
    Checks label rows and turns them into an array.

    Args:
        rows (`Sequence[Sequence[int]]`):
            Label rows, one per report.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        what (`str`):
            Name of the rows in error messages, such as `"predictions"` or `"references"`.

    Returns:
        `np.ndarray`: int64 array of shape `[N, L]`.

    Raises:
        `ValueError`: if there are no rows, if a row's length differs from that of `names`, or if a value is neither 0
            nor 1.
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
    """Checks both sides with [`check_labels`]; raises a `ValueError` if their numbers of rows differ."""
    if len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} references: pass one prediction per reference, in "
            "the same order."
        )
    return check_labels(predictions, names, "predictions"), check_labels(references, names, "references")


def ratio(part: int, whole: int) -> float | None:
    """`part / whole`; `None` if `whole` is 0."""
    return known(divide(part, whole))


def mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are not NaN; NaN if there are none."""
    return divide(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def label_statistics(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """
    Statistics of each report. All label metrics are functions of their sums over the reports.

    Returns:
        `dict[str, np.ndarray]`: `hits` (labels that are stated and true), `predicted` (stated) and `support` (true),
        of shape `[N, L]`; `exact` (whether all L labels are right) and `reports` (ones), of shape `[N]`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of a wrong length, or a value other than 0 and 1.
    """
    predictions, references = check_pair(predictions, references, names)
    return {
        "hits": predictions * references,
        "predicted": predictions,
        "support": references,
        "exact": (predictions == references).all(axis=1),
        "reports": np.ones(len(predictions), dtype=int),
    }


def per_label(names: Sequence[str], **columns: np.ndarray) -> dict[str, dict[str, float | int | None]]:
    """The table `per_label`: one row per name, with a value from each of `columns`, `[L]`."""
    return {name: {key: known(values[i]) for key, values in columns.items()} for i, name in enumerate(names)}


def coverage(
    predictions: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict[str, float | list | dict | None]:
    r"""
    Coverage, the paper's metric: the share of the reference's positive labels that the generated report states too,
    \\(\sum_{n,l} y_{nl} \hat{y}_{nl} / \sum_{n,l} y_{nl}\\).

    Coverage is the micro-averaged recall. False positives cost nothing, so read Coverage together with precision.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `coverage` over all positives; `coverage_macro`, the mean over the labels that occur in the references;
        `per_label`, which maps each name to its `coverage` and `support` (number of reference positives). A label that
        never occurs has coverage `None` and is left out of the macro mean. Without any reference positive, all
        coverages are `None`. With `ci` also `coverage_ci`, `coverage_macro_ci` and `ci_level`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of a wrong length, or a value other than 0 and 1.
    """
    statistics = label_statistics(predictions, references, names)
    hits, support = statistics["hits"].sum(axis=0), statistics["support"].sum(axis=0)  # [L], [L]
    return {
        **estimate(statistics, coverage_scores, volumes, ci),
        "per_label": per_label(names, coverage=divide(hits, support), support=support),
    }


def coverage_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers of [`coverage`], computed from the sums of [`label_statistics`]; leading axes are kept."""
    hits, support = sums["hits"], sums["support"]  # [..., L]
    return {
        "coverage": divide(hits.sum(axis=-1), support.sum(axis=-1)),
        "coverage_macro": mean_known(divide(hits, support)),
    }


def precision_recall_f1(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> dict[str, np.ndarray]:
    """
    Precision, recall and F1 from counts of true positives, predicted positives and reference positives.

    Without predicted positives, precision is 0 if there are reference positives. Without reference positives, recall
    is NaN. F1 is \\(2 hits / (predicted + support)\\), which is 0 without hits. Without positives on both sides, all
    three are NaN.
    """
    return {
        "precision": np.where((predicted == 0) & (support > 0), 0, divide(hits, predicted)),
        "recall": divide(hits, support),
        "f1": divide(2 * hits, predicted + support),
    }


def label_accuracy(
    predictions: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict[str, float | list | dict | None]:
    """
    Agreement of label vectors: accuracy, precision, recall and F1.

    Most labels are negative, so the all-negative report already reaches an accuracy of about .81 on CT-RATE. Read
    accuracy together with F1 and with the numbers of the trivial reports.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `accuracy`, the share of the N x L entries that agree; `exact_match`, the share of reports with all L
        labels right; `precision_micro`, `recall_micro`, `f1_micro` over all entries; `precision_macro`,
        `recall_macro`, `f1_macro`, means over the labels that occur in the references; `per_label`, which maps each
        name to `precision`, `recall`, `f1`, `accuracy`, `support` and `predicted`. A value that
        [`precision_recall_f1`] leaves undefined is `None`. With `ci` also an interval of every number outside
        `per_label`, and `ci_level`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of a wrong length, or a value other than 0 and 1.
    """
    statistics = label_statistics(predictions, references, names)
    sums = {name: values.sum(axis=0) for name, values in statistics.items()}
    counts = {name: sums[name] for name in ("hits", "predicted", "support")}
    return {
        **estimate(statistics, accuracy_scores, volumes, ci),
        "per_label": per_label(
            names,
            **precision_recall_f1(**counts),
            accuracy=agreeing(sums) / sums["reports"],
            support=sums["support"],
            predicted=sums["predicted"],
        ),
    }


def agreeing(sums: dict[str, np.ndarray]) -> np.ndarray:
    """Number of reports that agree on each label, `[..., L]`: all reports, less those positive on one side only."""
    return sums["reports"][..., None] - sums["predicted"] - sums["support"] + 2 * sums["hits"]


def accuracy_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers of [`label_accuracy`], computed from the sums of [`label_statistics`]; leading axes are kept."""
    counts = [sums[name] for name in ("hits", "predicted", "support")]  # [..., L] each
    micro = precision_recall_f1(*(count.sum(axis=-1) for count in counts))
    each = precision_recall_f1(*counts)
    occurs = sums["support"] > 0
    return {
        "accuracy": (agreeing(sums) / sums["reports"][..., None]).mean(axis=-1),
        "exact_match": sums["exact"] / sums["reports"],
        **{f"{key}_micro": value for key, value in micro.items()},
        **{f"{key}_macro": mean_known(np.where(occurs, value, np.nan)) for key, value in each.items()},
    }
