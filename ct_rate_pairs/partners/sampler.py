"""
Which volume serves as the negative of which: the heterogeneous partners of the paper's section 7.2, and the hard
partners that its section 11.2 plans. `ct-rate-pairs partners` prints what both rules do to a split.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np


BALANCE_STEPS, BALANCE_DAMPING = 15, 0.95  # of the iterative proportional fitting


class NoPartnerError(LookupError):
    """No volume of another patient is left to draw."""


class ExpectedDraws(NamedTuple):
    """Expected values for an epoch with one draw per volume."""

    of_pattern: np.ndarray  # number of draws that fall on the volumes of each label pattern, [P]
    at_distance: np.ndarray  # number of draws with each label distance, 0 to L, [L + 1]
    lacking_a_finding: float  # number of draws whose partner lacks a finding of the volume
    idle: np.ndarray  # for each label pattern, the probability that a given volume of it is never drawn, [P]


class PartnerSampler:
    """
    Draws the partner of a volume: a volume of another patient in the same split, chosen by its labels.

    - heter: a partner differs in at least `min_label_distance` labels. If no volume differs that much, the volumes
      that differ most are used.
    - hard: a partner differs in at most `max_label_distance` labels and lacks a finding of the volume's report: a
      label that is 1 in the volume and 0 in the partner. If no such volume is that near, the nearest such volumes are
      used. If no volume lacks a finding (mostly when the volume has none), a partner is a near volume with other
      labels, that is, with a finding that the report denies. If all volumes have the same labels, any volume is used.

    The rules work on label patterns (CT-RATE has 6,514 of them), not on single volumes (CT-RATE has 47,149).

    Args:
        labels (`np.ndarray`):
            0/1 labels of shape `[N, 18]`.
        patients (`Sequence[str]`):
            Patient of each of the N volumes.
        min_label_distance (`int`, *optional*, defaults to `10`):
            Smallest label distance of a heter partner: the number of labels, of 18, that differ.
        sampling (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"`: all volumes that the rule allows are equally likely (the paper). `"balanced"`: weighted so
            that all volumes serve about equally often, as far as the rule allows.
        hard (`bool`, *optional*, defaults to `False`):
            Whether partners are hard instead of heter.
        max_label_distance (`int`, *optional*, defaults to `3`):
            Largest label distance of a hard partner.

    Raises:
        `ValueError`: if all volumes are of one patient, or a label distance is not between 1 and 18.
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
        # A pattern is a number with one bit per label, so that one XOR gives the distances to all other patterns.
        self.patterns, pattern_of, self.counts = np.unique(
            labels @ (1 << np.arange(self.num_labels)), return_inverse=True, return_counts=True
        )  # [P], [N], [P]
        self.pattern_of = pattern_of.astype(np.int32)
        self.min_label_distance = min_label_distance
        self.max_label_distance = max_label_distance
        self.hard = hard
        self.weights = np.ones(len(self.patterns))  # weight of one volume of each pattern, [P]
        if sampling == "balanced":
            self._balance()

    def draw(self, index: int, rng: np.random.Generator, without: Sequence[int] = ()) -> tuple[int, int]:
        """
        Draw the partner of one volume.

        Args:
            index (`int`):
                Index of the volume.
            rng (`np.random.Generator`):
                Random stream of the draw. The draw depends on nothing else but the arguments.
            without (`Sequence[int]`, *optional*):
                Indices of volumes that must not be drawn.

        Returns:
            `tuple[int, int]`: the index and the label distance of the partner.

        Raises:
            `NoPartnerError`: if no volume of another patient is left.
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
        What the rule does to this cohort: expected values for an epoch with one draw per volume. They neglect that a
        partner is never a volume of the same patient.
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
        """Expected values for an epoch with one draw per volume, by label pattern and by label distance."""
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
        """The patterns that may serve `pattern`, and their label distances. `counts` volumes of each are left."""
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
        """For each pattern, whether it lacks a finding of `pattern`, bool `[P]`."""
        return (self.patterns[pattern] & ~self.patterns) != 0

    def _balance(self) -> None:
        """
        Fits the weights so that all volumes are used equally often (iterative proportional fitting).

        Often no weights reach equal use: with heter, a healthy volume has only very sick partners. Without damping,
        the weights would then grow apart without end. With damping, the fit always converges.
        """
        eligible = np.zeros((len(self.patterns), len(self.patterns)), dtype=np.float32)
        for pattern in range(len(self.patterns)):
            eligible[pattern, self._eligible(pattern, self.counts)[0]] = 1
        for _ in range(BALANCE_STEPS):
            per_mass = self.counts / (eligible @ (self.weights * self.counts).astype(np.float32))
            # Expected draws of a volume of weight 1, [P]; 0 for a pattern that no volume may have as its partner.
            per_weight = eligible.T @ per_mass.astype(np.float32)
            self.weights = np.maximum(per_weight, 1e-9, dtype=np.float64) ** -BALANCE_DAMPING
