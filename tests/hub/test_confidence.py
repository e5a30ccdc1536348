"""How probable a finding is: the probability of its sentences, and what calibration makes of it."""

import json

import numpy as np
import pytest
import torch
from helpers.tiny_reader import COMBINATIONS, FINDINGS, INDICES, STATED, make_row, train_reader, write_report

from ct_rate_pairs.eval.metrics.calibration import errors
from ct_rate_pairs.eval.scoring.label_calibration import calibrate, fit_calibration
from ct_rate_pairs.hub.guard import LONGEST_SETTING
from ct_rate_pairs.hub.references import STRETCH, letters_of
from ct_rate_pairs.hub.reporting.confidence import (
    LONGEST_OPENING,
    apart,
    boundary,
    find_openings,
    fit_confidence,
    load_confidence,
    stating_logits,
)
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.sentences import report_sentences


RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def rows():
    """Scans whose labels are wrong now and then, so that a model that is sure of itself is too sure."""
    rng, rows = np.random.default_rng(1), []
    for seed in range(64):
        row = make_row(COMBINATIONS[seed % 8], seed=500 + seed)
        flipped = [int(value != (rng.random() < 0.15)) for value in np.array(row["labels"])[INDICES]]
        rows.append(row | {"labels": [flipped[INDICES.index(i)] if i in INDICES else 0 for i in range(18)]})
    return rows


@pytest.fixture(scope="module")
def confidence(reader, rows):
    return fit_confidence(*reader, rows, max_new_tokens=60, progress=False)


@pytest.mark.slow
def test_a_finding_that_is_shown_is_more_probable_than_one_that_is_not(reader, confidence):
    for shown in COMBINATIONS:
        p = confidence.probabilities(*reader, make_row(shown, seed=900), write_report(shown))
        assert len(p) == len(LABELS) and all(0 <= value <= 1 for value in p)
        for index, here in zip(INDICES, shown, strict=True):
            assert (p[index] > 0.5) == here
        assert max(p[i] for i in range(18) if i not in INDICES) < 0.1  # never there in the validation split


@pytest.mark.slow
def test_calibration_corrects_a_model_that_is_too_sure_and_beats_the_prevalence(confidence):
    calibrated, prevalence = confidence.measured["calibrated"], confidence.measured["prevalence"]
    assert confidence.measured["n"] == 64
    for score in ("brier", "nll"):
        assert calibrated[score] < 0.9 * prevalence[score]
    assert calibrated["nll"] < 0.7 * confidence.measured["uncalibrated"]["nll"]
    assert calibrated["ece"] < 0.05


@pytest.mark.slow
def test_confidences_are_about_as_often_right_as_they_say(reader, confidence):
    p = confidence.probabilities(*reader, make_row((1, 1, 1), seed=901), write_report((1, 1, 1)))
    assert np.mean([p[index] for index in INDICES]) == pytest.approx(0.85, abs=0.08)


@pytest.mark.parametrize("gap_mm", [16, 96])
@pytest.mark.slow
def test_the_probability_is_that_of_the_openings_at_every_place_where_a_sentence_may_begin(gap_mm):
    """
    Beside the shared cache stands the plain way: each opening scored in a whole dialogue of its own. At 96 mm the
    volume's last position lies behind those of the text, which a cache left to itself would count on from.
    """
    model, collator = train_reader(steps=40)  # not sure of much
    row, report = make_row((1, 0, 1), seed=900), write_report((0, 0, 0))
    row["slice_mm"] = [gap_mm * number for number in range(6)]
    openings = {label: [] for label in LABELS} | dict(zip(FINDINGS, ([s] for s in STATED), strict=True))
    openings["Emphysema"] = ["Emphysema is seen in", "Emphysema of"]

    def probability(ahead, text):
        whole = row | {"completion": [{"role": "assistant", "content": ahead + text}]}
        batch = collator([whole])
        del batch["volumes"]
        scored = (batch.pop("labels")[0] != -100).nonzero()[:, 0]
        count = len(collator.processor.tokenizer(ahead, add_special_tokens=False).input_ids)
        with torch.no_grad():
            log_probs = model(**batch).logits[0].log_softmax(dim=-1)
        own = scored[count : len(scored) - 1]  # without the end of the turn
        return log_probs[own - 1, batch["input_ids"][0, own]].sum().exp().item()

    places = sorted({end for s in report_sentences(report) for end in (boundary(report, s.start), s.end)})
    logits = stating_logits(model, collator, row, report, openings)
    for index in INDICES:
        texts = openings[LABELS[index]]
        sums = [sum(probability(report[:place], f" {t}" if place else t) for t in texts) for place in places]
        stated = 1 - np.prod(1 - np.array(sums))
        assert logits[index] == pytest.approx(np.log(stated / (1 - stated)), abs=0.02)
    assert np.delete(logits, INDICES).tolist() == [0.0] * 15


def test_openings_are_the_shortest_beginnings_that_settle_what_is_stated():
    reports = [
        "Pericardial effusion measuring 5 mm is seen. Emphysema.",
        "Pericardial effusion was not observed. Emphysema is seen in both lungs.",
    ]
    openings = find_openings(reports)
    assert openings["Pericardial effusion"] == ["Pericardial effusion measuring"]
    assert openings["Emphysema"] == ["Emphysema"]
    assert openings["Cardiomegaly"] == []


def test_no_opening_holds_another_so_that_probabilities_add_up():
    assert apart(["Emphysema", "Emphysema.", "Mild emphysema"]) == ["Emphysema", "Mild emphysema"]


def test_a_calibration_that_is_known_is_found_again():
    logits = RNG.normal(0, 4, (20000, 2))
    truth = calibrate(logits, np.array([2.0, 0.5]), np.array([-1.0, 0.5]))
    labels = (RNG.random(truth.shape) < truth).astype(np.int64)
    temperature, bias = fit_calibration(logits, labels)
    assert temperature == pytest.approx([2.0, 0.5], rel=0.08) and bias == pytest.approx([-1.0, 0.5], abs=0.1)


def test_labels_that_no_scan_or_every_scan_has_get_a_finite_calibration():
    logits = RNG.normal(0, 3, (50, 2))
    labels = np.stack([np.zeros(50, np.int64), np.ones(50, np.int64)], axis=1)
    p = calibrate(logits, *fit_calibration(logits, labels))
    assert np.isfinite(p).all() and p[:, 0].max() < 0.2 and p[:, 1].min() > 0.8


def test_errors_of_known_probabilities():
    labels = np.array([[1, 0], [1, 0]])
    assert errors(np.full((2, 2), 0.5), labels) == pytest.approx({"ece": 0.0, "brier": 0.25, "nll": np.log(2)})
    assert errors(np.array([[0.9, 0.1], [0.9, 0.1]]), labels) == pytest.approx(
        {"ece": 0.1, "brier": 0.01, "nll": -np.log(0.9)}
    )


@pytest.mark.slow
def test_it_is_the_same_when_it_is_saved_and_read_again(confidence, tmp_path):
    assert load_confidence(str(tmp_path)) is None
    confidence.save(tmp_path)
    assert load_confidence(str(tmp_path)) == confidence


@pytest.mark.slow
def test_the_file_holds_no_text_that_the_guard_would_take_for_a_report(confidence, tmp_path):
    confidence.save(tmp_path)
    openings = json.loads((tmp_path / "confidence.json").read_text())["openings"]
    texts = [text for own in openings.values() for text in own]
    assert openings["Cardiomegaly"] == ["Cardiomegaly"]
    assert max(len(text.split()) for text in texts) <= LONGEST_OPENING
    assert max(len(letters_of(text)) for text in texts) < STRETCH and max(map(len, texts)) <= LONGEST_SETTING


def test_no_opening_is_as_long_as_what_the_guard_takes_for_a_quote():
    long = "Bronchiectatic transformations, peribronchovascular interstitial thickenings and subpleural honeycombing"
    assert len(long.split()) <= LONGEST_OPENING
    openings = find_openings([f"{long} are observed. Emphysema is seen.", f"{long} are not observed."])
    assert openings["Emphysema"] == ["Emphysema"]
    assert all(len(letters_of(text)) < STRETCH for own in openings.values() for text in own)


def test_too_few_patients_are_refused(reader, rows):
    with pytest.raises(ValueError, match="scans of 4 patients, but judging it takes at least 5"):
        fit_confidence(*reader, rows[:4], progress=False)
