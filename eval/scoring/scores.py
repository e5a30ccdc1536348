"""All numbers of a set of reports in one flat dict, and the table that sets a model beside the trivial rows."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.crg import crg
from ct_rate_pairs.eval.metrics.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.metrics.text_metrics import text_scores
from ct_rate_pairs.reports.labels import LABELS

from .labelers import label_reports


def score_reports(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: np.ndarray,
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
    labeler: str = "rules",
    recipe: str = "lower",
    meteor: bool = False,
    bertscore_model: str | None = None,
) -> dict:
    """
    Scores generated reports against reference reports and the data set's own labels.

    Args:
        predictions (`Sequence[str]`):
            Generated reports.
        references (`Sequence[str]`):
            Reference reports, one a prediction: for the text metrics.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels in the official order: for all other numbers. They come from the data set and not from a
            labeler run over `references`, so a labeler's error on the reference cannot cancel its error on the
            prediction.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, from which the intervals take the patients.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.
        labeler (`str`, *optional*, defaults to `"rules"`):
            What reads the labels of `predictions`, see [`~ct_rate_pairs.eval.label_reports`].
        recipe (`str`, *optional*, defaults to `"lower"`), meteor (`bool`, *optional*, defaults to `False`), \
        bertscore_model (`str`, *optional*):
            See [`~ct_rate_pairs.eval.text_scores`].

    Returns:
        `dict`: the keys of [`~ct_rate_pairs.eval.coverage`], [`~ct_rate_pairs.eval.label_accuracy`],
        [`~ct_rate_pairs.eval.metrics.crg`] and [`~ct_rate_pairs.eval.text_scores`], `n` (the number of reports), and the names
        that belong to the numbers: `labeler` and `recipe`. Each row of `per_label` also holds the label's `coverage`.
        Ready for `json.dump`; a number without a meaning is `None`.

    Raises:
        `ValueError`: for no reports, unequal numbers of them, an empty reference, or labels of another shape or value.
    """
    stated = label_reports(predictions, labeler=labeler)
    by_patient = {"volumes": volumes, "ci": ci}
    covered = coverage(stated, labels, LABELS, **by_patient)
    agreement = label_accuracy(stated, labels, LABELS, **by_patient)
    return {
        **covered,
        **agreement,
        **crg(stated, labels, LABELS, **by_patient),
        **text_scores(predictions, references, recipe, meteor=meteor, bertscore_model=bertscore_model, **by_patient),
        "per_label": {name: {**covered["per_label"][name], **agreement["per_label"][name]} for name in LABELS},
        "n": len(predictions),
        "labeler": labeler,
    }
