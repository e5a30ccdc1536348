"""Inputs of the label metrics: reports or label vectors, on either side. This file lies beside each metric script."""

from collections.abc import Callable, Sequence

import datasets

from .readable import check_given, check_language, check_lengths, is_missing, name_of_rules


def label_features() -> list[datasets.Features]:
    """All combinations of texts and label vectors on the two sides, for `evaluate.MetricInfo`."""
    # Floats, because an integer feature would silently turn a probability of 0.9 into 0.
    text, vector = datasets.Value("string"), datasets.List(datasets.Value("float64"))
    return [
        datasets.Features({"predictions": prediction, "references": reference})
        for prediction in (text, vector)
        for reference in (text, vector)
    ]


def read_labels(
    predictions: list, references: list, label_report: Callable[[str], list[int]]
) -> tuple[list, list, dict[str, str | int | None]]:
    """
    Label vectors of both sides; `label_report` reads texts. A prediction may be empty: it states nothing, and is
    counted.

    Returns:
        `tuple`: the vectors of the predictions and of the references; and what the result tells about the texts:
        `labeler`, `None` without texts, and `empty_predictions`, `None` if the predictions are vectors.

    Raises:
        `ValueError`: for no rows, a missing reference, a text that is too long for a report, or a text in another
            language than English and Chinese. The message names the row.
    """
    if not len(predictions) or not len(references):
        raise ValueError("There are no reports: `predictions` and `references` need at least one row each.")
    told: dict[str, str | int | None] = {"labeler": None, "empty_predictions": None}
    read: list[str] = []
    if _are_texts(references):
        check_lengths(references, "references")
        check_given(references)
        check_language(references, "references")
        read += references
        references = [label_report(text) for text in references]
    if _are_texts(predictions):
        check_lengths(predictions, "predictions")
        empty = [is_missing(text) for text in predictions]
        texts = ["" if missing else text for text, missing in zip(predictions, empty, strict=True)]
        check_language(texts, "predictions")
        predictions = [label_report(text) for text in texts]
        read += texts
        told["empty_predictions"] = sum(empty)
    if read:
        told["labeler"] = name_of_rules(read)
    return predictions, references, told


def _are_texts(rows: Sequence) -> bool:
    return isinstance(rows[0], str)
