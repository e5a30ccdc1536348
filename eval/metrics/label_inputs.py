"""What the label metrics take: reports or label vectors, on either side. Lies flat beside each of their scripts."""

from collections.abc import Callable

import datasets


def label_features() -> list[datasets.Features]:
    """All combinations of texts and vectors, for `evaluate.MetricInfo`."""
    # Floats, as integers would cut a probability of 0.9 to 0 unseen.
    text, vector = datasets.Value("string"), datasets.List(datasets.Value("float64"))
    return [
        datasets.Features({"predictions": prediction, "references": reference})
        for prediction in (text, vector)
        for reference in (text, vector)
    ]


def read_labels(
    predictions: list, references: list, label_report: Callable[[str], list[int]]
) -> tuple[list, list, str | None]:
    """Label vectors of both sides, texts read by `label_report`; and the labeler's name, `None` without any text."""
    if not len(predictions) or not len(references):
        raise ValueError("There are no reports: `predictions` and `references` need at least one row each.")
    texts = [isinstance(rows[0], str) for rows in (predictions, references)]
    predictions, references = (
        [label_report(row) for row in rows] if text else rows
        for rows, text in zip((predictions, references), texts, strict=True)
    )
    return predictions, references, "rules" if any(texts) else None
