"""The text-only baseline: TF-IDF and logistic regression, which never sees a volume. At chance, nothing leaks."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np


class TfIdf:
    """Words and pairs of words that occur in at least two texts, with their frequency weighted by their rarity."""

    def __init__(self, texts: list[str]):
        documents = [_words(text) for text in texts]
        seen = Counter(word for words in documents for word in set(words))
        self.column = {word: i for i, word in enumerate(sorted(word for word, n in seen.items() if n > 1))}
        self.idf = np.log((1 + len(texts)) / (1 + np.array([seen[word] for word in self.column]))) + 1

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Rows of length 1, float `[N, words]`."""
        counts = np.zeros((len(texts), len(self.column)))
        for i, text in enumerate(texts):
            for word in _words(text):
                if word in self.column:
                    counts[i, self.column[word]] += 1
        counts *= self.idf
        return counts / np.linalg.norm(counts, axis=1, keepdims=True).clip(1e-9)


def _words(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
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


def option_features(questions: list[list[str]], tfidf: TfIdf) -> np.ndarray:
    """What can be seen of options without their volume: words, length, place, likeness to the others; `[N, O, F]`."""
    number = len(questions[0])
    words = tfidf([text for options in questions for text in options]).reshape(len(questions), number, -1)
    length = np.array([[len(text) for text in options] for options in questions], dtype=float)  # [N, O]
    longest = (length - length.mean(axis=1, keepdims=True)) / (length.std(axis=1, keepdims=True) + 1e-9)
    alike = (words @ words.swapaxes(1, 2)).sum(axis=2) - 1  # [N, O]
    middle = (alike - alike.mean(axis=1, keepdims=True)) / (alike.std(axis=1, keepdims=True) + 1e-9)
    place = np.broadcast_to(np.eye(number), (len(questions), number, number))
    # What the words are matters against those of the other options.
    words = words - words.mean(axis=1, keepdims=True)
    return np.concatenate([words, longest[..., None], middle[..., None], place], axis=2)


def choose_by_text(train: tuple[list[list[str]], np.ndarray], test: tuple[list[list[str]], np.ndarray]) -> np.ndarray:
    """Whether the baseline, fitted to `train`, chooses the right option of each question of `test`, bool `[N]`."""
    (options, correct), (held_out, answers) = train, test
    tfidf = TfIdf([text for question in options for text in question])
    features = option_features(options, tfidf)
    targets = np.arange(features.shape[1]) == np.asarray(correct)[:, None]
    weights = fit(features.reshape(-1, features.shape[2]), targets.reshape(-1))
    return score(weights, option_features(held_out, tfidf)).argmax(axis=1) == answers


def interval(right: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.99) -> tuple[float, float]:
    """Bootstrap interval of the mean; whole `clusters` `[N]` are drawn where they are given."""
    clusters = np.arange(len(right)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(clusters, right), np.bincount(clusters)
    drawn = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))
