"""
Groups of volumes whose texts are one another's false options, so that no text tells by itself that it is the true one.

A split is parted into groups of `num_false + 1` volumes. Each volume is asked for with the texts of its group as the
options: whatever the options are, each of them is the true one in one of the group's questions. A false text that is
drawn for each volume by itself gives the true one away: a text that many volumes share is then true more often than it
is false, and of texts that were chosen for their likeness to the true one, that one is in the middle.
"""

import numpy as np


# How many of the volumes that are left are looked through for the nearest ones.
POOL = 512
TRIES = 8


def kept_of(keys: np.ndarray, size: int, rank: np.ndarray) -> np.ndarray:
    """
    Which volumes can be grouped: a text that more than one volume in `size` shares cannot be in a group of its own.

    Args:
        keys (`np.ndarray`):
            Integers of shape `[N, K]`; two volumes that share one must not meet in a group.
        size (`int`):
            Volumes a group.
        rank (`np.ndarray`):
            Of shape `[N]`: of the volumes of a key that is too frequent, those of the lowest rank are kept.

    Returns:
        `np.ndarray`: bool `[N]`.
    """
    kept = np.ones(len(keys), dtype=bool)
    while kept.any():
        before = kept.sum()
        for key in keys.T:
            _, line, counts = np.unique(key[kept], return_inverse=True, return_counts=True)
            most = counts.max(initial=0)
            while size * most > np.minimum(counts, most).sum():
                most -= 1
            indices = np.flatnonzero(kept)
            order = np.lexsort((rank[indices], line))
            place = np.arange(len(order)) - np.searchsorted(line[order], line[order])  # within the key
            kept[indices[order[place >= most]]] = False
        if kept.sum() == before:
            break
    return kept


def draw_groups(
    keys: np.ndarray, size: int, rng: np.random.Generator, patterns: np.ndarray | None = None
) -> np.ndarray:
    """
    Part volumes into groups at random, those with the most frequent keys first.

    What cannot be grouped at the end (the remainder of a division by `size`, above all) has a group filled up with
    volumes that are in another group, too.

    Args:
        keys (`np.ndarray`):
            Integers of shape `[N, K]`, as for [`kept_of`].
        size (`int`):
            Volumes a group.
        rng (`np.random.Generator`):
            All that the groups depend on, beside the arguments.
        patterns (`np.ndarray`, *optional*):
            The labels of each volume as the bits of a number, uint32 `[N]`. With them, those whose labels differ
            least are grouped.

    Returns:
        `np.ndarray`: for each volume its group, int `[N, size]`, itself first.

    Raises:
        `ValueError`: when a volume has fewer than `size - 1` others to be with.
    """
    # A part may end with volumes that cannot be together, although another one would not.
    groups, left = _part(keys, size, rng, patterns)
    for _ in range(TRIES - 1):
        if len(left) <= len(keys) % size:
            break
        groups, left = min((groups, left), _part(keys, size, rng, patterns), key=lambda part: len(part[1]))
    everything = rng.permutation(len(keys))
    for first in left:
        members = _near(first, everything, keys, size, patterns)
        if len(members) < size:
            raise ValueError(
                f"matching: only {len(members) - 1} volumes can be false options of one volume, but "
                f"num_false={size - 1}: they have to be other patients' and to differ in their texts. Use a smaller "
                "`num_false`, difficulty='random', or a larger split."
            )
        groups[first] = members
    return groups


def _part(
    keys: np.ndarray, size: int, rng: np.random.Generator, patterns: np.ndarray | None
) -> tuple[np.ndarray, list[int]]:
    """Groups as [`draw_groups`] gives them, -1 for those volumes that are left over; and these."""
    crowd = np.max([sharers(key) for key in keys.T], axis=0)  # [N]
    groups = np.full((len(keys), size), -1)
    free = np.ones(len(keys), dtype=bool)
    waiting = rng.permutation(len(keys))
    left = []
    for first in np.lexsort((rng.random(len(keys)), -crowd)):
        if not free[first]:
            continue
        waiting = waiting[free[waiting]]
        start = rng.integers(len(waiting))  # what is left of one place over and over is near to nobody
        pool = np.take(waiting, np.arange(start, start + min(POOL, len(waiting))), mode="wrap")
        members = _near(first, pool, keys, size, patterns)
        if len(members) < size:
            members = _near(first, waiting, keys, size, patterns)
        if len(members) < size:
            left.append(first)
            free[first] = False
            continue
        for member in members:
            groups[member] = [member, *(other for other in members if other != member)]
        free[members] = False
    return groups, left


def _near(first: int, pool: np.ndarray, keys: np.ndarray, size: int, patterns: np.ndarray | None) -> list[int]:
    """A volume and those of the pool that can be in one group with it, the nearest first; `size` at most."""
    pool = pool[(keys[pool] != keys[first]).all(axis=1)]
    if patterns is not None:
        pool = pool[np.argsort(np.bitwise_count(patterns[pool] ^ patterns[first]), kind="stable")]
    members = [first]
    for other in pool:
        if (keys[other] != keys[members]).all():
            members.append(int(other))
            if len(members) == size:
                break
    return members


def sharers(key: np.ndarray) -> np.ndarray:
    """How many volumes have the key of each volume, `[N]`."""
    _, line, counts = np.unique(key, return_inverse=True, return_counts=True)
    return counts[line]
