"""Trivial reports: their scores show what can be reached without looking at any scan."""

from collections import Counter
from collections.abc import Sequence
from math import sqrt

import numpy as np

from ct_rate_pairs.reports.labels import LABELS, NAMES
from ct_rate_pairs.reports.readable import is_chinese
from ct_rate_pairs.reports.sentence_spans import split_sentences

from .labelers import label_predictions


def join_sentences(sentences: Sequence[str]) -> str:
    """Joins sentences into one text; each sentence ends with a full stop."""
    if sentences and is_chinese("".join(sentences)):
        return "".join(f"{sentence.rstrip(' .')}。" for sentence in sentences)
    return " ".join(f"{sentence.rstrip(' .')}." for sentence in sentences)


def most_common_report(reports: Sequence[str]) -> str:
    """
    Picks the report that is most similar to all the others.

    Free-text reports are rarely equal word for word, but their sentences often are. The similarity of two reports is
    the cosine between their sets of sentences. The report with the highest mean similarity to all of `reports` is
    chosen; on a tie, the earlier one. If most of the reports have the same text, this text is chosen.

    Args:
        reports (`Sequence[str]`):
            Reports to choose from.

    Returns:
        `str`: one of `reports`.
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
    """The most common report without any finding, whether by the true labels `[N, 18]` or by the rule labeler."""
    findings = np.asarray(labels).any(axis=1) | label_predictions(reports)[0].any(axis=1)  # [N]
    normal = [report for report, found in zip(reports, findings, strict=True) if not found]
    if normal:
        return most_common_report(normal)
    # A small cohort may have no such report: then the most common report is taken without sentences with a finding.
    sentences = split_sentences(most_common_report(reports))
    stated = label_predictions(sentences)[0].any(axis=1)
    return join_sentences([s for s, positive in zip(sentences, stated, strict=True) if not positive])


def all_positive_report(reports: Sequence[str]) -> str:
    """
    Composes a report that states all 18 findings, with one sentence per label in the official order.

    For each label, the sentence is the most frequent one of the training reports that states this label alone. Without
    such a sentence, it is `"<Label> is observed."`; for medical material, `"Central venous catheter is observed."` For
    Chinese reports, it is `"可见<label>。"`

    Args:
        reports (`Sequence[str]`):
            Training reports.

    Returns:
        `str`: a report that `label_reports` reads as 18 ones.
    """
    counts = Counter(sentence for report in reports for sentence in split_sentences(report))
    sentences = sorted(counts, key=lambda sentence: (-counts[sentence], sentence))  # most frequent first
    stated = label_predictions(sentences)[0]  # [M, 18]
    chinese = is_chinese("".join(reports))
    chosen = []
    for index, label in enumerate(LABELS):
        alone = np.flatnonzero((stated.sum(axis=1) == 1) & (stated[:, index] == 1))
        name = "Central venous catheter" if label == "Medical material" else label  # no report says "medical material"
        told = f"可见{NAMES['zh'][label]}" if chinese else f"{name} is observed"
        chosen.append(sentences[alone[0]] if alone.size else told)
    return join_sentences(chosen)


def trivial_reports(train_reports: Sequence[str], train_labels: np.ndarray) -> dict[str, str]:
    """
    Composes the reports of three predictors that never look at a scan.

    Each report is scored as if a model had generated it for every held-out scan. On CT-RATE, the all-negative report
    already reaches an element-wise accuracy of about 0.81, so a model's numbers mean little without these numbers.

    Args:
        train_reports (`Sequence[str]`):
            Reports of the training split. Nothing of the held-out split is used.
        train_labels (`np.ndarray` of shape `[N, 18]`):
            Labels of the training reports, in the official order.

    Returns:
        `dict[str, str]`: `all_negative`, `most_common` and `all_positive`, each one report.

    Raises:
        `ValueError`: if there are no reports.
    """
    if not train_reports:
        raise ValueError("The trivial reports are composed of training reports, and there are none.")
    return {
        "all_negative": all_negative_report(train_reports, train_labels),
        "most_common": most_common_report(train_reports),
        "all_positive": all_positive_report(train_reports),
    }
