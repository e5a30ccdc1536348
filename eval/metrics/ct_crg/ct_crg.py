"""CRG, the clinical score of the VLM3D challenge, on the 18 chest-CT labels."""

import evaluate

from .bootstrap import estimate
from .chinese_rules import stated_findings
from .chinese_terms import ORGANS
from .clauses import split_clauses
from .crg import crg
from .label_inputs import label_features, read_labels
from .label_metrics import label_statistics
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
    "CTCrg",
    "estimate",
    "is_missing",
    "label_statistics",
    "negated_spans",
    "split_clauses",
    "split_sentences",
    "stated_findings",
    "write_plainly",
]

_DESCRIPTION = """
CRG = U / (2U - s) with s = r TP - r FN - FP, r = (X - A) / 2A and U = (X - A) / 2, where A of the X entries (reports
times 18 labels of CT-RATE) are positive in the references. All-negative and all-positive reports score 1/3, perfect
reports 1. For the challenge's own number, label the reports with the challenge's classifier and pass the vectors.
"""

_CITATION = """
Hamamci et al. CRG Score: A Distribution-Aware Clinical Metric for Radiology Report Generation. MIDL 2025 (short
paper), arXiv:2505.17167.
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
    `crg` in [1/5, 1], None if the references hold no positive label or no negative label;
    `labeler`, which read the texts ("rules", or "rules_zh" if one is Chinese; None without texts);
    `empty_predictions`, how many predictions hold no text, which count as reports without a finding (None without
    texts). With `ci` also `crg_ci`.
"""


class CTCrg(TakesMissingTexts, evaluate.Metric):
    """Turns texts into labels, and passes the labels to [`crg`]."""

    def _info(self):
        """The description of the metric and the features of its inputs."""
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation=_CITATION, inputs_description=_INPUTS, features=label_features()
        )

    def _compute(self, predictions, references, volumes=None, ci=None):
        """The metric of a set of reports, see `_INPUTS`."""
        predictions, references, told = read_labels(predictions, references, label_report)
        return {**crg(predictions, references, LABELS, volumes=volumes, ci=ci), **told}
