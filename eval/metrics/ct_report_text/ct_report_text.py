"""Word overlap of generated and reference reports under a named recipe: BLEU, ROUGE-L, METEOR and BERTScore."""

import datasets
import evaluate
import pycocoevalcap

from .bootstrap import estimate
from .text_metrics import text_scores


# From the Hub `evaluate` fetches only the siblings that this script itself imports, and asks for the packages that it
# imports where they are not installed: so it names them all, one a line.
__all__ = ["CTReportText", "estimate", "pycocoevalcap"]

_DESCRIPTION = """
BLEU-1 to BLEU-4, ROUGE-L, METEOR and BERTScore of generated reports. The same texts score differently under another
treatment of case and punctuation: compare numbers of one `recipe` only.
"""

_INPUTS = """
Args:
    predictions: generated reports (`list[str]`).
    references: reference reports, one a prediction, none empty.
    recipe: "lower" (lower case, punctuation split off; the default) or "vlm3d" (as the VLM3D challenge does).
    meteor: True for METEOR, which needs Java (optional).
    bertscore_model: encoder for BERTScore, a name on the Hub or a local folder; needs bert-score (optional).
    bertscore_layer: its layer; by default bert-score's choice for a model of this name, else the last (optional).
    volumes: CT-RATE's volume names, one a report, from which the intervals take the patients (optional).
    ci: width of a bootstrap interval by patient, such as 0.95 (optional).
Returns:
    `bleu1`, `bleu2`, `bleu3`, `bleu4`, `rouge_l`, `meteor` and `bertscore_f1` (None unless asked for); `recipe`; with
    BERTScore also `bertscore_hash`. With `ci` also `bleu1_ci` and so on.
"""


class CTReportText(evaluate.Metric):
    """Thin wrapper over [`text_scores`]."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, **options):
        return text_scores(predictions, references, **options)
