"""
Mutual partners (`partner_sampling="mutual"`): the volumes of a batch serve as each other's negatives, so that no
further volume is read for them.
"""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.random_streams import random_stream


BATCHES = 500  # random batches that the statistics are estimated from


def match_mutually(
    labels: np.ndarray, patients: Sequence[str], sizes: Sequence[tuple[int, ...]] | None = None
) -> list[int | None]:
    """
    Match each volume of a batch with another one, its partner, so that each volume serves at most once.

    A partner is of another patient and has other labels. As many volumes as possible have a partner, and the sum of
    the label distances is the largest that is possible then. Among equal sums, as many partners as possible have the
    size of their volume.

    Args:
        labels (`np.ndarray` of shape `[B, L]`):
            0/1 labels of the volumes.
        patients (`Sequence[str]`):
            Patient of each volume.
        sizes (`Sequence[tuple[int, ...]]`, *optional*):
            Size of each volume; by default, all sizes are the same.

    Returns:
        `list[int | None]`: the index of each volume's partner; `None` for a volume without a partner.
    """
    number, width = np.shape(labels)
    distances = (np.asarray(labels)[:, None] != np.asarray(labels)[None]).sum(axis=-1)  # [B, B]
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    allowed = (patient[:, None] != patient[None]) & (distances > 0)  # never a volume itself: its patient is the same
    same_size = np.array([[one == other for other in sizes] for one in sizes]) if sizes is not None else 0
    gains = distances * (number + 1) + same_size  # all equal sizes together count less than one label
    most = (width + 1) * (number + 1)
    partners = _assign(np.where(allowed, -gains, most * (number + 1)))  # one more pair counts more than all distances
    return [int(partner) if allowed[volume, partner] else None for volume, partner in enumerate(partners)]


def mutual_statistics(
    labels: np.ndarray, patients: Sequence[str], batch_size: int, min_label_distance: int
) -> dict[str, float]:
    """
    What mutual partners are like in a cohort: means over random batches.

    Args:
        labels (`np.ndarray` of shape `[N, L]`):
            0/1 labels of the volumes.
        patients (`Sequence[str]`):
            Patient of each volume.
        batch_size (`int`):
            Volumes in a batch.
        min_label_distance (`int`):
            The label distance that a partner of the paper has.

    Returns:
        `dict[str, float]`: the share of the volumes that have a partner, and of the pairs the mean label distance and
        the share that differs in `min_label_distance` labels.
    """
    rng, patients, distances = random_stream(0), np.asarray(patients), []
    size = min(batch_size, len(patients))
    for _ in range(BATCHES):
        batch = rng.choice(len(patients), size=size, replace=False)
        matched = match_mutually(labels[batch], patients[batch])
        distances += [
            (labels[batch[volume]] != labels[batch[partner]]).sum()
            for volume, partner in enumerate(matched)
            if partner is not None
        ]
    return {
        "share_with_a_partner": len(distances) / (BATCHES * size),
        "mean_label_distance": float(np.mean(distances)) if distances else 0.0,
        f"share_at_{min_label_distance}_or_more": float(np.mean(np.array(distances) >= min_label_distance))
        if distances
        else 0.0,
    }


def _assign(costs: np.ndarray) -> np.ndarray:
    """
    The column of each row in the assignment of least cost, `[B]`: the Hungarian algorithm with potentials (Kuhn 1955,
    Jonker and Volgenant 1987), which adds one row after the other along a cheapest augmenting path.
    """
    number = len(costs)
    of_row, of_column = np.zeros(number), np.zeros(number + 1)  # potentials; the last column is where a path begins
    row_at = np.full(number + 1, -1)  # row that each column is assigned to
    for row in range(number):
        row_at[number] = row
        column, cheapest = number, np.full(number, np.inf)
        before, visited = np.full(number, number), np.zeros(number + 1, dtype=bool)
        while row_at[column] >= 0:
            visited[column] = True
            current, free = row_at[column], ~visited[:number]
            reduced = costs[current] - of_row[current] - of_column[:number]
            better = free & (reduced < cheapest)
            cheapest[better], before[better] = reduced[better], column
            column = int(np.where(free, cheapest, np.inf).argmin())
            step = cheapest[column]
            of_row[row_at[visited]] += step
            of_column[visited] -= step
            cheapest[free] -= step
        while column != number:
            previous = before[column]
            row_at[column] = row_at[previous]
            column = previous
    assigned = np.empty(number, dtype=np.int64)
    assigned[row_at[:number]] = np.arange(number)
    return assigned
