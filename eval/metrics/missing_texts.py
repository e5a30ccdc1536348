"""Lets a metric of `evaluate` take missing reports, to name or count them. The file lies beside each metric script."""

from collections.abc import Sequence


class TakesMissingTexts:
    """
    A base class for a metric: `None` or NaN among texts becomes an empty text. Without it, `evaluate` would take
    `None` in the first row for a label vector, and NaN for the text "nan".
    """

    def add_batch(self, *, predictions=None, references=None, **others):
        """Adds rows to the metric."""
        super().add_batch(predictions=with_texts(predictions), references=with_texts(references), **others)

    def add(self, *, prediction=None, reference=None, **others):
        """Adds one row to the metric."""
        super().add(prediction=with_texts([prediction])[0], reference=with_texts([reference])[0], **others)


def with_texts(rows: Sequence | None) -> Sequence | None:
    """The rows with an empty text in the place of `None` and NaN, if they are texts. Label vectors stay the same."""
    if rows is None or not all(row is None or isinstance(row, str | float) for row in rows):
        return rows
    return [row if isinstance(row, str) else "" for row in rows]
