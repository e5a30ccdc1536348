"""
The labels as far as the prompts tell them, without the scan: TF-IDF and logistic regression on the lines that
`prompt_metadata` puts ahead of the question. What this reaches, a model may owe to its prompt.
"""

import re
from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from ct_rate_pairs.eval.scoring.scores import score_labels
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.prompt_lines import join_lines, metadata_names

from .text_only import MAX_QUESTIONS, TfIdf, fit, score


def score_prompts(scans: Dataset, ci: float | None = None) -> dict | None:
    """
    Scores the labels that are guessed from the prompts of some scans alone. No volume is read.

    Args:
        scans ([`~datasets.Dataset`]):
            Rows of `load_dataset("ct_rate_pairs", ...)`, one per scan.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient.

    Returns:
        `dict` or `None`: the keys of [`~ct_rate_pairs.eval.scoring.scores.score_labels`]; `prompt_metadata`, the names
        of what the prompts tell; and `f1_micro_common`, the F1 micro without the prompts, where the same labels are
        guessed for every scan by how common they are. `None` if the prompts tell nothing ahead of the question.
    """
    reader = reader_of(scans)
    names = metadata_names(reader.config.prompt_metadata)
    if not names:
        return None
    known = scans.with_format(None).select_columns(["volume", "labels"])
    volumes, labels = known["volume"][:], np.array(known["labels"][:])

    def told(split: str, i: int) -> str:
        """The lines of a scan, of which none is left out."""
        return join_lines(reader.prompt_lines(split, i), reader.config.prompt)

    train = reader.labels["train"][:MAX_QUESTIONS]
    prompts = [told("train", i) for i in range(len(train))]
    stated = guess_labels(prompts, train, [told(*reader.where(volume)) for volume in volumes])
    common = guess_labels([""] * len(train), train, [""] * len(volumes))
    return score_labels(stated, labels, volumes=volumes, ci=ci) | {
        "f1_micro_common": score_labels(common, labels)["f1_micro"],
        "prompt_metadata": list(names),
    }


def guess_labels(train: Sequence[str], labels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """
    Guesses the labels of `M` texts.

    Args:
        train (`Sequence[str]`), labels (`np.ndarray` of shape `[N, 18]`):
            Training texts and their labels. The first three quarters of them fit a logistic regression per label. On
            the others, one threshold for all labels is chosen: the one with the best F1 micro.
        texts (`Sequence[str]`):
            The texts.

    Returns:
        `np.ndarray`: 0 or 1, int8 of shape `[M, 18]`.
    """
    train, texts = ([_with_tens(text) for text in of_one] for of_one in (train, texts))
    fitted = 3 * len(train) // 4
    tfidf = TfIdf(train[:fitted])
    weights = fit(tfidf(train[:fitted]), labels[:fitted])  # [F + 1, 18]
    threshold = _best_threshold(score(weights, tfidf(train[fitted:])).ravel(), labels[fitted:].ravel())
    return (score(weights, tfidf(texts)) >= threshold).astype(np.int8)


def _best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold with the best F1 of some scores `[K]`, whose `truth` is 0 or 1."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + truth.sum())
    return float(scores[order][np.argmax(f1)])


def _with_tens(text: str) -> str:
    """A text whose numbers of two digits are followed by their tens, so that patients of a like age share a word."""
    return re.sub(r"\b(\d)\d\b", r"\g<0> \1x", text)
