"""Intervals by patient: what is drawn together, what they cover, and that one product equals many single draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.eval import coverage, label_accuracy
from ct_rate_pairs.eval.metrics.bootstrap import estimate, patient_ids, resample
from ct_rate_pairs.eval.metrics.crg import crg
from ct_rate_pairs.eval.metrics.label_metrics import coverage_scores, label_statistics
from ct_rate_pairs.eval.metrics.text_metrics import overlap_scores, overlap_statistics, text_scores
from ct_rate_pairs.volume_names import patient_of


NAMES = ("a", "b", "c")


def labels(rows: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((rows, len(NAMES))) < share).astype(int)


def mean(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"mean": sums["values"] / sums["reports"]}


@given(st.lists(st.sampled_from(["train_1_a_1", "train_1_b_1", "train_12_a_1", "valid_1_a_1"]), min_size=1))
def test_patients_are_those_of_the_tables(scans):
    volumes = [f"{scan}.nii.gz" for scan in scans]
    ids = patient_ids(volumes, len(volumes))
    assert sorted(set(ids)) == list(range(len(set(map(patient_of, volumes)))))
    for volume, patient in zip(volumes, ids, strict=True):
        assert {patient_of(other) for other, i in zip(volumes, ids, strict=True) if i == patient} == {
            patient_of(volume)
        }


def test_resampled_sums_are_those_of_the_drawn_rows():
    guess, truth = labels(30, 0.4, seed=1), labels(30, 0.3, seed=2)
    patients = np.random.default_rng(3).integers(0, 8, 30)
    patients[:8] = range(8)
    statistics = label_statistics(guess, truth, NAMES)
    sampled = coverage_scores(resample(statistics, patients, resamples=20, seed=5))
    draws = np.random.default_rng(5).multinomial(8, [1 / 8] * 8, size=20)
    for i, draw in enumerate(draws):
        rows = [row for patient in range(8) for row in np.flatnonzero(patients == patient).tolist() * draw[patient]]
        expected = coverage(guess[rows], truth[rows], NAMES)
        assert sampled["coverage"][i] == pytest.approx(expected["coverage"], abs=1e-12)
        assert sampled["coverage_macro"][i] == pytest.approx(expected["coverage_macro"], abs=1e-12)


def test_resampled_bleu_and_rouge_are_those_of_the_drawn_reports():
    predictions = ["the heart is large", "no effusion", "small nodule in the left lung", "the lungs are clear"]
    references = ["the heart is normal", "no pleural effusion", "small nodule in the right lung", "lungs are clear"]
    sampled = overlap_scores(resample(overlap_statistics(predictions, references), np.arange(4), resamples=10))
    draws = np.random.default_rng(0).multinomial(4, [1 / 4] * 4, size=10)
    for i, draw in enumerate(draws):
        rows = np.repeat(np.arange(4), draw)
        expected = text_scores([predictions[row] for row in rows], [references[row] for row in rows])
        for name in ("bleu1", "bleu4", "rouge_l"):
            assert sampled[name][i] == pytest.approx(expected[name], abs=1e-12)


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(size=2000)
    result = estimate({"values": values, "reports": np.ones(2000)}, mean, ci=0.95)
    half = 1.96 * values.std() / 2000**0.5
    assert result["mean_ci"] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)
    assert result["ci_level"] == 0.95


def test_reports_of_one_patient_are_drawn_together():
    # 100 patients, each with four reports that say the same: by report the interval would be half as wide.
    guess, truth = np.repeat(labels(100, 0.5, seed=1), 4, axis=0), np.repeat(labels(100, 0.5, seed=2), 4, axis=0)
    volumes = [f"train_{patient}_{scan}_1.nii.gz" for patient in range(100) for scan in "abcd"]
    once = coverage(guess[::4], truth[::4], NAMES, ci=0.95)["coverage_ci"]
    by_report = coverage(guess, truth, NAMES, ci=0.95)["coverage_ci"]
    by_patient = coverage(guess, truth, NAMES, volumes=volumes, ci=0.95)["coverage_ci"]
    assert np.ptp(by_patient) == pytest.approx(np.ptp(once), rel=0.15)
    assert np.ptp(by_patient) > 1.6 * np.ptp(by_report)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_every_number_gets_an_interval_in_its_range(rows, seed):
    guess, truth = labels(rows, 0.5, seed), labels(rows, 0.3, seed + 1)
    for metric in (coverage, label_accuracy, crg):
        plain, result = metric(guess, truth, NAMES), metric(guess, truth, NAMES, ci=0.9)
        numbers = [name for name in plain if name != "per_label"]
        assert set(result) == {*plain, *(f"{name}_ci" for name in numbers), "ci_level"}
        assert {name: result[name] for name in plain} == plain
        for name in numbers:
            if plain[name] is None:
                assert result[f"{name}_ci"] is None
            else:
                low, high = result[f"{name}_ci"]
                assert 0 <= low <= high <= 1


def test_same_call_same_interval():
    guess, truth = labels(20, 0.5, seed=1), labels(20, 0.5, seed=2)
    assert coverage(guess, truth, NAMES, ci=0.95) == coverage(guess, truth, NAMES, ci=0.95)


def test_wider_level_wider_interval():
    guess, truth = labels(50, 0.5, seed=1), labels(50, 0.5, seed=2)
    widths = [np.ptp(coverage(guess, truth, NAMES, ci=ci)["coverage_ci"]) for ci in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_one_patient_has_no_interval():
    volumes = ["train_1_a_1.nii.gz", "train_1_b_1.nii.gz"]
    result = coverage([[1, 0, 0], [0, 0, 1]], [[1, 1, 0], [0, 0, 1]], NAMES, volumes=volumes, ci=0.95)
    assert result["coverage"] == pytest.approx(2 / 3)
    assert result["coverage_ci"] is result["coverage_macro_ci"] is None
    assert text_scores(["a b"], ["a b"], ci=0.95)["bleu1_ci"] is None


def test_resamples_without_a_positive_are_left_out():
    truth = [[1, 0, 0], *[[0, 0, 0]] * 3]  # a third of the resamples miss the one positive report
    result = coverage(truth, truth, NAMES, ci=0.95)
    assert result["coverage_ci"] == [1.0, 1.0]


def test_bad_arguments_are_named():
    zeros = [[0, 0, 0]] * 2
    with pytest.raises(ValueError, match="`ci=95`"):
        coverage(zeros, zeros, NAMES, ci=95)
    with pytest.raises(ValueError, match="1 `volumes` for 2 reports"):
        coverage(zeros, zeros, NAMES, volumes=["train_1_a_1.nii.gz"], ci=0.95)
