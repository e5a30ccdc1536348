"""
Chooses items (the questions about a volume) so that an item alone does not predict its value (the answer).

A fixed number of items is chosen for each volume. The probability of each item is fitted so that, over all volumes,
the values of an item are chosen equally often, as far as the volumes allow it.
"""

import numpy as np


def balanced_chances(values: np.ndarray, share: np.ndarray, balanced: np.ndarray, count: int) -> np.ndarray:
    """
    The probability of each item of each volume to be chosen.

    Iterative proportional fitting gives one weight per item and value. The probabilities of a volume are the weights
    of its items, scaled to the number of items that are chosen for it. None of them exceeds 1.

    Args:
        values (`np.ndarray`):
            Value of each of the `Q` items for each of the `N` volumes, int of shape `[N, Q]`; -1 where a volume does
            not have the item.
        share (`np.ndarray`):
            Relative frequency of each item before the fit, float of shape `[Q]`.
        balanced (`np.ndarray`):
            Whether the values of each item are to be chosen equally often, bool of shape `[Q]`.
        count (`int`):
            Items per volume. A volume with fewer items gets all of them.

    Returns:
        `np.ndarray`: probabilities of shape `[N, Q]`. Each row sums to `count`, or to the number of items of the
        volume if it has fewer.
    """
    rows, line, repeats = np.unique(values, axis=0, return_inverse=True, return_counts=True)  # [U, Q], [N], [U]
    sizes = np.minimum(count, (rows >= 0).sum(axis=1))  # [U]
    # A cell is an item with one value. An item that is not balanced has a single cell.
    coded = np.where(rows >= 0, np.where(balanced, rows, 0), -1)
    cells = coded.max(initial=0) + 1
    cell = np.where(coded >= 0, coded + cells * np.arange(rows.shape[1]), -1)  # [U, Q]
    there = cell >= 0

    def expected(chances: np.ndarray) -> np.ndarray:
        mass = np.bincount(cell[there], weights=(chances * repeats[:, None])[there], minlength=cells * rows.shape[1])
        return mass.astype(float).reshape(-1, cells)  # [Q, cells]

    counts = expected(np.ones(rows.shape))
    weights = np.divide(share[:, None], counts, where=counts > 0, out=np.zeros_like(counts))
    for _ in range(30):
        chances = _chances(np.where(there, weights.reshape(-1)[cell], 0), sizes)
        mass = np.where(counts > 0, expected(chances).clip(1e-12), 1)
        even = np.exp(np.log(mass).sum(axis=1, keepdims=True) / (counts > 0).sum(axis=1, keepdims=True).clip(1))
        weights *= even / mass
        # If a value is too rare to be balanced, its probabilities stay at 1 and its weight would grow without end.
        weights = weights.clip(max=weights[counts > 0].min(initial=1) * 1e9)
    return _chances(np.where(there, weights.reshape(-1)[cell], 0), sizes)[line]


def choose(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Choose items of one volume, each with exactly its probability (systematic sampling in a random order).

    Args:
        chances (`np.ndarray`):
            Probability of each item, of shape `[Q]`. Their sum is a whole number, the number of items to choose.
        rng (`np.random.Generator`):
            Random stream of the choice, which depends on nothing else but the arguments.

    Returns:
        `np.ndarray`: indices of the chosen items, all different, in random order.
    """
    sure = np.flatnonzero(chances > 1 - 1e-6)
    rest = rng.permutation(np.flatnonzero(chances <= 1 - 1e-6))
    edges = np.cumsum(chances[rest])
    if len(rest):
        edges[-1] = round(edges[-1])  # a whole number, except for rounding errors
    steps = np.diff(np.floor(edges + rng.random()), prepend=0)
    return rng.permutation(np.concatenate([sure, rest[steps > 0]]))


def _chances(weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Weights `[U, Q]`, scaled so that each row sums to its size in `sizes` `[U]` and no value exceeds 1."""
    sure = np.zeros(weights.shape, dtype=bool)
    while True:
        rest = np.where(sure, 0, weights)
        scale = (sizes - sure.sum(axis=1)) / rest.sum(axis=1).clip(1e-300)
        chances = np.where(sure, 1, rest * scale[:, None])
        over = chances > 1 + 1e-9
        if not over.any():
            return chances
        sure |= over
