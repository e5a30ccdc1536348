"""Agreement on the 18 chest-CT labels: accuracy, exact match, precision, recall and F1."""

import evaluate

from .bootstrap import estimate
from .label_inputs import label_features, read_labels
from .label_metrics import label_accuracy
from .labels import LABELS
from .rules import label_report
from .terms import TERMS


# From the Hub `evaluate` fetches only the siblings that this script itself imports, so it names them all, one a line.
__all__ = ["TERMS", "CTLabelAccuracy", "estimate"]

_DESCRIPTION = """
Agreement of a generated report with the reference on the 18 labels of CT-RATE. Accuracy = equal entries / all entries.
Most labels are negative: the all-negative report reaches about .81 in accuracy on CT-RATE, so read F1 beside it.
"""

_INPUTS = """
Args:
    predictions: reports (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1 in CT-RATE's order).
    references: reports or label vectors, one a prediction. Take CT-RATE's own labels where there are any: a labeler
        that reads both sides makes the same mistake twice, and it goes unseen.
    volumes: CT-RATE's volume names, one a report, from which the intervals take the patients (optional).
    ci: width of a bootstrap interval by patient, such as 0.95 (optional).
Returns:
    `accuracy`; `exact_match`, the share of reports with all 18 right; `precision_micro`, `recall_micro`, `f1_micro`;
    `precision_macro`, `recall_macro`, `f1_macro`, means over the labels that occur in the references; `per_label`, for
    each label `precision`, `recall`, `f1`, `accuracy`, `support` and `predicted` (None where a value has no meaning);
    `labeler`, what read the texts (None if all were vectors). With `ci` also `accuracy_ci` and so on.
"""


class CTLabelAccuracy(evaluate.Metric):
    """Thin wrapper: texts to labels, labels to [`label_accuracy`]."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=label_features()
        )

    def _compute(self, predictions, references, volumes=None, ci=None):
        predictions, references, labeler = read_labels(predictions, references, label_report)
        return {**label_accuracy(predictions, references, LABELS, volumes=volumes, ci=ci), "labeler": labeler}
