"""Coverage of the 18 chest-CT labels: the share of the reference's positive labels that a generated report states."""

import datasets
import evaluate

from .label_metrics import coverage
from .labels import LABELS
from .report_labels import label_report
from .report_terms import TERMS


# From the Hub `evaluate` fetches only the siblings that this script itself imports, so it names them all, one a line.
__all__ = ["TERMS", "CTCoverage"]

_DESCRIPTION = """
Coverage = positive labels of the reference that the prediction states too / positive labels of the reference, over the
18 labels of CT-RATE. It is the micro-averaged recall: false positives cost nothing, so read it beside precision.
"""

_INPUTS = """
Args:
    predictions: reports (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1 in CT-RATE's order).
    references: reports or label vectors, one a prediction.
Returns:
    `coverage` (micro); `coverage_macro`, the mean over the labels that occur in the references; `per_label`, for each
    label its `coverage` (None where the label never occurs) and `support`; `labeler`, what read the texts (None if all
    were vectors).
"""


class CTCoverage(evaluate.Metric):
    """Thin wrapper: texts to labels, labels to [`coverage`]."""

    def _info(self):
        # Floats, as integers would cut a probability of 0.9 to 0 unseen.
        text, vector = datasets.Value("string"), datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": prediction, "references": reference})
                for prediction in (text, vector)
                for reference in (text, vector)
            ],
        )

    def _compute(self, predictions, references):
        texts = isinstance(predictions[0], str) or isinstance(references[0], str)
        predictions, references = (
            [label_report(row) if isinstance(row, str) else row for row in rows] for rows in (predictions, references)
        )
        return {**coverage(predictions, references, LABELS), "labeler": "rules" if texts else None}
