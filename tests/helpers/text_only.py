"""At chance, nothing leaks: the choice of the text-only baseline, and its interval."""

import numpy as np

from ct_rate_pairs.eval.tasks.text_only import score_options


Questions = tuple[list[list[str]], np.ndarray]  # options, and the place of the true one


def choose_by_text(train: Questions, test: Questions) -> np.ndarray:
    """Whether the baseline, fitted to `train`, chooses the right option of each question of `test`, bool `[N]`."""
    return score_options(*train, test[0]).argmax(axis=1) == test[1]


def interval(right: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.99) -> tuple[float, float]:
    """Bootstrap interval of the mean; whole `clusters` `[N]` are drawn where they are given."""
    clusters = np.arange(len(right)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(clusters, right), np.bincount(clusters)
    drawn = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))
