"""A text-only baseline: TF-IDF and logistic regression. If it is at chance, the text alone gives no hint."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


MAX_WORDS = 5000  # the most frequent ones; a limit, because the features are dense
MAX_QUESTIONS = 2000  # the first ones of the training split, to fit the baseline on


class TfIdf:
    """TF-IDF: frequencies of words and pairs of words that occur in at least two texts, weighted by rarity."""

    def __init__(self, texts: Sequence[str]):
        """Takes the words and their weights from the training texts."""
        seen = Counter(word for text in texts for word in set(_words(text)))
        frequent = [word for word, n in seen.most_common(MAX_WORDS) if n > 1]
        self.column = {word: i for i, word in enumerate(sorted(frequent))}
        counts = np.array([seen[word] for word in self.column])
        self.idf = np.log((1 + len(texts)) / (1 + counts)) + 1

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Features of `N` texts as unit vectors, float32 `[N, words]`."""
        counts = np.zeros((len(texts), len(self.column)), np.float32)
        for i, text in enumerate(texts):
            for word in _words(text):
                if word in self.column:
                    counts[i, self.column[word]] += 1
        counts *= self.idf.astype(np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)


def _words(text: str) -> list[str]:
    """The words and pairs of adjacent words of a text, in lower case."""
    # Chinese has no spaces, so every Chinese character counts as a word.
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())
    return words + [" ".join(pair) for pair in pairwise(words)]


def fit(features: np.ndarray, targets: np.ndarray, penalty: float = 1e-4, steps: int = 150) -> np.ndarray:
    """
    Weights `[F + 1]` of a logistic regression; the last one is the intercept. Targets `[N]` are 0 or 1. Targets
    `[N, L]` have weights `[F + 1, L]`.
    """
    x = np.hstack([features, np.ones((len(features), 1))]).astype(np.float32)
    weights, moment = (np.zeros((x.shape[1], *targets.shape[1:]), np.float32) for _ in range(2))
    rate = 2 / np.mean((x**2).sum(axis=1))
    for _ in range(steps):
        gradient = x.T @ (1 / (1 + np.exp(-x @ weights)) - targets) / len(x) + penalty * weights
        moment = 0.9 * moment + gradient
        weights -= rate * moment
    return weights


def score(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Logits `[N]` or `[N, L]` of features `[N, F]`."""
    return features @ weights[:-1] + weights[-1]


def score_statements(
    train: Sequence[Sequence[str]], wrong: Sequence[int], test: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """
    Scores how likely each statement is the wrong one. The baseline is fitted to the first 2,000 training reports.

    Args:
        train (`Sequence[Sequence[str]]`), wrong (`Sequence[int]`):
            Statements of each training report, and the place of the wrong statement among them.
        test (`Sequence[Sequence[str]]`):
            Statements of each of `N` reports.

    Returns:
        `list[np.ndarray]`: for each report, the scores of its statements. The highest score is the baseline's choice.
    """
    train = list(train[:MAX_QUESTIONS])
    tfidf = TfIdf([text for statements in train for text in statements])

    def features(questions: Sequence[Sequence[str]]) -> np.ndarray:  # [statements, F]
        """TF-IDF of each statement, and the chance that it is the wrong one of its report."""
        words = tfidf([text for statements in questions for text in statements])
        # The text also shows how many statements there are, and so the chance that one of them is wrong.
        numbers = [1 / len(statements) for statements in questions for _ in statements]
        return np.hstack([words, np.array(numbers, dtype=np.float32)[:, None]])

    targets = [place == one for statements, one in zip(train, wrong, strict=False) for place in range(len(statements))]
    weights = fit(features(train), np.array(targets, dtype=np.float32))
    ends = np.cumsum([len(statements) for statements in test])
    return np.split(score(weights, features(test)), ends[:-1])


def option_features(questions: Sequence[Sequence[str]], tfidf: TfIdf) -> np.ndarray:
    """Features of options without their volume: words, length, similarity to the other options, place; `[N, O, F]`."""
    number = len(questions[0])
    words = tfidf([text for options in questions for text in options]).reshape(len(questions), number, -1)
    length = np.array([[len(text) for text in options] for options in questions], dtype=np.float32)  # [N, O]
    longest = (length - length.mean(axis=1, keepdims=True)) / (length.std(axis=1, keepdims=True) + 1e-9)
    alike = (words @ words.swapaxes(1, 2)).sum(axis=2) - 1  # [N, O]
    middle = (alike - alike.mean(axis=1, keepdims=True)) / (alike.std(axis=1, keepdims=True) + 1e-9)
    place = np.broadcast_to(np.eye(number, dtype=np.float32), (len(questions), number, number))
    # Only the difference to the words of the other options matters.
    words = words - words.mean(axis=1, keepdims=True)
    return np.concatenate([words, longest[..., None], middle[..., None], place], axis=2)


def score_options(train: Sequence[Sequence[str]], correct: Sequence[int], test: Sequence[Sequence[str]]) -> np.ndarray:
    """
    Scores how likely each option is the true one. The baseline is fitted to the first 2,000 training questions.

    Args:
        train (`Sequence[Sequence[str]]`), correct (`Sequence[int]`):
            The `O` options of each training question, and the place of the true option.
        test (`Sequence[Sequence[str]]`):
            The options of each of `N` questions.

    Returns:
        `np.ndarray`: scores of shape `[N, O]`. The highest score of a question is the baseline's choice.
    """
    train = list(train[:MAX_QUESTIONS])
    tfidf = TfIdf([text for options in train for text in options])
    features = option_features(train, tfidf)
    targets = np.arange(features.shape[1]) == np.asarray(correct[:MAX_QUESTIONS])[:, None]
    weights = fit(features.reshape(-1, features.shape[2]), targets.reshape(-1))
    return score(weights, option_features(test, tfidf))
