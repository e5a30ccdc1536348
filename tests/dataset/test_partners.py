"""The partner rules: heter (the paper's section 7.2) and hard (after its section 11.2), and their statistics."""

import json
import pickle
import warnings

import numpy as np
import pytest
from helpers.command import call
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.partners.__main__ import main
from ct_rate_pairs.partners.sampler import NoPartnerError, PartnerSampler
from ct_rate_pairs.partners.statistics import RULES, describe_partners, format_report
from ct_rate_pairs.phantom.prevalence import draw_labels
from ct_rate_pairs.reports.labels import LABELS


def cohort(n: int, seed: int, prevalence: float = 0.3) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 18)) < prevalence).astype(np.int8), [f"train_{i // 2}" for i in range(n)]


def cohort_like_ct_rate(n: int) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    return np.concatenate([draw_labels(rng) for _ in range(n)]), [f"train_{i}" for i in range(n)]


def allowed(labels, patients, i, hard, distance, without=()) -> set[int]:
    """The rule, volume by volume, as its definition says it."""
    others = [j for j in range(len(labels)) if patients[j] != patients[i] and j not in without]
    distances = {j: int((labels[j] != labels[i]).sum()) for j in others}
    if not hard:
        limit = min(distance, max(distances.values()))
        return {j for j in others if distances[j] >= limit}
    lacking = [j for j in others if any(labels[i][k] == 1 and labels[j][k] == 0 for k in range(18))]
    pool = lacking or [j for j in others if distances[j] > 0] or others
    limit = max(distance, min(distances[j] for j in pool))
    return {j for j in pool if distances[j] <= limit}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(3, 25), st.integers(0, 999), st.booleans(), st.sampled_from(["uniform", "balanced"]))
def test_a_partner_is_one_that_the_rule_allows(data, n, seed, hard, sampling):
    # Few labels in use and rare findings: patterns repeat, hold each other, are empty, and all fallbacks are met
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, 18), dtype=np.int8)
    used = data.draw(st.sampled_from([1, 3, 18]))
    labels[:, :used] = rng.random((n, used)) < data.draw(st.sampled_from([0.05, 0.3, 0.8]))
    patients = [f"train_{i}" for i in (0, *rng.integers(1, 1 + n // 2, n - 1))]
    distance = data.draw(st.integers(1, 18))
    sampler = PartnerSampler(labels, patients, distance, sampling, hard, max_label_distance=distance)
    without = data.draw(st.lists(st.integers(0, n - 1), max_size=n // 2))
    for i in range(n):
        if all(patients[j] == patients[i] or j in without for j in range(n)):
            with pytest.raises(NoPartnerError):
                sampler.draw(i, rng, without)
            continue
        partner, difference = sampler.draw(i, rng, without)
        assert partner in allowed(labels, patients, i, hard, distance, without)
        assert difference == (labels[partner] != labels[i]).sum()


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("hard", "distance"), [(False, 9), (False, 17), (True, 4), (True, 1)])
def test_uniform_draws_reach_every_allowed_volume_equally(hard, distance):
    labels, patients = cohort(60, 0, 0.25)
    labels = labels[np.r_[:30, :30]]  # patterns of several volumes, some of them the patient's own or passed over
    sampler, rng = PartnerSampler(labels, patients, distance, "uniform", hard, distance), np.random.default_rng(0)
    for index in (0, 7):
        without = sorted(allowed(labels, patients, index, hard, distance))[:1]
        expected = allowed(labels, patients, index, hard, distance, without)
        drawn = np.bincount([sampler.draw(index, rng, without)[0] for _ in range(4000)], minlength=60)
        assert set(np.flatnonzero(drawn)) == expected
        share = 4000 / len(expected)
        assert np.abs(drawn[sorted(expected)] - share).max() < 5 * np.sqrt(share)


def test_a_hard_partner_of_a_volume_without_findings_has_one_and_is_near():
    labels, patients = cohort(200, 3, 0.15)
    labels[0] = 0
    sampler, rng = PartnerSampler(labels, patients, hard=True), np.random.default_rng(0)
    partners = {sampler.draw(0, rng)[0] for _ in range(300)}
    assert {int(labels[j].sum()) for j in partners} == {1, 2, 3}


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_a_draw_depends_on_its_arguments_alone(sampling):
    sampler = PartnerSampler(*cohort(80, 5), sampling=sampling, hard=True)
    sampler.statistics()
    elsewhere = pickle.loads(pickle.dumps(sampler))  # as a worker gets it
    assert len(pickle.dumps(PartnerSampler(*cohort(20_000, 5)))) < 100 * 20_000
    forwards = [sampler.draw(i, np.random.default_rng(i)) for i in range(80)]
    backwards = [elsewhere.draw(i, np.random.default_rng(i)) for i in reversed(range(80))]
    assert forwards == backwards[::-1]


def test_ct_rates_labels_give_the_reuse_that_was_measured_on_it():
    # CT-RATE itself: 3.1 % of the volumes serve half of the draws, partners have 8.5 positive labels against 3.5
    statistics = PartnerSampler(*cohort_like_ct_rate(2000)).statistics()
    assert statistics["share_of_volumes_that_serve_half_of_the_draws"] == pytest.approx(0.031, abs=0.01)
    assert statistics["mean_positives_of_partner"] == pytest.approx(8.5, abs=0.7)
    assert statistics["share_with_a_partner"] == pytest.approx(1)


@pytest.mark.parametrize(("hard", "evener", "least"), [(False, 3, 0.07), (True, 1.3, 0.42)])
def test_balanced_draws_use_the_volumes_more_evenly(hard, evener, least):
    labels, patients = cohort_like_ct_rate(1500)
    uniform, balanced = (
        PartnerSampler(labels, patients, sampling=sampling, hard=hard).statistics()
        for sampling in ("uniform", "balanced")
    )
    served = "share_of_volumes_that_serve_half_of_the_draws"
    assert balanced[served] > max(least, evener * uniform[served])
    load = "mean_positives_of_partner"
    cohorts = uniform["mean_positives_of_cohort"]
    assert abs(balanced[load] - cohorts) < 0.7 * abs(uniform[load] - cohorts)


@pytest.mark.slow
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_statistics_agree_with_the_draws(hard, sampling):
    labels, patients = cohort_like_ct_rate(300)
    sampler, rng, epochs = PartnerSampler(labels, patients, 8, sampling, hard), np.random.default_rng(0), 40
    draws = [(i, *sampler.draw(i, rng)) for _ in range(epochs) for i in range(300)]
    volumes, partners, distances = (np.array(column) for column in zip(*draws, strict=True))
    statistics, expected = sampler.statistics(), sampler.expected_draws
    drawn = np.bincount(partners, minlength=300)
    lacking = (labels[volumes] > labels[partners]).any(axis=1)
    assert labels[partners].sum(axis=1).mean() == pytest.approx(statistics["mean_positives_of_partner"], abs=0.1)
    assert lacking.mean() == pytest.approx(statistics["share_of_draws_that_lack_a_finding"], abs=0.02)
    within = (distances >= 1) & (distances <= 3) if hard else distances >= 8
    assert within.mean() == pytest.approx(statistics["share_with_a_partner"], abs=1e-9)
    np.testing.assert_allclose(
        np.bincount(distances, minlength=19) / len(draws), expected.at_distance / 300, atol=0.02
    )
    most = statistics["most_draws_of_one_volume"]
    assert drawn.max() / epochs == pytest.approx(most, abs=5 * np.sqrt(most / epochs))
    idle = np.mean([len(set(range(300)) - set(partners[e * 300 : e * 300 + 300])) / 300 for e in range(epochs)])
    assert idle == pytest.approx(statistics["share_of_volumes_idle_in_an_epoch"], abs=0.02)
    never = set(range(300)).difference(*(allowed(labels, patients, i, hard, 3 if hard else 8) for i in range(300)))
    assert len(never) / 300 == pytest.approx(statistics["share_of_volumes_that_never_serve"])


def test_statistics_of_a_cohort_that_can_be_counted_by_hand():
    # Two healthy volumes and two that differ from them in all labels: each serves once an epoch
    labels = np.repeat([[0] * 18, [1] * 18], 2, axis=0)
    statistics = PartnerSampler(labels, ["a", "b", "c", "d"]).statistics()
    assert statistics == {
        "volumes": 4,
        "label_patterns": 2,
        "share_with_a_partner": 1.0,
        "share_of_draws_that_lack_a_finding": 0.5,
        "share_of_volumes_that_serve_half_of_the_draws": 0.5,
        "most_draws_of_one_volume": 1.0,
        "share_of_volumes_idle_in_an_epoch": 0.25,
        "share_of_volumes_that_never_serve": 0.0,
        "mean_positives_of_partner": 9.0,
        "mean_positives_of_cohort": 9.0,
    }


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match="negative='hard' needs volumes of at least two patients"):
        PartnerSampler(np.zeros((3, 18)), ["train_1"] * 3, hard=True)
    with pytest.raises(ValueError, match="min_label_distance=0: choose 1 to 18"):
        PartnerSampler(*cohort(4, 0), min_label_distance=0)
    with pytest.raises(ValueError, match="max_label_distance=19: choose 1 to 18"):
        PartnerSampler(*cohort(4, 0), max_label_distance=19)
    with pytest.raises(NoPartnerError):
        PartnerSampler(*cohort(4, 0)).draw(0, np.random.default_rng(0), without=[2, 3])


def test_the_table_shows_every_rule_label_and_distance():
    report = describe_partners(*cohort_like_ct_rate(300), min_label_distance=8, max_label_distance=2)
    assert json.loads(json.dumps(report)) == report
    assert list(report["rules"]) == [f"{kind} {sampling}" for kind, sampling in RULES]
    for rule in report["rules"].values():
        assert sum(rule["share_of_draws_at_distance"]) == pytest.approx(1)
        assert sum(rule["prevalence"].values()) == pytest.approx(rule["mean_positives_of_partner"])
    text = format_report(report)
    assert max(map(len, text.splitlines())) <= 119
    cells = {line[:40].strip(): line[40:].split() for line in text.splitlines()}
    for label in LABELS:
        shares = (report, *report["rules"].values())
        assert cells[label] == [f"{part['prevalence'][label]:.1%}" for part in shares]
    histogram = {int(line[:9]): line[9:] for line in text.splitlines() if line[:9].strip().isdecimal()}
    heter = report["rules"]["heter uniform"]["share_of_draws_at_distance"]
    longest = int(np.argmax(heter))
    assert histogram[longest][:23].strip() == f"{heter[longest]:.1%} {'#' * 12}"
    assert not histogram[7][:23].strip()  # below the distance asked for


def test_the_command_prints_the_table_and_writes_json(tree, tmp_path, capsys):
    file = tmp_path / "new" / "partners.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert call(main, tree, "--split", "test", "--min_label_distance", 6, "--output_file", file) == 0
    report = json.loads(file.read_text())
    assert format_report(report) in capsys.readouterr().out
    assert (report["split"], report["min_label_distance"]) == ("test", 6)
    assert call(main, tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: ")
