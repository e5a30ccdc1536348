"""All scores of a set of reports in one dict."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.crg import crg
from ct_rate_pairs.eval.metrics.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.metrics.text_metrics import text_scores
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import check_given, check_mostly_read, name_of_rules
from ct_rate_pairs.trainer.hub_files import check_name

from .labelers import label_predictions
from .places import score_places


def score_labels(
    stated: np.ndarray, labels: np.ndarray, *, volumes: Sequence[str] | None = None, ci: float | None = None
) -> dict:
    """
    Scores labels that were read from reports or guessed.

    Args:
        stated (`np.ndarray` of shape `[N, 18]`), labels (`np.ndarray` of shape `[N, 18]`):
            The labels, and the true ones, 0 or 1, in the official order.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            See [`score_reports`].

    Returns:
        `dict`: the keys of [`~ct_rate_pairs.eval.coverage`], [`~ct_rate_pairs.eval.label_accuracy`] and
        [`~ct_rate_pairs.eval.crg`], and `n`, the number of rows.
    """
    by_patient = {"volumes": volumes, "ci": ci}
    covered = coverage(stated, labels, LABELS, **by_patient)
    agreement = label_accuracy(stated, labels, LABELS, **by_patient)
    of_labels = {name: covered["per_label"][name] | agreement["per_label"][name] for name in LABELS}
    found = covered | agreement | crg(stated, labels, LABELS, **by_patient)
    return found | {"per_label": of_labels, "n": len(stated)}


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
            Generated reports. A report that is empty, or for `labeler="rules"` in a language that the rules do not
            read, states no finding, and is counted.
        references (`Sequence[str]`):
            Reference reports in English or Chinese, one per prediction. None may be missing. The text metrics use
            them.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels in the official order. All other metrics use them. They come from the data set, not from a
            labeler that reads `references`: otherwise an error of the labeler on the reference could cancel its error
            on the prediction.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, one per report; they name the patients to resample.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. By default no intervals are computed.
        labeler (`str`, *optional*, defaults to `"rules"`):
            Labeler that reads the labels of `predictions`, see [`~ct_rate_pairs.eval.label_reports`].
        recipe (`str`, *optional*, defaults to `"lower"`), meteor (`bool`, *optional*, defaults to `False`), \
        bertscore_model (`str`, *optional*):
            See [`~ct_rate_pairs.eval.text_scores`].

    Returns:
        `dict`: the keys of [`~ct_rate_pairs.eval.coverage`], [`~ct_rate_pairs.eval.label_accuracy`],
        [`~ct_rate_pairs.eval.crg`], [`~ct_rate_pairs.eval.text_scores`] and
        [`~ct_rate_pairs.eval.scoring.places.score_places`]; `n`, the number of reports;
        `empty_predictions` and `foreign_predictions`, the numbers of generated reports that hold no text or are in
        another language; and the names of `labeler` (`"rules_zh"` for the rules if references are Chinese) and
        `recipe`. Each row of `per_label` also holds the `coverage` of the label, and for the ten findings with a place
        the numbers of `score_places`. An undefined number is `None`. Ready for `json.dump`.

    Raises:
        `FileNotFoundError`: if `bertscore_model` is a path that does not exist.
        `ValueError`: for no reports, unequal numbers of reports and references, a missing reference, references in
            another language, or labels of a wrong shape or with values other than 0 and 1.
    """
    if bertscore_model is not None:
        check_name(bertscore_model)
    check_given(references)
    if labeler == "rules":  # where the references are in another language, so are the reports of a model
        check_mostly_read(references, "references")
    stated, unread = label_predictions(predictions, labeler)
    by_patient = {"volumes": volumes, "ci": ci}
    of_labels = score_labels(stated, labels, **by_patient)
    placed = score_places(predictions, references, **by_patient)
    return {
        **of_labels,
        **text_scores(predictions, references, recipe, meteor=meteor, bertscore_model=bertscore_model, **by_patient),
        **placed,
        **unread,
        "per_label": {name: of_labels["per_label"][name] | placed["per_label"].get(name, {}) for name in LABELS},
        "n": len(predictions),
        "labeler": name_of_rules(references) if labeler == "rules" else labeler,
    }
