"""
What a matrix of similarities between scans and texts is worth: retrieval both ways, and labels by pairs of prompts.
"""

from collections.abc import Sequence
from math import comb

import numpy as np

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import same_words

from .bootstrap import check_level, divide, estimate, interval, known, patient_ids, resample
from .label_metrics import check_labels, mean_known


def ranks_of_correct(losses: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """
    Rank of each true report, 1 for the best, when the lowest loss is chosen.

    Of equal losses the one that stands first goes ahead. As the place of the true report is balanced, a model that
    cannot tell the options apart then scores chance.

    Args:
        losses (`np.ndarray` of shape `[N, O]`):
            Loss of each option.
        correct (`np.ndarray` of shape `[N]`):
            Place of the true report.

    Returns:
        `np.ndarray`: ranks of shape `[N]`, from 1 to `O`.
    """
    own = np.take_along_axis(losses, correct[:, None], axis=1)  # [N, 1]
    before = np.arange(losses.shape[1]) < correct[:, None]
    return 1 + ((losses < own) | ((losses == own) & before)).sum(axis=1)


def rank_scores(
    ranks: np.ndarray, num_options: int, volumes: Sequence[str] | None = None, ci: float | None = None
) -> dict[str, float | list[float] | None]:
    r"""
    Top-1, the mean reciprocal rank \\(\frac{1}{N} \sum_n 1 / r_n\\), and Recall@k, the share of ranks up to `k`, for
    `k` from 2 to `num_options - 1` (Recall@1 is Top-1, and the last one is 1); with `ci` their intervals by patient
    of `volumes`, as [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`] gives them.
    """
    ranks = np.asarray(ranks)
    values = {"top1": ranks == 1, "mrr": 1 / ranks} | {f"recall_at_{k}": ranks <= k for k in range(2, num_options)}
    statistics = {name: value.astype(float) for name, value in values.items()} | {"questions": np.ones(len(ranks))}
    return estimate(statistics, lambda sums: {name: sums[name] / sums["questions"] for name in values}, volumes, ci)


RECALLS = (1, 5, 10)


def retrieval(
    similarity: np.ndarray,
    texts: Sequence[str],
    volumes: Sequence[str] | None = None,
    *,
    recalls: Sequence[int] = RECALLS,
    ci: float | None = None,
) -> dict[str, dict]:
    r"""
    Recall@k in both directions: whether a scan's report is among the `k` reports most similar to it of all, and a
    report's scan among the `k` most similar scans.

    Healthy scans share their report. All reports of the true one's wording count as right, and so do all their scans.
    `chance_at_k` is what a random order reaches, with \\(m\\) right ones among \\(N\\) the mean of
    \\(1 - \binom{N - m}{k} / \binom{N}{k}\\). Recall@k falls as the gallery grows: compare equal `n` only.

    Args:
        similarity (`np.ndarray` of shape `[N, N]`):
            Of each scan (row) and each report (column).
        texts (`Sequence[str]`):
            The `N` reports.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            For bootstrap intervals by patient: [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`]. The queries are drawn; the
            gallery stays as it is.
        recalls (`Sequence[int]`, *optional*, defaults to `(1, 5, 10)`):
            The values of `k`.

    Returns:
        `dict`: `image_to_text` and `text_to_image`, each with `recall_at_k`, its `recall_at_k_ci` and `chance_at_k`
        for each `k`; `n`, the size of the gallery.

    Raises:
        `ValueError`: if the matrix does not have one row and one column a report.
    """
    number = len(texts)
    if similarity.shape != (number, number):
        raise ValueError(f"similarity has shape {similarity.shape}, but {number} reports need {(number, number)}.")
    wordings: dict[str, int] = {}
    wording = np.array([wordings.setdefault(same_words(text), len(wordings)) for text in texts])
    right = wording[:, None] == wording  # [N, N]
    result = {}
    for direction, scores in (("image_to_text", similarity), ("text_to_image", similarity.T)):
        best = np.where(right, scores, -np.inf).argmax(axis=1)
        ranks = ranks_of_correct(-scores, best)  # of the best right one; the lowest loss is chosen there
        result[direction] = recall_scores(ranks, recalls, volumes, ci) | {
            f"chance_at_{k}": float(np.mean([chance(number, count, k) for count in right.sum(axis=1).tolist()]))
            for k in recalls
        }
    return result | {"n": number}


def recall_scores(
    ranks: np.ndarray, recalls: Sequence[int], volumes: Sequence[str] | None = None, ci: float | None = None
) -> dict[str, float | list[float] | None]:
    """The share of ranks up to each `k` of `recalls`, with intervals as [`estimate`] gives them."""
    found = {f"recall_at_{k}": (ranks <= k).astype(float) for k in recalls}
    statistics = found | {"queries": np.ones(len(ranks))}
    return estimate(statistics, lambda sums: {name: sums[name] / sums["queries"] for name in found}, volumes, ci)


def chance(number: int, right: int, k: int) -> float:
    """The probability that at least one of `right` among `number` is among the first `k` of a random order."""
    k = min(k, number)
    return 1 - comb(number - right, k) / comb(number, k)


def auroc(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    r"""
    Area under the ROC curve: the probability that a positive outscores a negative, a tie counting one half,
    \\(\frac{\sum_p w_p \, (W^-_{s < s_p} + \frac{1}{2} W^-_{s = s_p})}{W^+ W^-}\\).

    Args:
        scores (`np.ndarray` of shape `[N]`):
            Any numbers that rise with the belief in the label.
        labels (`np.ndarray` of shape `[N]`):
            True labels, 0 or 1.
        weights (`np.ndarray` of shape `[..., N]`, *optional*):
            How often each counts, such as in the draws of a bootstrap; once each by default.
        groups (`np.ndarray` of shape `[N]`, *optional*):
            Only pairs of one group count: numerator and denominator are sums over the groups. All are one by default.

    Returns:
        `np.ndarray`: the area, of shape `[...]`; NaN where there is no pair.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    groups = np.zeros(len(scores), dtype=int) if groups is None else groups
    labels = np.asarray(labels, dtype=float)
    order = np.lexsort((scores, groups))
    scores, groups, labels, weights = scores[order], groups[order], labels[order], weights[..., order]
    new_group = np.diff(groups, prepend=groups[:1] - 1) != 0
    starts = np.flatnonzero(new_group | (np.diff(scores, prepend=scores[:1]) != 0))  # where each score begins, [S]
    firsts = np.flatnonzero(new_group[starts])  # where each group does, among these, [G]
    positives = np.add.reduceat(weights * labels, starts, axis=-1)  # [..., S]
    negatives = np.add.reduceat(weights * (1 - labels), starts, axis=-1)
    of_group = np.add.reduceat(negatives, firsts, axis=-1)  # [..., G]
    sizes = np.diff(firsts, append=len(starts))
    ahead = np.repeat(of_group.cumsum(axis=-1) - of_group, sizes, axis=-1)  # negatives of earlier groups
    below = negatives.cumsum(axis=-1) - ahead - negatives / 2
    pairs = np.add.reduceat(positives, firsts, axis=-1) * of_group
    return divide((positives * below).sum(axis=-1), pairs.sum(axis=-1))


def label_auroc(
    scores: np.ndarray,
    labels: Sequence[Sequence[int]],
    names: Sequence[str] = LABELS,
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict:
    """
    AUROC of each label and their mean.

    Args:
        scores (`np.ndarray` of shape `[N, L]`):
            How much each scan is believed to have each label.
        labels (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`, *optional*, defaults to [`~ct_rate_pairs.LABELS`]):
            Names of the L labels.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, from which the intervals take the patients.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.

    Returns:
        `dict`: `auroc_macro`, the mean over the labels that have both classes here; `per_label`, for each name
        `auroc` (`None` for a label without both classes) and `support` (number of positives). With `ci` also
        `auroc_macro_ci`, `auroc_ci` in each row, and `ci_level`. A draw that holds one class only of a label is left
        out of this label's interval, and the label out of the draw's mean.

    Raises:
        `ValueError`: for no scans, a row of another length, or a label other than 0 and 1.
    """
    labels = check_labels(labels, names, "labels")
    areas = np.array([auroc(scores[:, index], labels[:, index]) for index in range(len(names))])  # [L]
    rows = {
        name: {"auroc": known(areas[index]), "support": int(labels[:, index].sum())}
        for index, name in enumerate(names)
    }
    result = {"auroc_macro": known(mean_known(areas)), "per_label": rows}
    if ci is None:
        return result
    check_level(ci)
    patients = patient_ids(volumes, len(labels))
    lone = patients.max() == 0
    counts = resample({"drawn": np.eye(len(labels))}, patients)["drawn"]  # how often each scan is drawn, [R, N]
    drawn = np.stack([auroc(scores[:, index], labels[:, index], counts) for index in range(len(names))], axis=-1)
    for index, row in enumerate(rows.values()):
        row["auroc_ci"] = None if lone else interval(drawn[:, index], ci)
    return result | {"auroc_macro_ci": None if lone else interval(mean_known(drawn), ci), "ci_level": ci}
