"""Word overlap of generated and reference reports under a named recipe: BLEU, ROUGE-L, METEOR and BERTScore."""

import datasets
import evaluate

from .bootstrap import estimate
from .missing_texts import TakesMissingTexts
from .own_copy import check_own_copy
from .readable import is_missing
from .text_metrics import text_scores


check_own_copy(__file__)

# From the Hub, `evaluate` fetches only those files that this script itself imports. So the script imports all of them,
# one per line.
__all__ = ["CTReportText", "estimate", "is_missing"]

_DESCRIPTION = """
BLEU-1 to BLEU-4, ROUGE-L, METEOR and BERTScore of generated reports. Scores of the same texts depend on the treatment
of case and punctuation: compare only numbers of the same `recipe`.
"""

_INPUTS = """
Args:
    predictions: generated reports (`list[str]`). An empty report scores 0, and is counted.
    references: reference reports, one per prediction; none may be missing.
    recipe: "lower" (lower case, punctuation split off; the default), "vlm3d" (as the VLM3D challenge does) or "zh"
        (as sacrebleu splits Chinese; needs sacrebleu).
    meteor: True for METEOR, which needs pycocoevalcap and Java (optional).
    bertscore_model: encoder for BERTScore, a name on the Hub or a local folder; needs bert-score (optional).
    bertscore_layer: layer of the encoder; by default bert-score's choice for a model of this name, or the last layer
        if bert-score does not know the model (optional).
    volumes: CT-RATE's volume names, one per report; they name the patients to resample (optional).
    ci: level of the bootstrap intervals by patient, such as 0.95 (optional).
Returns:
    `bleu1`, `bleu2`, `bleu3`, `bleu4`, `rouge_l`, `meteor` and `bertscore_f1` (None unless requested); `recipe`; with
    BERTScore also `bertscore_hash`; `empty_predictions`, how many predictions
    hold no text. With `ci` also `bleu1_ci` and so on.
"""


class CTReportText(TakesMissingTexts, evaluate.Metric):
    """Passes texts and options to [`text_scores`]."""

    def _info(self):
        """The description of the metric and the features of its inputs."""
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, **options):
        """The metric of a set of reports, see `_INPUTS`."""
        return text_scores(predictions, references, **options)
