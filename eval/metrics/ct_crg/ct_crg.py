"""CRG, the clinical score of the VLM3D challenge, on the 18 chest-CT labels."""

import evaluate

from .bootstrap import estimate
from .crg import crg
from .label_inputs import label_features, read_labels
from .label_metrics import label_statistics
from .labels import LABELS
from .rules import label_report
from .terms import TERMS


# From the Hub `evaluate` fetches only the siblings that this script itself imports, so it names them all, one a line.
__all__ = ["TERMS", "CTCrg", "estimate", "label_statistics"]

_DESCRIPTION = """
CRG = U / (2U - s) with s = r TP - r FN - FP, r = (X - A) / 2A and U = (X - A) / 2, where A of the X entries (reports
times 18 labels of CT-RATE) are positive in the references. All-negative and all-positive reports have 1/3, perfect
ones 1. For the challenge's own number label the reports with its classifier and pass the vectors.
"""

_CITATION = """
Hamamci et al. CRG Score: A Distribution-Aware Clinical Metric for Radiology Report Generation. MIDL 2025 (short
paper), arXiv:2505.17167.
"""

_INPUTS = """
Args:
    predictions: reports (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1 in CT-RATE's order).
    references: reports or label vectors, one a prediction. Take CT-RATE's own labels where there are any: a labeler
        that reads both sides makes the same mistake twice, and it goes unseen.
    volumes: CT-RATE's volume names, one a report, from which the intervals take the patients (optional).
    ci: width of a bootstrap interval by patient, such as 0.95 (optional).
Returns:
    `crg` in [1/5, 1], None where the references hold no positive label, or no negative one;
    `labeler`, what read the texts (None if all were vectors). With `ci` also `crg_ci`.
"""


class CTCrg(evaluate.Metric):
    """Thin wrapper: texts to labels, labels to [`crg`]."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation=_CITATION, inputs_description=_INPUTS, features=label_features()
        )

    def _compute(self, predictions, references, volumes=None, ci=None):
        predictions, references, labeler = read_labels(predictions, references, label_report)
        return {**crg(predictions, references, LABELS, volumes=volumes, ci=ci), "labeler": labeler}
