"""Findings lines are scored on their own: as label vectors, by patient, and beside the report below them."""

import numpy as np
import pytest

from ct_rate_pairs.eval.metrics.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.scoring.findings_lines import (
    score_following,
    score_line_sides,
    score_lines,
    score_probabilities,
)
from ct_rate_pairs.eval.scoring.operating_points import LineCalibration
from ct_rate_pairs.eval.scoring.places import read_places
from ct_rate_pairs.eval.tables import format_lines
from ct_rate_pairs.reports.findings_line import write_line
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL


VOLUMES = [f"valid_{patient}_a_{reconstruction}.nii.gz" for patient in range(1, 9) for reconstruction in (1, 2)]
RNG = np.random.default_rng(0)
TRUE, OF_LINES, STATED = (RNG.integers(0, 2, (16, 18)) for _ in range(3))
STATED[:5] = OF_LINES[:5]


@pytest.mark.parametrize("kind", ["names", "yes_no", "sides"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_lines_are_scored_as_the_labels_that_they_state(kind, language):
    sides = dict(zip(LATERAL, ["right", "left", "both"] * 3, strict=False))  # one has none
    lines = {v: write_line(labels, kind, language, sides) for v, labels in zip(VOLUMES, OF_LINES, strict=True)}
    scores = score_lines(lines, VOLUMES, STATED, TRUE, ci=0.9)
    by_patient = {"volumes": VOLUMES, "ci": 0.9}
    expected = coverage(OF_LINES, TRUE, LABELS, **by_patient) | label_accuracy(OF_LINES, TRUE, LABELS, **by_patient)
    for name in ("coverage", "coverage_ci", "precision_micro", "f1_micro", "f1_micro_ci", "f1_macro", "accuracy"):
        assert scores[f"line_{name}"] == expected[name]
    assert scores["line_agreement"] == 5 / 16 and scores["line_malformed"] == 0
    low, high = scores["line_agreement_ci"]
    assert low < 5 / 16 < high


def test_a_missing_or_malformed_line_is_counted_and_states_nothing():
    lines = {v: write_line(labels, "names") for v, labels in zip(VOLUMES, TRUE, strict=True)}
    lines[VOLUMES[0]] = "Abnormalities: Cardiomegaly; Pneumothorax."
    del lines[VOLUMES[1]]
    scores = score_lines(lines, VOLUMES, TRUE, TRUE)
    assert scores["line_malformed"] == 2 and scores["line_precision_micro"] == 1
    assert scores["line_coverage"] == pytest.approx(TRUE[2:].sum() / TRUE.sum())
    assert scores["line_agreement"] == 1  # of those with a line
    assert score_lines({}, VOLUMES, TRUE, TRUE)["line_agreement"] is None


def sided(language="en", **sides):
    """A line that states some findings, each with its side, or with none."""
    found = {LABELS.index(name.replace("_", " ")): side for name, side in sides.items()}
    return write_line([int(i in found) for i in range(18)], "sides", language, {i: s for i, s in found.items() if s})


def sides_scored(lines, reports, references, training=("Normal.",), ci=None):
    places = map(read_places, (reports, references, training))
    return score_line_sides(dict(zip(VOLUMES, lines, strict=False)), VOLUMES[: len(reports)], *places, ci=ci)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sides_of_a_line_are_those_of_the_reference_and_of_the_report(language):
    lines = [sided(language, Lung_nodule="left", Pleural_effusion="both", Cardiomegaly=""), sided(language)]
    references = ["Nodule in the left lung. Bilateral pleural effusion."] * 2
    right = sides_scored(lines, references, references)
    assert (right["line_side"], right["line_sides"]) == (1, 2)  # the second line states nothing
    assert (right["line_side_followed"], right["line_sides_placed"]) == (1, 2)
    wrong = sides_scored(lines, ["Nodule in the right lung. Effusion.", "A nodule on the left."], references)
    assert wrong["line_side"] == 1 and (wrong["line_side_followed"], wrong["line_sides_placed"]) == (0, 1)
    other = sides_scored(lines, references, ["Nodules in both lungs. Pleural effusion on both sides.", "Normal."])
    assert other["line_side"] == 0.5 and other["line_side_followed"] == 1


def test_an_unknown_side_is_neither_right_nor_wrong():
    reports = ["A nodule in the left lung. An effusion. Emphysema in both lungs."]
    scores = sides_scored([sided(Lung_nodule="", Pleural_effusion="left")], reports, reports)
    assert scores["line_side"] is scores["line_side_followed"] is scores["line_side_common"] is None
    assert scores["line_sides"] == scores["line_sides_placed"] == 0


def test_the_most_common_side_stands_beside_the_sides_of_lines():
    references = ["A nodule in the left lung.", "A nodule in the left lung.", "A nodule in the right lung."]
    lines = [sided(Lung_nodule="right")] * 3
    scores = sides_scored(lines, references, references, training=["A nodule in the left lung."])
    assert scores["line_side"] == pytest.approx(1 / 3) and scores["line_side_common"] == pytest.approx(2 / 3)


def test_the_sides_of_lines_have_intervals_by_patient_and_a_printed_line():
    lines = [sided(Lung_nodule="right")] * 8 + [sided(Lung_nodule="left")] * 8
    references = ["A nodule in the right lung."] * 16
    scores = sides_scored(lines, references, references, ci=0.9)
    for name in ("line_side", "line_side_followed"):
        low, high = scores[f"{name}_ci"]
        assert scores[name] == 0.5 and low < 0.5 < high
    own = score_lines(dict(zip(VOLUMES, lines, strict=True)), VOLUMES, STATED, TRUE)
    low, high = scores["line_side_ci"]
    told = (
        f"sides of the lines: right 0.500 [{low:.3f}, {high:.3f}] of 16 (most common: 0.000); the same in the report"
    )
    assert told in format_lines(own | scores | {"n": 16}) and "sides of" not in format_lines(own | {"n": 16})


@pytest.mark.parametrize("kind", ["names", "yes_no"])
def test_lines_without_sides_have_no_numbers_of_sides(kind):
    report = ["A nodule in the left lung."]
    assert sides_scored([write_line(TRUE[0], kind)], report, report) == {}
    assert sides_scored(["Abnormalities and sides: Lung nodule left."], report, report) == {}  # malformed


def test_reports_that_follow_their_line_are_counted_also_by_label():
    lines = {v: write_line(labels, "names") for v, labels in zip(VOLUMES, OF_LINES, strict=True)}
    stated = OF_LINES.copy()
    stated[3:, 4] = 0  # label 4 is never stated from the fourth report on
    del lines[VOLUMES[0]]
    scores, own = score_following(lines, VOLUMES, stated), OF_LINES[1:, 4]
    assert scores["line_followed"] == 1 - own[2:].sum() / 15
    of_label = scores["line_followed_per_label"]
    assert of_label[LABELS[4]] == {"followed": 1 - own[2:].sum() / 15, "stated": own[:2].sum() / own.sum()}
    assert of_label[LABELS[0]] == {"followed": 1, "stated": 1}
    assert score_following({}, VOLUMES, stated)["line_followed"] is None


def test_probabilities_are_scored_on_the_scans_of_which_they_are_known():
    logits = {v: (6.0 * labels - 3).tolist() for v, labels in zip(VOLUMES, TRUE, strict=True)}
    del logits[VOLUMES[0]]
    scores = score_probabilities(logits, VOLUMES, TRUE, TRUE)
    assert scores["line_auroc"] == 1 and scores["line_brier_ratio"] < 0.1
    assert 0 < scores["line_ece_by_chance"] < scores["line_ece"]
    assert scores["line_unknown"] == 1 and scores["line_calibrated"] is False and "operating_curve" not in scores
    held_out = {label: [0.05, 0.95] for label in LABELS}
    flat = LineCalibration(dict.fromkeys(LABELS, 1.0), dict.fromkeys(LABELS, 0.0), held_out)
    curve = score_probabilities(logits, VOLUMES, TRUE, TRUE, flat)["operating_curve"]
    assert list(curve) == ["f1", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95"]
    assert curve["0.9"]["coverage"] == curve["0.9"]["precision_micro"] == 1
    assert score_probabilities({}, VOLUMES, TRUE, TRUE) == {"line_calibrated": False, "line_unknown": 16}
