"""
Chooses items (which questions to ask of a volume) so that what the item is does not tell its value (the answer).

Each volume gets a fixed number of its items. How probable each is to be among them is fitted so that over all volumes
the values of an item come up equally often, as far as the volumes allow it.
"""

import numpy as np


def balanced_chances(values: np.ndarray, share: np.ndarray, balanced: np.ndarray, count: int) -> np.ndarray:
    """
    How probable each item of each volume is to be chosen.

    Iterative proportional fitting of one weight per item and value; the chances of a volume are its items' weights,
    scaled to the number that it gets and cut at 1.

    Args:
        values (`np.ndarray`):
            Value of each of the `Q` items for each of the `N` volumes, int of shape `[N, Q]`; -1 where a volume does
            not have the item.
        share (`np.ndarray`):
            Weight of each item ahead of the fit, float `[Q]`: how often it is to be chosen, against the others.
        balanced (`np.ndarray`):
            Which items are to have values that come up equally often, bool `[Q]`.
        count (`int`):
            Items a volume; one that has fewer gets all of them.

    Returns:
        `np.ndarray`: chances of shape `[N, Q]`. Each line sums to `count`, or to the number of the volume's items.
    """
    rows, line, repeats = np.unique(values, axis=0, return_inverse=True, return_counts=True)  # [U, Q], [N], [U]
    sizes = np.minimum(count, (rows >= 0).sum(axis=1))  # [U]
    # Cells: an item with one value. What has no balance to keep has a single cell an item.
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
        # A value that is too rare for the balance has its chances at 1, and its weight would grow without end.
        weights = weights.clip(max=weights[counts > 0].min(initial=1) * 1e9)
    return _chances(np.where(there, weights.reshape(-1)[cell], 0), sizes)[line]


def choose(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Choose items of one volume, each with exactly its chance (systematic sampling in a random order).

    Args:
        chances (`np.ndarray`):
            Of shape `[Q]`; they sum to a whole number.
        rng (`np.random.Generator`):
            All that the choice depends on.

    Returns:
        `np.ndarray`: that many different items, in a random order.
    """
    sure = np.flatnonzero(chances > 1 - 1e-6)
    rest = rng.permutation(np.flatnonzero(chances <= 1 - 1e-6))
    edges = np.cumsum(chances[rest])
    if len(rest):
        edges[-1] = round(edges[-1])  # a whole number, but for rounding errors
    steps = np.diff(np.floor(edges + rng.random()), prepend=0)
    return rng.permutation(np.concatenate([sure, rest[steps > 0]]))


def _chances(weights: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Weights `[U, Q]` scaled to the sum `sizes` `[U]`, where none is more than 1."""
    sure = np.zeros(weights.shape, dtype=bool)
    while True:
        rest = np.where(sure, 0, weights)
        scale = (sizes - sure.sum(axis=1)) / rest.sum(axis=1).clip(1e-300)
        chances = np.where(sure, 1, rest * scale[:, None])
        over = chances > 1 + 1e-9
        if not over.any():
            return chances
        sure |= over
