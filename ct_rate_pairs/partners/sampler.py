"""
Which volume serves as the negative of which: the heterogeneous partners of the paper's section 7.2, and hard ones
after the second plan of its section 11.2. `python -m ct_rate_pairs.partners` prints what both do to a split.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np


BALANCE_STEPS, BALANCE_DAMPING = 15, 0.95  # of the proportional fitting


class NoPartnerError(LookupError):
    """No volume of another patient is left to draw."""


class ExpectedDraws(NamedTuple):
    """What is to be expected of an epoch, which draws one partner a volume."""

    of_pattern: np.ndarray  # how many draws fall on volumes of each pattern, [P]
    at_distance: np.ndarray  # how many have each label distance, 0 to L, [L + 1]
    lacking_a_finding: float  # how many give a partner without one of the volume's findings
    idle: np.ndarray  # probability that no draw falls on a volume of each pattern, [P]


class PartnerSampler:
    """
    Draws, for a volume, another patient's volume of the same split, by what their labels say.

    - heter: a volume that differs in at least `min_label_distance` labels. Where none does, the farthest.
    - hard: a volume that differs in at most `max_label_distance` labels and lacks a finding of the volume's report,
      that is a label which is 1 in the volume and 0 in the partner. Where none is that near, the nearest that lacks
      one. Where none lacks any (a volume without findings, above all), one with a finding that the report denies
      takes its place, as near; where all have the same labels, any.

    The rule looks at label patterns, of which CT-RATE has 6,514, not at its 47,149 volumes.

    Args:
        labels (`np.ndarray`):
            0/1 labels of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each of the N volumes.
        min_label_distance (`int`, *optional*, defaults to `10`):
            In how many of the 18 labels a heter partner differs at least.
        sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"` over all volumes that the rule allows (the paper), or `"balanced"`: weighted so that every
            volume serves about as often as any other, as far as the rule lets it.
        hard (`bool`, *optional*, defaults to `False`):
            Hard partners instead of heter ones.
        max_label_distance (`int`, *optional*, defaults to `3`):
            In how many labels a hard partner differs at most.

    Raises:
        `ValueError`: all volumes are of one patient, or a label distance is not between 1 and 18.
    """

    def __init__(
        self,
        labels: np.ndarray,
        patients: Sequence[str],
        min_label_distance: int = 10,
        sampling: str = "uniform",
        hard: bool = False,
        max_label_distance: int = 3,
    ):
        for name, distance in (
            ("min_label_distance", min_label_distance),
            ("max_label_distance", max_label_distance),
        ):
            if not 1 <= distance <= len(labels[0]):
                raise ValueError(f"{name}={distance}: choose 1 to {len(labels[0])}, the number of labels.")
        self.patients = np.unique(np.asarray(patients), return_inverse=True)[1].astype(np.int32)  # [N]
        if self.patients.max() == 0:
            raise ValueError(
                f"negative='{'hard' if hard else 'heter'}' needs volumes of at least two patients in a split, but all "
                f"{len(labels)} are of {patients[0]}. Use negative='gauss', or a larger split."
            )
        labels = np.asarray(labels, dtype=np.int64)
        self.num_labels = labels.shape[1]
        # A pattern is a number with a bit a label: distances to all others are then one XOR away.
        self.patterns, pattern_of, self.counts = np.unique(
            labels @ (1 << np.arange(self.num_labels)), return_inverse=True, return_counts=True
        )  # [P], [N], [P]
        self.pattern_of = pattern_of.astype(np.int32)
        self.min_label_distance = min_label_distance
        self.max_label_distance = max_label_distance
        self.hard = hard
        self.weights = np.ones(len(self.patterns))  # of a volume of each pattern, [P]
        if sampling == "balanced":
            self._balance()

    def draw(self, index: int, rng: np.random.Generator, without: Sequence[int] = ()) -> tuple[int, int]:
        """
        Draw the partner of one volume.

        Args:
            index (`int`):
                The volume.
            rng (`np.random.Generator`):
                All that the draw depends on, beside the arguments.
            without (`Sequence[int]`, *optional*):
                Volumes that are passed over.

        Returns:
            `tuple[int, int]`: the partner's index, and in how many labels it differs.

        Raises:
            `NoPartnerError`: no volume of another patient is left.
        """
        barred = self.patients == self.patients[index]  # [N]
        barred[list(without)] = True
        counts = self.counts - np.bincount(self.pattern_of[barred], minlength=len(self.counts))
        if not counts.any():
            raise NoPartnerError
        eligible, distances = self._eligible(self.pattern_of[index], counts)
        mass = (self.weights * counts)[eligible]
        drawn = rng.choice(len(eligible), p=mass / mass.sum())
        partner = rng.choice(np.flatnonzero((self.pattern_of == eligible[drawn]) & ~barred))
        return int(partner), int(distances[drawn])

    def statistics(self) -> dict[str, float]:
        """
        What the rule does to this cohort, in expectation over an epoch of one draw a volume. That a patient's own
        volumes are left out of his draws is neglected here.
        """
        expected, volumes = self.expected_draws, len(self.pattern_of)
        of_volume = np.sort((expected.of_pattern / self.counts)[self.pattern_of])[::-1]  # [N], the busiest first
        positives = np.bitwise_count(self.patterns)
        within = slice(1, self.max_label_distance + 1) if self.hard else slice(self.min_label_distance, None)
        return {
            "volumes": volumes,
            "label_patterns": len(self.patterns),
            "share_with_a_partner": float(expected.at_distance[within].sum() / volumes),
            "share_of_draws_that_lack_a_finding": float(expected.lacking_a_finding / volumes),
            "share_of_volumes_that_serve_half_of_the_draws": float(
                (np.searchsorted(np.cumsum(of_volume), volumes / 2) + 1) / volumes
            ),
            "most_draws_of_one_volume": float(of_volume[0]),
            "share_of_volumes_idle_in_an_epoch": float(expected.idle @ self.counts / volumes),
            "share_of_volumes_that_never_serve": float((of_volume == 0).mean()),
            "mean_positives_of_partner": float(expected.of_pattern @ positives / volumes),
            "mean_positives_of_cohort": float(self.counts @ positives / volumes),
        }

    @cached_property
    def expected_draws(self) -> ExpectedDraws:
        of_pattern, idle = np.zeros(len(self.patterns)), np.ones(len(self.patterns))
        at_distance, lacking = np.zeros(self.num_labels + 1), 0.0
        mass = self.weights * self.counts
        for pattern, count in enumerate(self.counts):
            eligible, distances = self._eligible(pattern, self.counts)
            chances = mass[eligible] / mass[eligible].sum()
            of_pattern[eligible] += count * chances
            at_distance += count * np.bincount(distances, weights=chances, minlength=len(at_distance))
            lacking += count * chances[self._lacking(pattern)[eligible]].sum()
            idle[eligible] *= (1 - chances / self.counts[eligible]) ** count
        return ExpectedDraws(of_pattern, at_distance, lacking, idle)

    def _eligible(self, pattern: int, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The patterns that may serve `pattern` while `counts` volumes of each are left, with their distances."""
        distances = np.bitwise_count(self.patterns ^ self.patterns[pattern])  # [P]
        left = counts > 0
        if self.hard:
            kinds = (left & self._lacking(pattern), left & (distances > 0), left)
            pool = next(kind for kind in kinds if kind.any())
            eligible = pool & (distances <= max(self.max_label_distance, distances[pool].min()))
        else:
            eligible = left & (distances >= min(self.min_label_distance, distances[left].max()))
        eligible = np.flatnonzero(eligible)
        return eligible, distances[eligible]

    def _lacking(self, pattern: int) -> np.ndarray:
        """Which patterns lack a finding of `pattern`, bool `[P]`."""
        return (self.patterns[pattern] & ~self.patterns) != 0

    def _balance(self) -> None:
        """
        Iterative proportional fitting of the weights to equal use of the volumes.

        No weights may reach that (heter leaves a healthy volume only very sick partners), and would then part without
        end. Damped, the fitting converges whatever the rule allows.
        """
        eligible = np.zeros((len(self.patterns), len(self.patterns)), dtype=np.float32)
        for pattern in range(len(self.patterns)):
            eligible[pattern, self._eligible(pattern, self.counts)[0]] = 1
        for _ in range(BALANCE_STEPS):
            per_mass = self.counts / (eligible @ (self.weights * self.counts).astype(np.float32))
            per_weight = eligible.T @ per_mass.astype(np.float32)  # expected draws of a volume of weight 1, [P]
            self.weights = (
                np.maximum(per_weight, 1e-9, dtype=np.float64) ** -BALANCE_DAMPING
            )  # 0 where no volume may have it
