"""
Rewards for reinforcement: plain functions from generated reports to numbers between 0 and 1, as TRL calls them.

Each reward compares a report with its own row: with the labels of the scan, or with its reference report. A text that
is cut at the limit of tokens gets 0, and so does a text that the rule labeler cannot read. Both are counted in the
logs, as `cut` and `unreadable` per batch. A reward that does not apply to a row is `None`, and TRL leaves it out of
the sum.

A reward is optimised, so what it overlooks is lost. The rule labeler both rewards and measures: compare a trained
model by metrics that no reward has, too, such as ROUGE-L, or the labels of RadBERT.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ct_rate_pairs.eval.metrics.text_metrics import tokenize_lower
from ct_rate_pairs.reports.findings_line import Opened, open_text
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import LONGEST_REPORT, is_missing, unread_language
from ct_rate_pairs.reports.rules import label_report

from .scoring.places import read_places


def label_f1_reward(completions, labels, cut, reference=None, log_metric=None, **kwargs) -> list[float]:
    """
    F1 of the labels that a report states: `2 TP / (2 TP + FP + FN)` over its 18 labels. If neither the report nor the
    scan has a finding, it is 1.

    Args:
        completions (`list[list[dict]]`):
            The generated texts, each as one turn of the assistant.
        labels (`list[list[int]]`):
            The 18 true labels of each scan, in the official order.
        cut (`list[bool]`):
            Whether the text met the limit of tokens before its end.
        reference (`list[str]`, *optional*):
            The reference texts. If they open with a findings line, the model was taught to write one: the first line
            of its text is then no part of the report.
        log_metric (`Callable`, *optional*):
            TRL's function that logs a number.

    Returns:
        `list[float]`: one reward per text.
    """
    return [
        f1(label_report(opened.report), true) if opened else 0.0
        for opened, true in zip(read(completions, cut, reference, log_metric), labels, strict=True)
    ]


def crg_reward(
    completions, labels, cut, reference=None, log_metric=None, positive_weight=1.0, **kwargs
) -> list[float]:
    """
    What a report contributes to CRG, from 0 (all 18 entries are wrong) to 1 (all are right).

    [`~ct_rate_pairs.eval.crg`] is a function of the sum `r TP - r FN - FP` over all reports. On one scan, this sum
    rises by `2 r` with each positive label that is stated, and by 1 with each negative label that is not. So the
    reward is the share of the entries that are right, where a positive one weighs `2 r` times a negative one.

    Args:
        completions (`list[list[dict]]`), labels (`list[list[int]]`), cut (`list[bool]`), reference (`list[str]`, \
        *optional*), log_metric (`Callable`, *optional*):
            As for [`label_f1_reward`].
        positive_weight (`float`, *optional*, defaults to `1.0`):
            `2 r`: the number of negative entries per positive entry, see [`positive_weight_of`].

    Returns:
        `list[float]`: one reward per text.
    """
    rewards = []
    for opened, true in zip(read(completions, cut, reference, log_metric), labels, strict=True):
        weights = np.where(np.array(true) == 1, positive_weight, 1.0)  # [18]
        right = np.array(label_report(opened.report)) == np.array(true) if opened else np.zeros(len(LABELS))
        rewards.append(float((weights * right).sum() / weights.sum()))
    return rewards


def place_reward(completions, reference, cut, log_metric=None, **kwargs) -> list[float | None]:
    """
    Of the findings of the lungs and the pleura that the reference report places, the share that the report places on
    the same side. `None` if the reference places none.

    The side accuracy of an evaluation leaves out what a report does not place. Such a reward would be earned by
    placing nothing, so here a finding without a side is not right.

    Args:
        completions (`list[list[dict]]`), cut (`list[bool]`), log_metric (`Callable`, *optional*):
            As for [`label_f1_reward`].
        reference (`list[str]`):
            The reference texts, with or without a findings line.

    Returns:
        `list[float | None]`: one reward per text.
    """
    wanted = read_places([open_text(text).report for text in reference])
    return [
        place_share(opened, true.places) if true.places else None
        for opened, true in zip(read(completions, cut, reference, log_metric), wanted, strict=True)
    ]


def agreement_reward(completions, reference, cut, log_metric=None, **kwargs) -> list[float | None]:
    """
    F1 between the labels of a findings line and those that the report below it states, as [`label_f1_reward`]. A text
    without a sound line gets 0. `None` if the reference has no line, because then the model was not taught any.

    Args:
        completions (`list[list[dict]]`), reference (`list[str]`), cut (`list[bool]`), log_metric (`Callable`, \
        *optional*):
            As for [`place_reward`].

    Returns:
        `list[float | None]`: one reward per text.
    """
    rewards = []
    for opened, true in zip(read(completions, cut, reference, log_metric), reference, strict=True):
        if open_text(true).line is None:
            rewards.append(None)
        else:
            sound = opened is not None and opened.labels is not None
            rewards.append(f1(label_report(opened.report), opened.labels) if sound else 0.0)
    return rewards


def length_reward(completions, reference, cut, log_metric=None, **kwargs) -> list[float]:
    """
    1 for a report that is not longer than its reference, and otherwise the quotient of the two lengths. Lengths are
    in words, or in Chinese letters; findings lines do not count.

    Args:
        completions (`list[list[dict]]`), reference (`list[str]`), cut (`list[bool]`), log_metric (`Callable`, \
        *optional*):
            As for [`place_reward`].

    Returns:
        `list[float]`: one reward per text.
    """
    return [
        min(1.0, length(open_text(true).report) / length(opened.report)) if opened else 0.0
        for opened, true in zip(read(completions, cut, reference, log_metric), reference, strict=True)
    ]


# The names of the rewards as options.
REWARDS: dict[str, Callable] = {
    "label_f1": label_f1_reward,
    "crg": crg_reward,
    "place": place_reward,
    "agreement": agreement_reward,
    "length": length_reward,
}


def rewards_of(names: Sequence[str], train_labels: np.ndarray) -> list[Callable]:
    """
    The rewards with these names, for [`~trl.GRPOTrainer`].

    Args:
        names (`Sequence[str]`):
            Some names of `REWARDS`.
        train_labels (`np.ndarray` of shape `[N, 18]`):
            Labels of the training split, from which the reward `"crg"` has its weight.
    """
    weight = {"crg": {"positive_weight": positive_weight_of(train_labels)}} if "crg" in names else {}
    return [partial(REWARDS[name], **weight[name]) if name in weight else REWARDS[name] for name in names]


def positive_weight_of(labels: np.ndarray) -> float:
    """
    The number of negative entries per positive entry of labels, `[N, 18]`.

    Raises:
        `ValueError`: if there are no positive entries, or no negative ones.
    """
    positive = int(np.sum(labels))
    if not 0 < positive < labels.size:
        raise ValueError(
            f"{positive} of the {labels.size} labels of the training split are positive, so the reward crg is not "
            "defined. Leave it out of --reward_funcs."
        )
    return (labels.size - positive) / positive


def read(
    completions: Sequence[Sequence[dict]],
    cut: Sequence[bool],
    reference: Sequence[str] | None = None,
    log_metric: Callable | None = None,
) -> list[Opened | None]:
    """
    The generated texts, taken apart; `None` for those that are cut, and for those whose report cannot be read.

    Args:
        completions (`Sequence[Sequence[dict]]`), cut (`Sequence[bool]`), reference (`Sequence[str]`, *optional*), \
        log_metric (`Callable`, *optional*):
            As for [`label_f1_reward`]. The numbers of both kinds of texts are logged as `cut` and `unreadable`.
    """
    texts = [turns[-1]["content"].strip() for turns in completions]
    with_line = [open_text(true).line is not None for true in reference or [""] * len(texts)]
    opened = list(map(open_text, texts, with_line))
    unreadable = [is_unreadable(one.report) for one in opened]
    if log_metric is not None:
        log_metric("cut", float(sum(cut)))
        log_metric("unreadable", float(sum(unreadable)))
    return [None if is_cut or is_wrong else one for one, is_cut, is_wrong in zip(opened, cut, unreadable, strict=True)]


def is_unreadable(report: str) -> bool:
    """Whether the rule labeler cannot read a report: it is missing, too long, or in another language."""
    return is_missing(report) or len(report) > LONGEST_REPORT or unread_language(report) is not None


def f1(stated: Sequence[int], true: Sequence[int]) -> float:
    """F1 of two label vectors of 0 and 1; 1 if both are 0 throughout."""
    hits, total = sum(map(min, stated, true)), sum(stated) + sum(true)
    return 2 * hits / total if total else 1.0


def place_share(opened: Opened | None, wanted: dict) -> float:
    """The share of the `wanted` places, by label, whose side a text has, too; 0 for a text that cannot be read."""
    found = read_places([opened.report])[0].places if opened else {}
    return sum(label in found and found[label].side == place.side for label, place in wanted.items()) / len(wanted)


def length(report: str) -> int:
    """The number of words of a report, or of its Chinese letters."""
    return len(tokenize_lower(report).split())
