import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.matcher_scores import label_prompts
from ct_rate_pairs.eval.metrics.ranking import auroc, chance, label_auroc, retrieval


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_that_are_in_order_ties_counted_half(scans):
    scores, labels, weights = (np.array(column, dtype=float) for column in zip(*scans, strict=True))
    pairs = [
        (wp * wn, 1.0 if p > n else 0.5 if p == n else 0.0)
        for (p, positive, wp), (n, negative, wn) in product(scans, scans)
        if positive and not negative
    ]
    total = sum(weight for weight, _ in pairs)
    area = auroc(scores, labels, weights)
    if total:
        assert area == pytest.approx(sum(weight * won for weight, won in pairs) / total)
    else:
        assert np.isnan(area)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 1)), min_size=2, max_size=20))
def test_auroc_asks_for_the_order_only_and_turns_around_with_the_scores(scans):
    scores, labels = (np.array(column) for column in zip(*scans, strict=True))
    area = auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - area, nan_ok=True)
    assert auroc(np.unique(scores, return_inverse=True)[1], labels) == pytest.approx(area, nan_ok=True)


def test_one_area_a_draw():
    scores, labels = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0])
    assert auroc(scores, labels, np.array([[1, 1, 1], [2, 1, 0], [0, 1, 3]])).tolist() == [0.5, 1, 0]


def test_labels_without_both_classes_have_no_area_and_no_part_in_the_mean():
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]])
    scores = np.array([[2.0, 1.0, 5.0], [1.0, 1.0, 4.0], [3.0, 1.0, 4.0]])
    result = label_auroc(scores, labels, ["a", "b", "c"])
    assert result["per_label"]["a"] == {"auroc": 1, "support": 2}
    assert result["per_label"]["b"] == {"auroc": None, "support": 0}
    assert result["per_label"]["c"]["auroc"] == 0.75
    assert result["auroc_macro"] == pytest.approx((1 + 0.75) / 2)


def test_intervals_hold_the_area_shrink_with_patients_and_are_ready_for_json():
    rng = np.random.default_rng(0)

    def measure(patients):
        labels = rng.integers(0, 2, (patients, 18))
        scores = labels + rng.normal(size=labels.shape)
        return label_auroc(scores, labels, volumes=[f"valid_{i}_a_1.nii.gz" for i in range(patients)], ci=0.95)

    few, many = measure(40), measure(400)
    for result in (few, many):
        assert json.loads(json.dumps(result)) == result
        for row in result["per_label"].values():
            assert row["auroc_ci"][0] < row["auroc"] < row["auroc_ci"][1]
        assert result["auroc_macro_ci"][0] < result["auroc_macro"] < result["auroc_macro_ci"][1]
    (few_low, few_high), (low, high) = few["auroc_macro_ci"], many["auroc_macro_ci"]
    assert high - low < (few_high - few_low) / 2


def test_the_scans_of_one_patient_are_drawn_together():
    labels, scores = np.tile([[0], [1]], (6, 1)), np.arange(12.0)[:, None]
    result = label_auroc(scores, labels, ["a"], volumes=["valid_1_a_1.nii.gz"] * 12, ci=0.9)
    assert result["auroc_macro_ci"] is None and result["per_label"]["a"]["auroc_ci"] is None


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 0 has 2 labels"):
        label_auroc(np.zeros((1, 2)), [[0, 1]])


def test_the_right_ones_of_a_perfect_matrix_are_all_found():
    result = retrieval(np.eye(20), [f"Report {i}." for i in range(20)])
    for direction in ("image_to_text", "text_to_image"):
        scores = result[direction]
        assert [scores[f"recall_at_{k}"] for k in (1, 5, 10)] == [1, 1, 1]
        assert [scores[f"chance_at_{k}"] for k in (1, 5, 10)] == pytest.approx([0.05, 0.25, 0.5])


def test_directions_are_not_mixed_up():
    similarity = np.eye(12)
    similarity[:, 0] = 2  # every scan likes the first report best
    result = retrieval(similarity, [f"Report {i}." for i in range(12)])
    assert result["image_to_text"]["recall_at_1"] == pytest.approx(1 / 12)
    assert result["text_to_image"]["recall_at_1"] == 1


def test_any_scan_or_report_of_the_same_wording_is_right():
    texts = ["No finding.", "no  FINDING.", "Emphysema."]
    similarity = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.0, 0.1, 1.0]])
    result = retrieval(similarity, texts, recalls=(1,))
    assert result["image_to_text"]["recall_at_1"] == result["text_to_image"]["recall_at_1"] == 1
    assert result["image_to_text"]["chance_at_1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_a_model_that_finds_all_alike_is_at_chance():
    result = retrieval(np.ones((40, 40)), [f"Report {i}." for i in range(40)])
    for k in (1, 5, 10):
        assert result["image_to_text"][f"recall_at_{k}"] == pytest.approx(result["image_to_text"][f"chance_at_{k}"])


def test_chance_is_what_random_orders_reach():
    rng = np.random.default_rng(0)
    texts = [f"Report {i % 15}." for i in range(20)]
    runs = [retrieval(rng.random((20, 20)), texts)["text_to_image"] for _ in range(400)]
    for k in (1, 5, 10):
        assert np.mean([run[f"recall_at_{k}"] for run in runs]) == pytest.approx(runs[0][f"chance_at_{k}"], abs=0.02)
    assert chance(3, 1, 10) == 1


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), but 2 reports"):
        retrieval(np.zeros((2, 3)), ["a", "b"])


def test_every_label_has_a_prompt_for_and_one_against():
    assert label_prompts(LABELS[2]) == ("Cardiomegaly is present.", "There is no cardiomegaly.")
    assert len({prompt for label in LABELS for prompt in label_prompts(label)}) == 36
