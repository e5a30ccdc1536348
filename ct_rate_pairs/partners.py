"""Which volume serves as the negative of which: the heterogeneous partners of the paper's section 7.2."""

from collections.abc import Sequence

import numpy as np


class NoPartnerError(LookupError):
    """No volume of another patient is left to draw."""


class PartnerSampler:
    """
    Draws, for a volume, another patient's volume of the same split whose labels differ enough.

    Where no volume differs by `min_label_distance`, the farthest there are take its place. Distances are computed
    between label patterns, of which CT-RATE has 6,514, not between its 47,149 volumes.

    Args:
        labels (`np.ndarray`):
            0/1 labels of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each of the N volumes.
        min_label_distance (`int`, *optional*, defaults to `10`):
            How many of the 18 labels must differ.
        sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` over all partners far enough (the paper), or `"balanced"`: weighted so that every volume
            serves as equally often as the distance rule allows.
    """

    def __init__(
        self, labels: np.ndarray, patients: Sequence[str], min_label_distance: int = 10, sampling: str = "uniform"
    ):
        self.patients = np.unique(np.asarray(patients), return_inverse=True)[1]
        if len(labels) and self.patients.max() == 0:
            raise ValueError(
                f"negative='heter' needs volumes of at least two patients in a split, but all {len(labels)} are of "
                f"{patients[0]}. Use negative='gauss', or a larger split."
            )
        self.min_label_distance = min_label_distance
        self.patterns, self.pattern_of = np.unique(np.asarray(labels, dtype=np.int8), axis=0, return_inverse=True)
        self.counts = np.bincount(self.pattern_of, minlength=len(self.patterns))
        self.weights = np.ones(len(self.patterns))
        if sampling == "balanced":
            self._balance()

    def draw(self, index: int, rng: np.random.Generator, without: Sequence[int] = ()) -> tuple[int, int]:
        """
        Returns `(partner, distance)`: the index of the drawn volume and in how many labels it differs.

        The volumes in `without` are passed over.

        Raises:
            `NoPartnerError`: no volume of another patient is left.
        """
        distances = self._distances(self.pattern_of[index])[self.pattern_of]  # [N]
        others = self.patients != self.patients[index]
        others[list(without)] = False
        if not others.any():
            raise NoPartnerError
        candidates = np.flatnonzero(others & (distances >= self.min_label_distance))
        if not len(candidates):
            candidates = np.flatnonzero(others & (distances == distances[others].max()))
        weights = self.weights[self.pattern_of[candidates]]
        cumulative = np.cumsum(weights)
        partner = candidates[
            min(np.searchsorted(cumulative, rng.random() * cumulative[-1], "right"), len(weights) - 1)
        ]
        return int(partner), int(distances[partner])

    def statistics(self) -> dict[str, float]:
        """What the rule does to this cohort, in expectation over the draws (same-patient exclusions neglected)."""
        usage = self._usage()  # draws that fall on each pattern, over one epoch
        per_volume = np.sort((usage / self.counts)[self.pattern_of])[::-1]
        reached = np.cumsum(per_volume) / per_volume.sum()
        positives = self.patterns.sum(axis=1)
        farthest = np.array([self._distances(p).max() for p in range(len(self.patterns))])
        return {
            "volumes": len(self.pattern_of),
            "label_patterns": len(self.patterns),
            "share_with_a_partner": float(self.counts[farthest >= self.min_label_distance].sum() / self.counts.sum()),
            "share_of_volumes_that_serve_half_of_the_draws": float((np.searchsorted(reached, 0.5) + 1) / len(reached)),
            "most_draws_of_one_volume": float(per_volume[0]),
            "mean_positives_of_partner": float((usage * positives).sum() / usage.sum()),
            "mean_positives_of_cohort": float((self.counts * positives).sum() / self.counts.sum()),
        }

    def _distances(self, pattern: int) -> np.ndarray:
        return (self.patterns != self.patterns[pattern]).sum(axis=1)  # [P]

    def _eligible(self) -> np.ndarray:
        """Bool `[P, P]`: may a volume of the row's pattern get one of the column's as its partner?"""
        eligible = np.empty((len(self.patterns), len(self.patterns)), dtype=bool)
        for pattern in range(len(self.patterns)):
            distances = self._distances(pattern)
            eligible[pattern] = distances >= min(self.min_label_distance, distances.max())
        return eligible

    def _usage(self) -> np.ndarray:
        """Expected number of draws that fall on each pattern over one epoch, `[P]`."""
        mass = self.weights * self.counts
        usage = np.zeros(len(self.patterns))
        eligible = self._eligible()
        for pattern, count in enumerate(self.counts):
            drawn = mass * eligible[pattern]
            usage += count * drawn / drawn.sum()
        return usage

    def _balance(self, steps: int = 30) -> None:
        """Iterative proportional fitting of the column weights; what no weight can reach (the rule leaves a healthy
        volume only very sick partners) stays unequal."""
        eligible = self._eligible().astype(np.float32)
        for _ in range(steps):
            per_row = self.counts / (eligible @ (self.weights * self.counts).astype(np.float32))
            share = eligible.T @ per_row.astype(np.float32)  # expected draws of a volume per unit of weight, [P]
            # Bounded, as a pattern that the rule gives to nobody would otherwise grow without end.
            self.weights = np.clip(1 / np.maximum(share, 1e-3), 1e-3, 1e3)
