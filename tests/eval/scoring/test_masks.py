"""Scores of predicted masks: by brute force, and that shifted, mirrored and trivial masks score lower."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ct_rate_pairs.eval.scoring import masks
from ct_rate_pairs.eval.scoring.masks import (
    KEYS,
    THRESHOLDS,
    count_masks,
    drawn_masks,
    evaluate_masks,
    fit_thresholds,
    format_masks,
    make_atlas,
    masks_of_atlas,
    score_masks,
)


NAMES = ("Lung nodule", "Pleural effusion")
EXACT = np.array([9, 9])  # a threshold of 0.5


def make_row(number, has=(True, True)):
    """A box of each finding, which moves from row to row."""
    masks = np.zeros((2, 4, 24, 30), bool)
    masks[0, 1:3, 3 + number : 9 + number, 4:10] = has[0]
    masks[1, 2:, 14:22, 10 + number : 20] = has[1]
    shown = [[Image.fromarray(plane) for plane in mask] for mask in masks]
    pairs = [
        (mask, {"finding": name, "sentence": ""}) for mask, name, own in zip(shown, NAMES, has, strict=True) if own
    ]
    return {
        "images": [Image.new("L", (30, 24))] * 4,
        "masks": [mask for mask, _ in pairs],
        "mask_findings": [finding for _, finding in pairs],
    }


ROWS = [make_row(0), make_row(2), make_row(4, (True, False)), make_row(5, (False, True)), make_row(1, (False, False))]


def scores_of(change, rows=ROWS, chosen=EXACT):
    predict = lambda row: change(drawn_masks(row, NAMES).astype(np.float32))  # noqa: E731
    counts = count_masks(predict, rows, NAMES, progress=False, chosen=chosen)
    return score_masks(counts, chosen, counts.met, NAMES)


def test_the_drawn_masks_themselves_are_perfect():
    scores = scores_of(lambda masks: masks)
    assert [scores[key] for key in KEYS] == [1, 1, 1, 1, 1, 0, 1]
    assert [values["support"] for values in scores["findings"].values()] == [3, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda masks: np.roll(masks, 1, axis=1),
        lambda masks: np.roll(masks, 2, axis=2),
        lambda masks: masks[:, :, :, ::-1],
        lambda masks: masks[:, ::-1],
        lambda masks: masks[::-1],
    ],
    ids=["a slice lower", "two pixels lower", "mirrored", "upside down", "of the other finding"],
)
def test_masks_in_a_wrong_place_score_lower(change):
    assert scores_of(change)["dice"] < 0.85


def test_an_empty_mask_has_no_overlap_and_a_full_one_is_false_where_nothing_is():
    empty, full = scores_of(np.zeros_like), scores_of(np.ones_like)
    assert (empty["dice"], empty["met"], empty["false_masks"], empty["auroc"]) == (0, 0, 0, 0.5)
    assert (empty["lesion_recall"], empty["lesion_precision"], full["lesion_recall"]) == (0, None, 1)
    assert (full["met"], full["false_masks"], full["auroc"]) == (1, 1, 0.5)
    assert 0 < full["dice"] < 0.2


def test_a_finding_between_the_slices_is_not_absent():
    """Its mask on the slices is empty, and a mask there is wrong, but not where nothing is."""
    between = make_row(0, (False, False))
    between |= {"masks": [[Image.new("1", (30, 24))] * 4], "mask_findings": [{"finding": NAMES[0], "sentence": ""}]}
    scores = scores_of(np.ones_like, [ROWS[0], between])["findings"]
    nodule, effusion = ([scores[name][key] for key in ("false_masks", "auroc", "support")] for name in NAMES)
    assert nodule == [None, None, 1] and effusion == [1, 0.5, 1]


def test_each_slice_has_lesions_of_its_own():
    """A box lies on two slices. Whoever finds it on one of them has found half of it."""

    def first_alone(masks):
        masks[:, 2:] = 0
        return masks

    scores = scores_of(first_alone, [make_row(0, (True, False))])["findings"][NAMES[0]]
    assert scores["lesion_recall"] == 0.5 and scores["lesion_precision"] == 1


def test_volumes_whose_masks_are_not_known_are_left_out():
    unknown = ROWS[0] | {"masks": None, "mask_findings": None}
    assert scores_of(lambda masks: masks, [unknown, *ROWS]) == scores_of(lambda masks: masks)
    with pytest.raises(ValueError, match="The masks of none of these volumes are known"):
        scores_of(lambda masks: masks, [unknown])


@given(st.integers(0, 2**20))
def test_the_counts_are_those_of_each_mask_at_each_threshold(seed):
    rng = np.random.default_rng(seed)
    maps = rng.choice([*THRESHOLDS, 0.0, 1.0, 0.33], size=(2, 4, 24, 30))
    row = ROWS[seed % len(ROWS)]
    drawn = drawn_masks(row, NAMES)
    counts = count_masks(lambda row: maps, [row], NAMES, progress=False)
    for label in range(2):
        masks = [maps[label] >= threshold for threshold in THRESHOLDS]
        assert counts.predicted[0, label].tolist() == [mask.sum() for mask in masks]
        assert counts.both[0, label].tolist() == [(mask & drawn[label]).sum() for mask in masks]


def test_a_threshold_is_the_one_of_the_best_dice_over_all_volumes():
    """Predictions are right at 0.7 and above, and noise lies below."""
    rng = np.random.default_rng(0)

    def predict(row):
        drawn = drawn_masks(row, NAMES)
        return np.where(drawn, 0.8, rng.uniform(0, 0.62, drawn.shape))

    chosen = fit_thresholds(count_masks(predict, ROWS, NAMES, progress=False))
    assert all(0.62 <= THRESHOLDS[place] <= 0.8 for place in chosen)


def test_the_atlas_is_the_mean_mask_and_knows_no_volume():
    atlas = make_atlas(ROWS, NAMES, progress=False)
    own = masks_of_atlas(atlas, ROWS[0])
    assert own.shape == (2, 4, 24, 30)
    mean = np.mean([drawn_masks(row, NAMES) for row in ROWS], axis=0)
    assert abs(own.mean() - mean.mean()) < 0.01 and np.abs(own - mean).max() < 0.35
    with pytest.raises(ValueError, match="The masks of no training volume are known"):
        make_atlas([ROWS[0] | {"masks": None}], NAMES, progress=False)


def evaluate_planted(monkeypatch, on_test, on_validation=(0.8, 0.5), validation=ROWS):
    """Scores of a model with two predictions on validation, inside and outside of masks; `on_test` and 0.1 on test."""

    def predict(model, head, collator, row):
        return np.where(drawn_masks(row, NAMES), *((on_test, 0.1) if row in TEST else on_validation))

    monkeypatch.setattr(masks, "predict_masks", predict)
    return evaluate_masks(None, SimpleNamespace(names=NAMES), None, ROWS, validation, TEST, progress=False)


TEST = [make_row(number) for number in (1, 3)] + [make_row(6, (False, False))]


def test_a_model_stands_beside_the_atlas_and_no_mask_at_all(monkeypatch):
    results = evaluate_planted(monkeypatch, on_test=0.8)
    assert results["n"] == 3 and all(results["model"][key] == 1 for key in ("dice", "met", "pointed", "auroc"))
    assert 0 < results["atlas"]["dice"] < 1 and results["atlas"]["auroc"] == 0.5
    empty = {key: results["empty"][key] for key in KEYS}
    nothing = dict.fromkeys(("dice", "met", "pointed", "lesion_recall", "false_masks"), 0)
    assert empty == nothing | {"lesion_precision": None, "auroc": 0.5}


def test_thresholds_come_from_validation_and_not_from_what_is_measured(monkeypatch):
    """On the test the model is right, but less sure: thresholds that were fitted there would make it perfect."""
    scores = evaluate_planted(monkeypatch, on_test=0.4)["model"]
    assert scores["dice"] == 0 and scores["pointed"] == scores["auroc"] == 1


@pytest.mark.parametrize(
    ("on_validation", "validation"),
    [((0.8, 0.5), [make_row(number, (True, False)) for number in range(3)]), ((0.04, 0.5), ROWS)],
    ids=["not drawn", "never met"],
)
def test_what_validation_does_not_show_has_no_threshold_and_is_no_mask_at_a_low_share(
    monkeypatch, on_validation, validation
):
    results = evaluate_planted(monkeypatch, 0.8, on_validation, validation)
    scores = results["model"]["findings"]["Pleural effusion"]
    assert scores["threshold"] is None and (scores["dice"], scores["false_masks"]) == (1, 0)
    told = format_masks(results).splitlines()[-1]
    assert told.startswith("masks: no mask met the finding on validation, so 0.5 is taken:")
    unmet = [name for name, own in results["model"]["findings"].items() if own["threshold"] is None]
    assert told.endswith(f": {', '.join(unmet)}") and len(unmet) == (1 if validation is not ROWS else 2)
