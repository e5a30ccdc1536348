"""Coverage, accuracy, all scores together and the table: small cases by hand, and invariants."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ct_rate_pairs.eval import coverage, format_table, label_accuracy, label_reports, score_reports
from ct_rate_pairs.eval.metrics.label_inputs import read_labels
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report


NAMES = ("a", "b", "c")
TRUTH = [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
GUESS = [[1, 0, 0], [0, 1, 0], [0, 0, 0]]

label_pairs = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[arrays(np.int8, (n, 3), elements=st.integers(0, 1)) for _ in range(2)])
)


def test_coverage_by_hand():
    result = coverage(GUESS, TRUTH, NAMES)
    assert result["coverage"] == pytest.approx(1 / 3)  # 1 of the 3 positives
    assert result["coverage_macro"] == pytest.approx((1 / 2 + 0) / 2)  # "c" never occurs
    assert result["per_label"] == {
        "a": {"coverage": 0.5, "support": 2},
        "b": {"coverage": 0.0, "support": 1},
        "c": {"coverage": None, "support": 0},
    }


def test_accuracy_by_hand():
    result = label_accuracy(GUESS, TRUTH, NAMES)
    assert result["accuracy"] == pytest.approx(6 / 9)
    assert result["exact_match"] == pytest.approx(1 / 3)
    assert result["precision_micro"] == pytest.approx(1 / 2)
    assert result["recall_micro"] == pytest.approx(1 / 3)
    assert result["f1_micro"] == pytest.approx(2 / 5)
    assert result["precision_macro"] == pytest.approx((1 + 0) / 2)
    assert result["recall_macro"] == pytest.approx((1 / 2 + 0) / 2)
    assert result["f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert result["per_label"]["c"] == {
        "precision": None, "recall": None, "f1": None, "accuracy": 1.0, "support": 0, "predicted": 0
    }  # fmt: skip


def test_all_negative_scores_zero_and_never_nan():
    result = label_accuracy([[0, 0, 0]] * 3, TRUTH, NAMES)
    assert result["precision_micro"] == result["recall_micro"] == result["f1_micro"] == result["f1_macro"] == 0.0
    assert result["accuracy"] == pytest.approx(6 / 9)


def test_macro_means_leave_out_labels_that_never_occur():
    result = label_accuracy([[1, 0, 1]], [[1, 0, 0]], NAMES)
    assert result["per_label"]["c"]["precision"] == result["per_label"]["c"]["f1"] == 0.0
    assert [result[f"{key}_macro"] for key in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]
    assert result["precision_micro"] == 0.5


def test_without_any_positive_the_result_is_none():
    zeros = [[0, 0, 0]]
    assert coverage(zeros, zeros, NAMES)["coverage"] is None
    assert coverage(zeros, zeros, NAMES)["coverage_macro"] is None
    result = label_accuracy(zeros, zeros, NAMES)
    assert [result[f"{key}_micro"] for key in ("precision", "recall", "f1")] == [None] * 3
    assert label_accuracy([[1, 0, 0]], zeros, NAMES)["precision_micro"] == 0.0


@pytest.mark.parametrize("metric", [coverage, label_accuracy])
@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[0, 0, 0]], TRUTH, "1 predictions for 3 references"),
        ([], [], "is empty"),
        ([[0, 0]], [[0, 0, 0]], "`predictions` row 0 has 2 labels; 3 are expected"),
        ([[0, 0, 0]], [[0, 0, 0, 0]], "`references` row 0 has 4 labels"),
        ([[0, 0.7, 0]], [[0, 0, 0]], "`predictions` row 0, label 'b': 0.7"),
        ([[0, 0, 0]], [[0, 0, -1]], "`references` row 0, label 'c'"),
        ([[0, 0, float("nan")]], [[0, 0, 0]], "label 'c': nan"),
    ],
)
def test_bad_labels_are_named(metric, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metric(predictions, references, NAMES)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(label_pairs, st.randoms())
def test_invariants(pair, random):
    guess, truth = pair
    covered, agreement = coverage(guess, truth, NAMES), label_accuracy(guess, truth, NAMES)
    assert covered["coverage"] == agreement["recall_micro"]
    assert covered["coverage_macro"] == agreement["recall_macro"]
    order = list(range(len(truth)))
    random.shuffle(order)
    assert coverage(guess[order], truth[order], NAMES) == covered
    assert label_accuracy(guess[order], truth[order], NAMES) == agreement
    numbers = [value for key, value in {**covered, **agreement}.items() if key != "per_label"]
    assert all(value is None or 0 <= value <= 1 for value in numbers)
    perfect = {**coverage(truth, truth, NAMES), **label_accuracy(truth, truth, NAMES)}
    assert all(value in (1, None) for key, value in perfect.items() if key != "per_label")
    assert perfect["accuracy"] == perfect["exact_match"] == 1


def test_a_swapped_label_column_is_seen():
    texts = ["There is minimal pericardial effusion.", "There is bilateral pleural effusion."]
    labels = label_reports(texts)
    assert labels.dtype == np.int8
    assert [[LABELS[i] for i in np.flatnonzero(row)] for row in labels] == [
        ["Pericardial effusion"],
        ["Pleural effusion"],
    ]
    swapped = labels.copy()
    first, second = LABELS.index("Pericardial effusion"), LABELS.index("Pleural effusion")
    swapped[:, [first, second]] = labels[:, [second, first]]
    assert score_reports(texts, texts, labels)["coverage"] == 1
    assert score_reports(texts, texts, swapped)["coverage"] == 0


def test_label_reports_checks_its_arguments():
    with pytest.raises(ValueError, match="Unknown labeler 'chexbert'"):
        label_reports(["Normal."], labeler="chexbert")
    with pytest.raises(ValueError, match="one string"):
        label_reports("Normal.")
    with pytest.warns(UserWarning, match=r"1 of the 2 texts are no reports, the first in row 0: ''"):
        assert label_reports(["", "Normal."]).sum() == 0
    assert label_reports([]).shape == (0, 18)


def test_score_reports_is_one_json_dict_with_the_documented_keys():
    texts = ["Heart size is increased.", "No pleural effusion was detected."]
    result = score_reports(["Normal.", texts[1]], texts, label_reports(texts))
    keys = ["coverage", "coverage_macro", "accuracy", "exact_match", "per_label", "labeler", "recipe", "n"]
    keys += [
        "empty_predictions",
        "foreign_predictions",
        "crg",
        "bleu1",
        "bleu2",
        "bleu3",
        "bleu4",
        "rouge_l",
        "meteor",
        "bertscore_f1",
        "side_accuracy",
        "lobe_accuracy",
        "stated_by_both",
        "sides",
        "lobes",
    ]
    keys += [f"{name}_{mean}" for name in ("precision", "recall", "f1") for mean in ("micro", "macro")]
    assert set(result) == set(keys)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result["per_label"]) == list(LABELS)
    assert result["coverage"] == 0.0
    assert result["accuracy"] == pytest.approx(35 / 36)
    assert (result["labeler"], result["recipe"], result["n"]) == ("rules", "lower", 2)


def test_table_shows_missing_numbers_as_a_dash():
    rows = {
        "model": {
            "n": 7,
            "coverage": 0.5,
            "precision_micro": 0.25,
            "loss_gap": 0.125,
            "labeler": "rules",
            "recipe": "lower",
        },
        "all_negative": {"coverage": 0.0, "precision_micro": None, "labeler": "rules", "recipe": "lower"},
    }
    head, rule, model, trivial, names = format_table(rows).splitlines()
    titles = [
        "scans",
        "Coverage",
        "Precision",
        "F1 micro",
        "Accuracy",
        "CRG",
        "side",
        "lobe",
        "BLEU-1",
        "BLEU-4",
        "ROUGE-L",
        "loss gap",
    ]
    assert [head.index(title) for title in titles] == sorted(head.index(title) for title in titles)
    assert model.split() == ["model", "7", "0.500", "0.250", *["-"] * 8, "0.125"]
    assert trivial.split() == ["all_negative", "-", "0.000"] + ["-"] * 10
    assert len(head) == len(rule) == len(model) == len(trivial)
    assert names == "labeler: rules, recipe: lower"


def test_reports_that_cannot_be_read_are_counted_and_told():
    references = ["Heart size is increased.", "There is emphysema.", "No pleural effusion was detected."]
    labels = label_reports(references)
    result = score_reports(["", "Kleiner Pleuraerguss rechts.", references[2]], references, labels)
    assert (result["empty_predictions"], result["foreign_predictions"]) == (1, 1)
    assert result["coverage"] == 0.0
    told = format_table({"model": result, "other": score_reports(references, references, labels)}).splitlines()[-1]
    assert told.startswith("Of the 3 reports of model, 1 hold no text and 1 are in a language that is not read.")
    with pytest.raises(ValueError, match="`references` row 1 is no report: 'Not given.'"):
        score_reports(references, [references[0], "Not given.", references[2]], labels)
    with pytest.raises(ValueError, match="`references` row 0 seems to be in German"):
        score_reports(references[:1], ["Das Herz ist nicht vergrößert."], labels[:1])


@pytest.mark.parametrize(("predictions", "references"), [([], []), ([], [[0] * 18])])
def test_the_evaluate_modules_say_that_there_are_no_reports(predictions, references):
    with pytest.raises(ValueError, match="no reports"):
        read_labels(predictions, references, label_report)
