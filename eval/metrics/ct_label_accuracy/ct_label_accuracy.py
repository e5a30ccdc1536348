"""Agreement on the 18 chest-CT labels: accuracy, exact match, precision, recall and F1."""

import datasets
import evaluate

from .label_metrics import label_accuracy
from .labels import LABELS
from .report_labels import label_report
from .report_terms import TERMS


# From the Hub `evaluate` fetches only the siblings that this script itself imports, so it names them all, one a line.
__all__ = ["TERMS", "CTLabelAccuracy"]

_DESCRIPTION = """
Agreement of a generated report with the reference on the 18 labels of CT-RATE. Accuracy = equal entries / all entries.
Most labels are negative: the all-negative report reaches about .81 in accuracy on CT-RATE, so read F1 beside it.
"""

_INPUTS = """
Args:
    predictions: reports (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1 in CT-RATE's order).
    references: reports or label vectors, one a prediction.
Returns:
    `accuracy`; `exact_match`, the share of reports with all 18 right; `precision_micro`, `recall_micro`, `f1_micro`;
    `precision_macro`, `recall_macro`, `f1_macro`, means over the labels that occur in the references; `per_label`, for
    each label `precision`, `recall`, `f1`, `accuracy`, `support` and `predicted` (None where a value has no meaning);
    `labeler`, what read the texts (None if all were vectors).
"""


class CTLabelAccuracy(evaluate.Metric):
    """Thin wrapper: texts to labels, labels to [`label_accuracy`]."""

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
        return {**label_accuracy(predictions, references, LABELS), "labeler": "rules" if texts else None}
