"""Coverage of the 18 chest-CT labels: the share of the reference's positive labels that a generated report states."""

import evaluate

from .bootstrap import estimate
from .label_inputs import label_features, read_labels
from .label_metrics import coverage
from .labels import LABELS
from .rules import label_report
from .terms import TERMS


# From the Hub `evaluate` fetches only the siblings that this script itself imports, so it names them all, one a line.
__all__ = ["TERMS", "CTCoverage", "estimate"]

_DESCRIPTION = """
Coverage = positive labels of the reference that the prediction states too / positive labels of the reference, over the
18 labels of CT-RATE. It is the micro-averaged recall: false positives cost nothing, so read it beside precision.
"""

_INPUTS = """
Args:
    predictions: reports (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1 in CT-RATE's order).
    references: reports or label vectors, one a prediction. Take CT-RATE's own labels where there are any: a labeler
        that reads both sides makes the same mistake twice, and it goes unseen.
    volumes: CT-RATE's volume names, one a report, from which the intervals take the patients (optional).
    ci: width of a bootstrap interval by patient, such as 0.95 (optional).
Returns:
    `coverage` (micro); `coverage_macro`, the mean over the labels that occur in the references; `per_label`, for each
    label its `coverage` (None where the label never occurs) and `support`;
    `labeler`, what read the texts (None if all were vectors). With `ci` also `coverage_ci` and `coverage_macro_ci`.
"""


class CTCoverage(evaluate.Metric):
    """Thin wrapper: texts to labels, labels to [`coverage`]."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=label_features()
        )

    def _compute(self, predictions, references, volumes=None, ci=None):
        predictions, references, labeler = read_labels(predictions, references, label_report)
        return {**coverage(predictions, references, LABELS, volumes=volumes, ci=ci), "labeler": labeler}
