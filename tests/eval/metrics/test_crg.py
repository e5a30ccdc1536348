"""CRG: the anchors that its authors give, a case by hand, and its monotony."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ct_rate_pairs.eval.metrics.crg import crg


NAMES = ("a", "b", "c")
TRUTH = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]])

label_arrays = st.integers(1, 6).flatmap(lambda n: arrays(np.int8, (n, 3), elements=st.integers(0, 1)))


def test_golden_by_hand():
    # X = 12, A = 4: r = 1, U = 4. Two hits, two misses, one false positive: s = 2 - 2 - 1.
    guess = [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert crg(guess, TRUTH, NAMES) == {"crg": pytest.approx(4 / 9, abs=1e-12)}
    # A = 3 of 12: r = 1.5, U = 4.5. One hit, two misses: s = -1.5.
    rarer = TRUTH.copy()
    rarer[3] = 0
    assert crg([[1, 0, 0], *[[0, 0, 0]] * 3], rarer, NAMES)["crg"] == pytest.approx(4.5 / 10.5, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(label_arrays)
def test_trivial_reports_have_a_third_and_perfect_ones_one(truth):
    assume(0 < truth.sum() < truth.size)
    assert crg(np.zeros_like(truth), truth, NAMES)["crg"] == pytest.approx(1 / 3, abs=1e-12)
    assert crg(np.ones_like(truth), truth, NAMES)["crg"] == pytest.approx(1 / 3, abs=1e-12)
    assert crg(truth, truth, NAMES)["crg"] == pytest.approx(1, abs=1e-12)
    assert crg(1 - truth, truth, NAMES)["crg"] == pytest.approx(1 / 5, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(label_arrays, st.data())
def test_every_mended_entry_raises_it(truth, data):
    assume(0 < truth.sum() < truth.size)
    guess = data.draw(arrays(np.int8, truth.shape, elements=st.integers(0, 1)))
    wrong = np.argwhere(guess != truth)
    assume(len(wrong))
    mended = guess.copy()
    mended[tuple(wrong[0])] ^= 1
    assert crg(mended, truth, NAMES)["crg"] > crg(guess, truth, NAMES)["crg"]


@pytest.mark.parametrize("value", [0, 1])
def test_without_positives_or_without_negatives_it_is_none(value):
    truth = np.full((2, 3), value)
    assert crg(TRUTH[:2], truth, NAMES, ci=0.95) == {"crg": None, "crg_ci": None, "ci_level": 0.95}


def test_interval_holds_the_number():
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < 0.3).astype(int)
    guess = np.where(rng.random((200, 3)) < 0.2, 1 - truth, truth)
    result = crg(guess, truth, NAMES, ci=0.95)
    low, high = result["crg_ci"]
    assert low < result["crg"] < high
    assert high - low < 0.3


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match="`predictions` row 0, label 'b': 0.7"):
        crg([[0, 0.7, 0]], [[0, 1, 0]], NAMES)
