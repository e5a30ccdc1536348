"""Operating points: thresholds that hold by expectation, and what lines they set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.eval.scoring.label_calibration import folds_of, judge
from ct_rate_pairs.eval.scoring.operating_points import LineCalibration, read_operating_point, thresholds_at
from ct_rate_pairs.reports.findings_line import open_text, sides_of, write_line
from ct_rate_pairs.reports.labels import LABELS


PROBABILITIES = st.lists(st.floats(1e-4, 1), min_size=1, max_size=30)


def held_out(p):
    return {label: sorted(p) for label in LABELS}


@given(PROBABILITIES, st.sampled_from([0.5, 0.8, 0.95]))
def test_a_sensitivity_is_reached_by_expectation_and_by_no_higher_threshold(p, sensitivity):
    p = np.array(p)
    threshold = thresholds_at(sensitivity, held_out(p))[0]
    assert p[p >= threshold].sum() >= sensitivity * p.sum() - 1e-9
    assert p[p > threshold].sum() < sensitivity * p.sum() + 1e-9


@given(PROBABILITIES)
def test_no_other_threshold_has_a_higher_expected_f1(p):
    p = np.array(p)

    def f1(threshold):
        stated = p >= threshold
        return 2 * p[stated].sum() / (stated.sum() + p.sum())

    assert f1(thresholds_at("f1", held_out(p))[0]) >= max(map(f1, p)) - 1e-9


def test_a_higher_sensitivity_never_states_less():
    p = np.random.default_rng(0).random(200) ** 3
    thresholds = [thresholds_at(s, held_out(p))[0] for s in (0.3, 0.5, 0.7, 0.9, 0.99)]
    assert thresholds == sorted(thresholds, reverse=True) and len(set(thresholds)) == 5


def test_one_threshold_serves_a_sensitivity_and_those_of_the_best_f1_lie_between_the_common_and_the_label_s_own():
    sure, blind = [0.01] * 50 + [0.98] * 50, [0.1] * 100
    p = {label: sorted(blind if label == LABELS[0] else sure) for label in LABELS}
    assert len(set(thresholds_at(0.9, p))) == 1
    thresholds = thresholds_at("f1", p)
    assert thresholds[0] == pytest.approx((0.1 + 0.98) / 2) and set(thresholds[1:]) == {0.98}
    assert thresholds[0] > 0.1  # what a model cannot see is not stated for every scan


@pytest.mark.parametrize(("text", "point"), [("f1", "f1"), ("0.9", 0.9), (0.25, 0.25), ("none", None)])
def test_an_operating_point_is_f1_or_a_sensitivity_or_none(text, point):
    assert read_operating_point(text) == point


@pytest.mark.parametrize("text", ["F2", "", "0", "1", 1.5, "nan", "-0.5", True, "90%"])
def test_anything_else_is_no_operating_point(text):
    with pytest.raises(ValueError, match="give f1, or a sensitivity above 0 and below 1"):
        read_operating_point(text)


@pytest.mark.parametrize(("kind", "language"), [("names", "en"), ("yes_no", "zh")])
def test_a_line_is_set_by_the_thresholds_in_the_form_of_the_model_s_own(kind, language):
    ones, zeros = dict.fromkeys(LABELS, 1.0), dict.fromkeys(LABELS, 0.0)
    point = LineCalibration(ones, zeros, held_out([0.1, 0.2, 0.7])).at("f1")
    logits = np.full(18, -3.0)
    logits[[2, 5]] = 2.0
    line = point.set_line(logits, write_line([0] * 18, kind, language), {})
    assert line == write_line([int(i in (2, 5)) for i in range(18)], kind, language)
    assert open_text(line).labels == tuple(point.decide(logits))
    logits[8] = 2.0
    sided = point.set_line(logits, write_line([0] * 18, "sides", language), {8: "right", 9: "both"})
    assert open_text(sided).labels == tuple(point.decide(logits)) and sides_of(sided) == {8: "right"}
    assert point.set_line(logits, "Abnormalities: heart.", {}) is None and point.set_line(logits, None, {}) is None
    assert point.describe() == {"operating_point": "f1", "thresholds": [0.7] * 18}


def test_probabilities_are_judged_against_the_prevalence():
    labels = np.zeros((4, 18), dtype=int)
    labels[:2, 0] = 1
    right = np.where(labels, 0.9, 0.1)
    quality = judge(right, labels, labels.mean(axis=0))
    assert quality["auroc"] == 1 and quality["brier"] == pytest.approx(0.01)
    assert quality["brier_ratio"] == pytest.approx(0.01 / (4 * 0.25 / 72))
    assert judge(right[:, 1:], labels[:, 1:], np.full(17, 0.1))["auroc"] is None
    with pytest.raises(ValueError, match="scans of 2 patients, but judging it takes at least 5"):
        folds_of(["valid_1_a_1.nii.gz", "valid_2_a_1.nii.gz"])
