"""Places are compared where both reports have one: on the same side, in the same lobes, by patient."""

import re

import numpy as np
import pytest
from helpers.phantom_reports import cohort
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.eval.scoring.comparison import compare_reports
from ct_rate_pairs.eval.scoring.places import misplaced, read_places, score_common_places, score_places
from ct_rate_pairs.eval.tables import format_places
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL


FINDINGS = ("A nodule", "Atelectasis", "Pleural effusion", "Consolidation", "Emphysema", "Bronchiectasis")
PLACES = ("in the right lung", "in the left lung", "in the right lung lower lobe", "in the left lung upper lobe")
SENTENCES = st.lists(st.tuples(st.sampled_from(FINDINGS), st.sampled_from(PLACES)), min_size=1, max_size=6)


def report_of(sentences):
    """One place per finding, so that every finding is on one side."""
    return " ".join(f"{finding} is observed {place}." for finding, place in dict(sentences).items())


def mirrored(report):
    return re.sub("left|right", lambda side: {"left": "right", "right": "left"}[side[0]], report)


def scores(prediction, reference):
    result = score_places([prediction], [reference])
    return {key: result[key] for key in ("side_accuracy", "lobe_accuracy", "stated_by_both", "sides", "lobes")}


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [  # side_accuracy, lobe_accuracy, stated by both, sides, lobes
        ("A nodule in the left lung.", "A nodule in the right lung.", (0, None, 1, 1, 0)),
        ("Nodule in the RUL.", "A nodule in the upper lobe of the right lung.", (1, 1, 1, 1, 1)),
        ("Nodule in the right lung upper lobe.", "A nodule in the right lung lower lobe.", (1, 0, 1, 1, 1)),
        # A text that names both sides, in one sentence or in several
        ("Effusion on the left. Effusion on the right.", "Bilateral pleural effusion.", (1, None, 1, 1, 0)),
        ("Effusion on the left.", "Bilateral pleural effusion.", (0, None, 1, 1, 0)),
        # All lobes count, not one of them
        ("Nodule in the left upper lobe.", "Nodules in the left upper and lower lobes.", (1, 0, 1, 1, 1)),
        # The lingula is in the left upper lobe
        ("Atelectasis in the lingula.", "Atelectasis in the left upper lobe.", (1, 1, 1, 1, 1)),
        # A place that is unknown is not wrong, and lobes need lobes on both sides
        ("A nodule.", "A nodule in the right lung.", (None, None, 1, 0, 0)),
        ("A nodule in the lower lobe.", "A nodule in the right lung lower lobe.", (None, None, 1, 0, 0)),
        ("A nodule in the right lung.", "A nodule in the right lung lower lobe.", (1, None, 1, 1, 0)),
        # What only one of them states, or denies, is not compared
        ("No nodule in the left lung.", "A nodule in the right lung.", (None, None, 0, 0, 0)),
        ("Effusion on the left.", "A nodule in the right lung.", (None, None, 0, 0, 0)),
        # The heart and a catheter have no side
        ("Cardiomegaly. A catheter on the left.", "Cardiomegaly. A catheter on the right.", (None, None, 0, 0, 0)),
    ],
)
def test_a_place_is_right_if_both_reports_have_it(prediction, reference, expected):
    assert tuple(scores(prediction, reference).values()) == expected


@settings(max_examples=50, deadline=None)
@given(SENTENCES, SENTENCES)
def test_mirrored_reports_have_all_that_the_others_lack(sentences, others):
    prediction, reference = report_of(sentences), report_of(others)
    there, mirror = scores(prediction, reference), scores(mirrored(prediction), reference)
    assert there["sides"] == mirror["sides"]
    if there["sides"]:
        assert there["side_accuracy"] == pytest.approx(1 - mirror["side_accuracy"])
    wrong = there["side_accuracy"] not in (1, None) or there["lobe_accuracy"] not in (1, None)
    assert wrong == bool(misplaced(prediction, reference))


@settings(max_examples=50, deadline=None)
@given(SENTENCES)
def test_a_report_is_right_against_itself_and_wrong_against_its_mirror(sentences):
    report = report_of(sentences)
    assert scores(report, report)["side_accuracy"] == 1 and scores(report, report)["lobe_accuracy"] in (1, None)
    assert scores(mirrored(report), report)["side_accuracy"] == 0
    assert not misplaced(report, report)
    assert misplaced(mirrored(report), report) == {LATERAL[i] for i in placed_columns(report)}


def placed_columns(report):
    rows = score_places([report], [report])["per_label"]
    return [i for i, label in enumerate(LATERAL) if rows[LABELS[label]]["sides"]]


@pytest.mark.slow
def test_the_phantom_against_itself_is_right_in_every_place():
    reports = cohort(200).reports
    result = score_places(reports, reports)
    assert result["side_accuracy"] == result["lobe_accuracy"] == 1
    assert result["sides"] == result["stated_by_both"] > result["lobes"] > 0
    for count in ("sides", "lobes", "stated_by_both"):
        assert sum(row[count] for row in result["per_label"].values()) == result[count]
    assert list(result["per_label"]) == [LABELS[label] for label in LATERAL]


def test_the_interval_is_by_patient():
    right, wrong = "A nodule in the left lung.", "A nodule in the right lung."
    volumes = [f"valid_{patient}_a_{scan}.nii.gz" for patient in range(1, 9) for scan in (1, 2)]
    predictions = [right] * 8 + [wrong] * 8
    result = score_places(predictions, [right] * 16, volumes=volumes, ci=0.9)
    low, high = result["side_accuracy_ci"]
    assert result["side_accuracy"] == 0.5 and 0 < low < 0.5 < high < 1 and result["lobe_accuracy_ci"] is None
    alone = score_places(predictions, [right] * 16, ci=0.9)["side_accuracy_ci"]
    assert alone[1] - alone[0] < high - low  # sixteen patients of one scan each say more


def test_the_most_common_place_of_the_training_reports_is_what_needs_no_look():
    train = ["A nodule in the left lung upper lobe.", "A nodule in the left lung.", "A nodule in the right lung."]
    lower = "A nodule in the right lung lower lobe."
    references, predictions = ["A nodule in the left lung upper lobe.", lower, "Bilateral nodules."], [lower] * 3
    predicted, true = read_places(predictions), read_places(references)
    assert score_common_places(predicted, true, read_places(train)) == {
        "side_accuracy_common": pytest.approx(1 / 3),
        "lobe_accuracy_common": 0.5,
    }
    # A finding that no training report places is never right, and is counted all the same.
    assert score_common_places(predicted, true, read_places(["Normal."]))["side_accuracy_common"] == 0


def test_two_runs_are_compared_by_their_places():
    references = ["A nodule in the left lung upper lobe.", "Effusion on the right."] * 4
    second = [*references[:4], *map(mirrored, references[4:])]
    volumes = [f"valid_{patient}_a_1.nii.gz" for patient in range(8)]
    result = compare_reports(references, second, references, np.zeros((8, 18), int), volumes)
    for key in ("side_accuracy", "lobe_accuracy"):
        assert (result[key]["first"], result[key]["second"], result[key]["difference"]) == (1, 0.5, -0.5)


def test_the_line_below_the_table_tells_how_many_and_what_needs_no_look():
    model = score_places(["A nodule in the left lung."], ["A nodule in the right lung."])
    model |= {"side_accuracy_common": 1.0, "lobe_accuracy_common": None}
    assert format_places(model) == (
        "places of 1 findings that report and reference both state: right side 0.000 of 1 (most common: 1.000), "
        "right lobes - of 0 (most common: -)"
    )
    assert format_places({"n": 1}) == ""  # results of an earlier release
