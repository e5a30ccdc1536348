"""Inputs of the label metrics: reports or label vectors, on either side. This file lies beside each metric script."""

from collections.abc import Callable

import datasets


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
) -> tuple[list, list, str | None]:
    """Label vectors of both sides (`label_report` reads texts); and the name of the labeler, `None` without texts."""
    if not len(predictions) or not len(references):
        raise ValueError("There are no reports: `predictions` and `references` need at least one row each.")
    texts = [isinstance(rows[0], str) for rows in (predictions, references)]
    predictions, references = (
        [label_report(row) for row in rows] if text else rows
        for rows, text in zip((predictions, references), texts, strict=True)
    )
    return predictions, references, "rules" if any(texts) else None
