"""Coverage of the 18 chest-CT labels: the share of the reference's positive labels that a generated report states."""

import evaluate

from .bootstrap import estimate
from .chinese_rules import stated_findings
from .chinese_terms import ORGANS
from .clauses import split_clauses
from .label_inputs import label_features, read_labels
from .label_metrics import coverage
from .labels import LABELS
from .missing_texts import TakesMissingTexts
from .negations import negated_spans
from .own_copy import check_own_copy
from .plain_sentences import write_plainly
from .readable import is_missing
from .rules import label_report
from .sentence_spans import split_sentences
from .terms import TERMS


check_own_copy(__file__)

# From the Hub, `evaluate` fetches only those files that this script itself imports. So the script imports all of them,
# one per line.
__all__ = [
    "ORGANS",
    "TERMS",
    "CTCoverage",
    "estimate",
    "is_missing",
    "negated_spans",
    "split_clauses",
    "split_sentences",
    "stated_findings",
    "write_plainly",
]

_DESCRIPTION = """
Coverage = positive labels of the reference that the prediction states too / positive labels of the reference, over the
18 labels of CT-RATE. Coverage is the micro-averaged recall: false positives cost nothing, so read it with precision.
"""

_INPUTS = """
Args:
    predictions: reports in English or Chinese (`list[str]`), or label vectors (`list[list[int]]`, 18 values of 0 or 1
        in CT-RATE's order). An empty report states no finding, and is counted.
    references: reports or label vectors, one per prediction; no report may be missing. Pass CT-RATE's own labels if
        there are any: a labeler that reads both sides makes the same mistake on both, and the metric does not show the
        mistake.
    volumes: CT-RATE's volume names, one per report; they name the patients to resample (optional).
    ci: level of the bootstrap intervals by patient, such as 0.95 (optional).
Returns:
    `coverage` (micro); `coverage_macro`, the mean over the labels that occur in the references; `per_label`, for each
    label its `coverage` (None if the label never occurs) and `support`;
    `labeler`, which read the texts ("rules", or "rules_zh" if one is Chinese; None without texts);
    `empty_predictions`, how many predictions hold no text, which count as reports without a finding (None without
    texts). With `ci` also `coverage_ci` and `coverage_macro_ci`.
"""


class CTCoverage(TakesMissingTexts, evaluate.Metric):
    """Turns texts into labels, and passes the labels to [`coverage`]."""

    def _info(self):
        """The description of the metric and the features of its inputs."""
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=label_features()
        )

    def _compute(self, predictions, references, volumes=None, ci=None):
        """The metric of a set of reports, see `_INPUTS`."""
        predictions, references, told = read_labels(predictions, references, label_report)
        return {**coverage(predictions, references, LABELS, volumes=volumes, ci=ci), **told}
