"""
Plain functions from label vectors to numbers: Coverage, accuracy, precision, recall and F1.

All take 0/1 arrays of shape `[N, L]` (reports by labels). Nothing that they return is NaN: a quotient without a
denominator is `None` where it has no meaning and 0 where the report earned nothing; each function says which. This
file needs numpy and its neighbour alone, as both are also shipped beside the `evaluate` modules.
"""

from collections.abc import Sequence

import numpy as np

from .bootstrap import divide, estimate, known


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


def ratio(part: int, whole: int) -> float | None:
    """`part / whole`, or `None` where `whole` is 0."""
    return known(divide(part, whole))


def mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that are not NaN; NaN if there are none."""
    return divide(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def label_statistics(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """
    What each report adds to the sums that all label metrics are made of.

    Returns:
        `dict[str, np.ndarray]`: `hits` (stated and true), `predicted` and `support` of shape `[N, L]`; `exact` (all L
        right) and `reports` (ones) of shape `[N]`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
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
    """The table `per_label`: for each name its value in every column `[L]`."""
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
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            For bootstrap intervals by patient: [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `coverage` over all positives; `coverage_macro`, the mean over the labels that occur in the references;
        `per_label`, for each name its `coverage` and its `support` (number of reference positives). A label that never
        occurs has coverage `None` and is left out of the macro mean; without any reference positive all are `None`.
        With `ci` also `coverage_ci` and `coverage_macro_ci`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
    """
    statistics = label_statistics(predictions, references, names)
    hits, support = statistics["hits"].sum(axis=0), statistics["support"].sum(axis=0)  # [L], [L]
    return {
        **estimate(statistics, coverage_scores, volumes, ci),
        "per_label": per_label(names, coverage=divide(hits, support), support=support),
    }


def coverage_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[`coverage`]'s numbers from the sums of [`label_statistics`]; leading axes stay."""
    hits, support = sums["hits"], sums["support"]  # [..., L]
    return {
        "coverage": divide(hits.sum(axis=-1), support.sum(axis=-1)),
        "coverage_macro": mean_known(divide(hits, support)),
    }


def precision_recall_f1(hits: np.ndarray, predicted: np.ndarray, support: np.ndarray) -> dict[str, np.ndarray]:
    """
    Precision, recall and F1 from counts of true positives, predicted positives and reference positives.

    Precision is 0 where nothing was predicted although something is there, recall is NaN where nothing is there,
    and F1, \\(2 hits / (predicted + support)\\), is 0 where either is 0. With neither predicted nor reference
    positives all three are NaN.
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
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            For bootstrap intervals by patient: [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `accuracy`, the share of the N x L entries that agree; `exact_match`, the share of reports with all L
        right; `precision_micro`, `recall_micro`, `f1_micro` over all entries; `precision_macro`, `recall_macro`,
        `f1_macro`, means over the labels that occur in the references; `per_label`, for each name `precision`,
        `recall`, `f1`, `accuracy`, `support` and `predicted`. [`precision_recall_f1`] says where a value has no
        meaning and is `None`. With `ci` also an interval of every number outside `per_label`.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
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
    """Number of reports whose label agrees, `[..., L]`: all, less those positive on one side alone."""
    return sums["reports"][..., None] - sums["predicted"] - sums["support"] + 2 * sums["hits"]


def accuracy_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[`label_accuracy`]'s numbers from the sums of [`label_statistics`]; leading axes stay."""
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
