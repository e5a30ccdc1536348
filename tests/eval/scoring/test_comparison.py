"""Two runs of the same scans: equal runs never differ, order does not matter, chance is what it should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.eval.scoring.comparison import compare, compare_reports
from ct_rate_pairs.eval.scoring.scores import score_reports


REFERENCES = ["Heart size is increased.", "A nodule is seen in the left lung.", "No finding.", "Emphysema is seen."]
LABELS = np.zeros((4, 18), int)
LABELS[0, 2] = LABELS[1, 9] = LABELS[3, 7] = 1
VOLUMES = [f"valid_{patient}_a_1.nii.gz" for patient in range(4)]


def mean(sums):
    return {"mean": sums["hits"] / sums["reports"]}


def hits(values):
    return {"hits": np.array(values, float), "reports": np.ones(len(values))}


def test_every_metric_is_compared_under_the_values_of_the_results():
    second = [*REFERENCES[:2], "No finding.", "No finding."]
    result = compare_reports(REFERENCES, second, REFERENCES, LABELS, VOLUMES)
    for name, reports in (("first", REFERENCES), ("second", second)):
        scores = score_reports(reports, REFERENCES, LABELS)
        for metric in ("coverage", "accuracy", "f1_macro", "crg", "bleu1", "bleu4", "rouge_l"):
            assert result[metric][name] == pytest.approx(scores[metric])
    assert result["coverage"]["difference"] == pytest.approx(-1 / 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=2, max_size=20))
def test_the_difference_turns_its_sign_with_the_runs_and_vanishes_between_equal_ones(rows):
    first, second, patients = (np.array(values) for values in zip(*rows, strict=True))
    patients = np.unique(patients, return_inverse=True)[1]
    there = compare(hits(first), hits(second), mean, patients, resamples=50)["mean"]
    back = compare(hits(second), hits(first), mean, patients, resamples=50)["mean"]
    assert there["difference"] == -back["difference"] and there["p"] == back["p"]
    same = compare(hits(first), hits(first), mean, patients, resamples=50)["mean"]
    assert (same["difference"], same["p"]) == (0, 1)
    if len(set(patients)) == 1:
        assert there["ci"] is back["ci"] is same["ci"] is None  # a lone patient says nothing of others
    else:
        assert there["ci"] == pytest.approx([-back["ci"][1], -back["ci"][0]]) and same["ci"] == [0, 0]


def test_a_level_in_percent_is_refused():
    with pytest.raises(ValueError, match="pass `ci=0.95`"):
        compare(hits([0, 1]), hits([1, 1]), mean, np.arange(2), ci=95)


def test_p_is_the_share_of_swaps_that_differ_as_much():
    # Ten patients, each better in the second run: only all swapped or none differ as much, 2 of 1,024.
    result = compare(hits([0] * 10), hits([1] * 10), mean, np.arange(10), resamples=20000)["mean"]
    assert result["difference"] == 1 and result["ci"] == [1, 1]
    assert result["p"] == pytest.approx(2 / 1024, abs=1e-3)


def test_a_patients_scans_are_swapped_together():
    # Ten scans of one patient: a swap of all of them, or none, always differs as much.
    result = compare(hits([0] * 10), hits([1] * 10), mean, np.zeros(10, int), resamples=100)["mean"]
    assert result["p"] == 1


def test_under_no_difference_p_is_uniform():
    rng = np.random.default_rng(0)
    p = [
        compare(hits(rng.random(40)), hits(rng.random(40)), mean, np.arange(40), resamples=200, seed=i)["mean"]["p"]
        for i in range(200)
    ]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)
