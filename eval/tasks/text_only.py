"""The text-only baseline: TF-IDF and logistic regression, which never sees a volume. At chance, no text leaks."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


MAX_WORDS = 5000  # the most frequent ones: features are dense
MAX_QUESTIONS = 2000  # to fit on


class TfIdf:
    """Words and pairs of words that occur in at least two texts, with their frequency weighted by their rarity."""

    def __init__(self, texts: Sequence[str]):
        seen = Counter(word for text in texts for word in set(_words(text)))
        frequent = [word for word, n in seen.most_common(MAX_WORDS) if n > 1]
        self.column = {word: i for i, word in enumerate(sorted(frequent))}
        counts = np.array([seen[word] for word in self.column])
        self.idf = np.log((1 + len(texts)) / (1 + counts)) + 1

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Rows of length 1, float32 `[N, words]`."""
        counts = np.zeros((len(texts), len(self.column)), np.float32)
        for i, text in enumerate(texts):
            for word in _words(text):
                if word in self.column:
                    counts[i, self.column[word]] += 1
        counts *= self.idf.astype(np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)


def _words(text: str) -> list[str]:
    # Chinese has no spaces: there every character counts as a word.
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())
    return words + [" ".join(pair) for pair in pairwise(words)]


def fit(features: np.ndarray, targets: np.ndarray, penalty: float = 1e-4, steps: int = 150) -> np.ndarray:
    """Weights of a logistic regression `[F + 1]`, the last one the intercept; targets 0 or 1, of shape `[N]`."""
    x = np.hstack([features, np.ones((len(features), 1))]).astype(np.float32)
    weights, moment = np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    rate = 2 / np.mean((x**2).sum(axis=1))
    for _ in range(steps):
        gradient = x.T @ (1 / (1 + np.exp(-x @ weights)) - targets) / len(x) + penalty * weights
        moment = 0.9 * moment + gradient
        weights -= rate * moment
    return weights


def score(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    return features @ weights[:-1] + weights[-1]


def score_statements(
    train: Sequence[Sequence[str]], wrong: Sequence[int], test: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """
    How likely the baseline, fitted to the first 2,000 training reports, holds each statement for the wrong one.

    Args:
        train (`Sequence[Sequence[str]]`), wrong (`Sequence[int]`):
            Statements of the training reports, as many as each has, and the place of the wrong one.
        test (`Sequence[Sequence[str]]`):
            Statements of the `N` reports.

    Returns:
        `list[np.ndarray]`: for each report the scores of its statements, the highest for the chosen one.
    """
    train = list(train[:MAX_QUESTIONS])
    tfidf = TfIdf([text for statements in train for text in statements])

    def features(questions: Sequence[Sequence[str]]) -> np.ndarray:  # [statements, F]
        words = tfidf([text for statements in questions for text in statements])
        numbers = [1 / len(statements) for statements in questions for _ in statements]  # chance, which text tells too
        return np.hstack([words, np.array(numbers, dtype=np.float32)[:, None]])

    targets = [place == one for statements, one in zip(train, wrong, strict=False) for place in range(len(statements))]
    weights = fit(features(train), np.array(targets, dtype=np.float32))
    ends = np.cumsum([len(statements) for statements in test])
    return np.split(score(weights, features(test)), ends[:-1])


def option_features(questions: Sequence[Sequence[str]], tfidf: TfIdf) -> np.ndarray:
    """What can be seen of options without their volume: words, length, place, likeness to the others; `[N, O, F]`."""
    number = len(questions[0])
    words = tfidf([text for options in questions for text in options]).reshape(len(questions), number, -1)
    length = np.array([[len(text) for text in options] for options in questions], dtype=np.float32)  # [N, O]
    longest = (length - length.mean(axis=1, keepdims=True)) / (length.std(axis=1, keepdims=True) + 1e-9)
    alike = (words @ words.swapaxes(1, 2)).sum(axis=2) - 1  # [N, O]
    middle = (alike - alike.mean(axis=1, keepdims=True)) / (alike.std(axis=1, keepdims=True) + 1e-9)
    place = np.broadcast_to(np.eye(number, dtype=np.float32), (len(questions), number, number))
    # What the words are matters against those of the other options.
    words = words - words.mean(axis=1, keepdims=True)
    return np.concatenate([words, longest[..., None], middle[..., None], place], axis=2)


def score_options(train: Sequence[Sequence[str]], correct: Sequence[int], test: Sequence[Sequence[str]]) -> np.ndarray:
    """
    How likely the baseline, fitted to the first 2,000 training questions, holds each option for the true one.

    Args:
        train (`Sequence[Sequence[str]]`), correct (`Sequence[int]`):
            Options of the training questions, `O` each, and the place of the true one.
        test (`Sequence[Sequence[str]]`):
            Options of the `N` questions.

    Returns:
        `np.ndarray`: scores of shape `[N, O]`, the highest for the chosen option.
    """
    train = list(train[:MAX_QUESTIONS])
    tfidf = TfIdf([text for options in train for text in options])
    features = option_features(train, tfidf)
    targets = np.arange(features.shape[1]) == np.asarray(correct[:MAX_QUESTIONS])[:, None]
    weights = fit(features.reshape(-1, features.shape[2]), targets.reshape(-1))
    return score(weights, option_features(test, tfidf))
