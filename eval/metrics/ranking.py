"""
Rank metrics: ranks of the true option, retrieval in both directions, and areas under the ROC curve.
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
    Rank of each true report among its options, in ascending order of the loss; rank 1 is the lowest loss.

    Of equal losses, the option that stands first ranks first. The place of the true report is balanced, so a model
    that gives all options equal losses is at chance.

    Args:
        losses (`np.ndarray` of shape `[N, O]`):
            Loss of each option.
        correct (`np.ndarray` of shape `[N]`):
            Index of the true report among its options.

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
    Top-1 accuracy, mean reciprocal rank \\(\frac{1}{N} \sum_n 1 / r_n\\), and Recall@k, the share of ranks up to `k`.

    `k` goes from 2 to `num_options - 1`, as Recall@1 is Top-1 and Recall@`num_options` is 1. With `ci` also intervals
    by patient of `volumes`, see [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].
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
    Recall@k in both directions: whether the report of a scan is among the `k` reports most similar to the scan, and
    whether the scan of a report is among the `k` scans most similar to the report.

    Many healthy scans have the same report. So every report with the wording of the true report counts as right, and
    so does every scan with such a report. `chance_at_k` is the mean Recall@k of a random order: a query with \\(m\\)
    right answers among \\(N\\) adds \\(1 - \binom{N - m}{k} / \binom{N}{k}\\). Recall@k falls as the gallery
    grows, so compare only results of equal `n`.

    Args:
        similarity (`np.ndarray` of shape `[N, N]`):
            Similarity of each scan (row) to each report (column).
        texts (`Sequence[str]`):
            The `N` reports.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`]. Queries are resampled, the gallery is not.
        recalls (`Sequence[int]`, *optional*, defaults to `(1, 5, 10)`):
            The values of `k`.

    Returns:
        `dict`: `image_to_text` and `text_to_image`, each with `recall_at_k`, `chance_at_k` and, with `ci`,
        `recall_at_k_ci` for each `k`; `n`, the size of the gallery.

    Raises:
        `ValueError`: if the matrix does not have one row and one column per report.
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
        ranks = ranks_of_correct(-scores, best)  # of the most similar right answer; negated, as ranks take losses
        result[direction] = recall_scores(ranks, recalls, volumes, ci) | {
            f"chance_at_{k}": float(np.mean([chance(number, count, k) for count in right.sum(axis=1).tolist()]))
            for k in recalls
        }
    return result | {"n": number}


def recall_scores(
    ranks: np.ndarray, recalls: Sequence[int], volumes: Sequence[str] | None = None, ci: float | None = None
) -> dict[str, float | list[float] | None]:
    """The share of ranks up to `k`, for each `k` of `recalls`, with intervals as `bootstrap.estimate` gives them."""
    found = {f"recall_at_{k}": (ranks <= k).astype(float) for k in recalls}
    statistics = found | {"queries": np.ones(len(ranks))}
    return estimate(statistics, lambda sums: {name: sums[name] / sums["queries"] for name in found}, volumes, ci)


def chance(number: int, right: int, k: int) -> float:
    """Probability that the first `k` of `number` items in random order contain at least one of `right` right items."""
    k = min(k, number)
    return 1 - comb(number - right, k) / comb(number, k)


def auroc(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    r"""
    Area under the ROC curve: the probability that a positive has a higher score than a negative, where a tie counts
    one half.

    With weights \\(w\\), and \\(W^+\\) and \\(W^-\\) the total weights of positives and negatives, the area is
    \\(\frac{\sum_p w_p \, (W^-_{s < s_p} + \frac{1}{2} W^-_{s = s_p})}{W^+ W^-}\\).

    Args:
        scores (`np.ndarray` of shape `[N]`):
            Scores on any scale; a higher score makes the label more likely.
        labels (`np.ndarray` of shape `[N]`):
            True labels, 0 or 1.
        weights (`np.ndarray` of shape `[..., N]`, *optional*):
            How often each score counts, for example in bootstrap resamples. By default each counts once.
        groups (`np.ndarray` of shape `[N]`, *optional*):
            Group of each score. Only pairs within one group count: numerator and denominator are sums over the groups.
            By default all scores form one group.

    Returns:
        `np.ndarray`: the areas, of shape `[...]`; NaN if there is no pair.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    groups = np.zeros(len(scores), dtype=int) if groups is None else groups
    labels = np.asarray(labels, dtype=float)
    order = np.lexsort((scores, groups))
    scores, groups, labels, weights = scores[order], groups[order], labels[order], weights[..., order]
    new_group = np.diff(groups, prepend=groups[:1] - 1) != 0
    starts = np.flatnonzero(new_group | (np.diff(scores, prepend=scores[:1]) != 0))  # first of each score, [S]
    firsts = np.flatnonzero(new_group[starts])  # first of each group among these, [G]
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
            Score of each label of each scan, see [`auroc`].
        labels (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`, *optional*, defaults to [`~ct_rate_pairs.LABELS`]):
            Names of the L labels.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, one per scan; they name the patients to resample.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. By default no intervals are computed.

    Returns:
        `dict`: `auroc_macro`, the mean over the labels that have both classes; `per_label`, which maps each name to
        `auroc` (`None` for a label that lacks a class) and `support` (number of positives). With `ci` also
        `auroc_macro_ci`, `ci_level`, and `auroc_ci` in each row of `per_label`. If a resample lacks a class of a
        label, the interval of this label ignores the resample, and the mean of the resample ignores the label.

    Raises:
        `ValueError`: for no scans, a row of a wrong length, or a label other than 0 and 1.
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
