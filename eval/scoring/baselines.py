"""Trivial reports: what the numbers are worth without looking at any scan."""

from collections import Counter
from collections.abc import Sequence
from math import sqrt

import numpy as np

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import split_sentences

from .labelers import label_reports


def join_sentences(sentences: Sequence[str]) -> str:
    """Puts sentences back into one text, each ended by a full stop."""
    return " ".join(f"{sentence.rstrip(' .')}." for sentence in sentences)


def most_common_report(reports: Sequence[str]) -> str:
    """
    Picks the report that is most like all the others.

    Free-text reports are hardly ever equal word for word, their sentences often are. Likeness of two reports is the
    cosine between their sets of sentences; the report with the highest mean likeness to all of `reports` wins, the
    earlier one on a tie. Where most reports are one text, that text wins.

    Args:
        reports (`Sequence[str]`):
            Reports to choose from.

    Returns:
        `str`: one of them.
    """
    sets = [frozenset(split_sentences(report.lower())) for report in reports]
    # The mean cosine to all reports is one dot product with the sum of the normalised sets.
    weights: Counter[str] = Counter()
    for sentences in sets:
        for sentence in sentences:
            weights[sentence] += 1 / sqrt(len(sentences))
    likeness = [sum(weights[s] for s in sorted(sentences)) / sqrt(max(len(sentences), 1)) for sentences in sets]
    return reports[int(np.argmax(likeness))]


def all_negative_report(reports: Sequence[str], labels: np.ndarray) -> str:
    """
    Picks the most common report among those without any finding, by the data set's labels and by the labeler.

    A small cohort may hold no such report; the most common report is then taken without the sentences that state a
    finding.

    Args:
        reports (`Sequence[str]`):
            Training reports.
        labels (`np.ndarray` of shape `[N, 18]`):
            Their labels.

    Returns:
        `str`: a report that `label_reports` reads as 18 zeros.
    """
    findings = np.asarray(labels).any(axis=1) | label_reports(reports).any(axis=1)  # [N]
    normal = [report for report, found in zip(reports, findings, strict=True) if not found]
    if normal:
        return most_common_report(normal)
    sentences = split_sentences(most_common_report(reports))
    stated = label_reports(sentences).any(axis=1)
    return join_sentences([s for s, positive in zip(sentences, stated, strict=True) if not positive])


def all_positive_report(reports: Sequence[str]) -> str:
    """
    Writes a report that states all 18 findings, one sentence a label in the official order.

    Each label is given the training sentence that states it, and nothing else, most often; a label without such a
    sentence is given `"<Label> is observed."`, medical material a central venous catheter.

    Args:
        reports (`Sequence[str]`):
            Training reports.

    Returns:
        `str`: a report that `label_reports` reads as 18 ones.
    """
    counts = Counter(sentence for report in reports for sentence in split_sentences(report))
    sentences = sorted(counts, key=lambda sentence: (-counts[sentence], sentence))  # most frequent first
    stated = label_reports(sentences) if sentences else np.zeros((0, len(LABELS)), dtype=np.int8)  # [M, 18]
    chosen = []
    for index, label in enumerate(LABELS):
        alone = np.flatnonzero((stated.sum(axis=1) == 1) & (stated[:, index] == 1))
        name = "Central venous catheter" if label == "Medical material" else label  # no report says "medical material"
        chosen.append(sentences[alone[0]] if alone.size else f"{name} is observed")
    return join_sentences(chosen)


def trivial_reports(train_reports: Sequence[str], train_labels: np.ndarray) -> dict[str, str]:
    """
    Builds the reports of three predictors that never look at a scan.

    Each is scored as if it had been generated for every held-out scan. The all-negative report alone gets an
    element-wise accuracy of about 0.81 on CT-RATE, so a model's numbers mean nothing without these rows beside them.

    Args:
        train_reports (`list[str]`):
            Reports of the training split; nothing of the held-out one is used.
        train_labels (`np.ndarray` of shape `[N, 18]`):
            Their labels in official order.

    Returns:
        `dict[str, str]`: `all_negative`, `most_common` and `all_positive`, each one report.

    Raises:
        `ValueError`: if there are no reports.
    """
    if not train_reports:
        raise ValueError("The trivial rows are built from training reports, and there are none.")
    return {
        "all_negative": all_negative_report(train_reports, train_labels),
        "most_common": most_common_report(train_reports),
        "all_positive": all_positive_report(train_reports),
    }
