"""
Groups of volumes whose texts are each other's false options, so that a text alone never shows whether it is true.

A split is divided into groups of `num_false + 1` volumes. The options of each volume are the texts of its group, so
each text is the true text in exactly one question of the group. If false texts were drawn for each volume separately,
the texts alone would say something about the answer: a text that many volumes share would be true more often than
false, and among texts that were chosen because they resemble the true text, the true text would be the most typical.
"""

import numpy as np


POOL = 512  # remaining volumes among which the nearest volumes are searched
TRIES = 8  # divisions that are tried, to leave as few volumes over as possible


def kept_of(keys: np.ndarray, size: int, rank: np.ndarray) -> np.ndarray:
    """
    Which volumes can be grouped. If more than one in `size` volumes has the same key, some of them find no group.

    Args:
        keys (`np.ndarray`):
            `K` integer keys of each volume (such as its text and its patient), of shape `[N, K]`. Two volumes with an
            equal key must not be in the same group.
        size (`int`):
            Volumes per group.
        rank (`np.ndarray`):
            Rank of each volume, of shape `[N]`. If a key is too frequent, its volumes with the lowest ranks are kept.

    Returns:
        `np.ndarray`: whether each volume is kept, bool `[N]`.
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
            place = np.arange(len(order)) - np.searchsorted(line[order], line[order])  # among volumes of the same key
            kept[indices[order[place >= most]]] = False
        if kept.sum() == before:
            break
    return kept


def draw_groups(
    keys: np.ndarray, size: int, rng: np.random.Generator, patterns: np.ndarray | None = None
) -> np.ndarray:
    """
    Divide volumes into random groups. Volumes with the most frequent keys are grouped first.

    Some volumes may be left over at the end, mostly because `size` does not divide the number of volumes. Each of them
    gets a group that is filled up with volumes that also are in another group.

    Args:
        keys (`np.ndarray`):
            Integer keys of shape `[N, K]`, as for [`kept_of`].
        size (`int`):
            Volumes per group.
        rng (`np.random.Generator`):
            Random stream of the draw. The groups depend on nothing else but the arguments.
        patterns (`np.ndarray`, *optional*):
            Labels of each volume as the bits of a number, uint32 `[N]`. If given, volumes whose labels differ least
            are grouped together.

    Returns:
        `np.ndarray`: the group of each volume, int `[N, size]`. The volume itself comes first.

    Raises:
        `ValueError`: if fewer than `size - 1` volumes can be in a group with some volume.
    """
    # A division may leave volumes over that do not fit together, where another division would not.
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
    """One division: the groups as in [`draw_groups`], with -1 for the volumes left over, and these volumes."""
    crowd = np.max([sharers(key) for key in keys.T], axis=0)  # [N]
    groups = np.full((len(keys), size), -1)
    free = np.ones(len(keys), dtype=bool)
    waiting = rng.permutation(len(keys))
    left = []
    for first in np.lexsort((rng.random(len(keys)), -crowd)):
        if not free[first]:
            continue
        waiting = waiting[free[waiting]]
        # A random start: otherwise the same volumes, near to no other, would stay at the front of the pool.
        start = rng.integers(len(waiting))
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
    """A volume and the nearest volumes of the pool that can be in a group with it, at most `size` in all."""
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
    """For each volume, the number of volumes with the same key, `[N]`."""
    _, line, counts = np.unique(key, return_inverse=True, return_counts=True)
    return counts[line]
