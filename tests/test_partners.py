"""The partner rule of the paper's section 7.2."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.partners import PartnerSampler


def cohort(n: int, seed: int, prevalence: float = 0.3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 18)) < prevalence).astype(np.int8), [f"train_{i // 2}" for i in range(n)]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 40), st.integers(0, 99), st.sampled_from(["uniform", "balanced"]), st.integers(1, 18))
def test_a_partner_is_another_patients_and_far_enough_or_the_farthest(n, seed, sampling, least):
    labels, patients = cohort(n, seed)
    sampler = PartnerSampler(labels, patients, least, sampling)
    rng = np.random.default_rng(seed)
    for i in range(n):
        partner, distance = sampler.draw(i, rng)
        distances = (labels != labels[i]).sum(axis=1)
        others = [j for j in range(n) if patients[j] != patients[i]]
        assert partner in others
        assert distance == distances[partner]
        assert distance >= min(least, max(distances[others]))


def test_uniform_draws_reach_every_partner_equally():
    labels, patients = cohort(30, 0, 0.5)
    sampler, rng = PartnerSampler(labels, patients, 9), np.random.default_rng(0)
    drawn = np.bincount([sampler.draw(0, rng)[0] for _ in range(4000)], minlength=30)
    allowed = ((labels != labels[0]).sum(axis=1) >= 9) & (np.array(patients) != patients[0])
    assert (drawn[~allowed] == 0).all()
    expected = 4000 / allowed.sum()
    assert np.abs(drawn[allowed] - expected).max() < 5 * np.sqrt(expected)


def test_balanced_draws_use_the_volumes_more_evenly():
    labels, patients = cohort(300, 1, 0.3)
    shares = {
        sampling: PartnerSampler(labels, patients, 8, sampling).statistics() for sampling in ("uniform", "balanced")
    }
    served = "share_of_volumes_that_serve_half_of_the_draws"
    assert shares["balanced"][served] > 1.3 * shares["uniform"][served]
    assert shares["balanced"]["mean_positives_of_partner"] < shares["uniform"]["mean_positives_of_partner"]


def test_statistics_agree_with_the_draws():
    labels, patients = cohort(120, 2)
    sampler, rng = PartnerSampler(labels, patients, 8), np.random.default_rng(0)
    partners = [sampler.draw(i, rng)[0] for i in range(120) for _ in range(40)]
    assert labels[partners].sum(axis=1).mean() == pytest.approx(
        sampler.statistics()["mean_positives_of_partner"], abs=0.15
    )


def test_a_single_patient_is_an_error():
    with pytest.raises(ValueError, match="two patients"):
        PartnerSampler(np.zeros((3, 18)), ["train_1"] * 3)
