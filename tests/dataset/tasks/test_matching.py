"""The task `matching`: no option tells by its words, its length or its place that it is the true one."""

import logging

import numpy as np
import pytest
from helpers.phantom_reports import cohort
from helpers.text_only import choose_by_text, interval

from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.tasks.matching import Matching
from ct_rate_pairs.tasks.matching_groups import draw_groups, kept_of
from ct_rate_pairs.tasks.vqa_wording import write_findings


def texts_of(scans, options) -> list[str]:
    if options == "keywords":
        return [write_findings(label_report(report), "en") for report in scans.reports]
    return scans.reports if options == "full" else [text or "Nothing." for text in scans.impressions]


def matching(scans, options="full", **given) -> Matching:
    return Matching(scans.names, texts_of(scans, options), scans.labels, scans.patients, **given)


def questions(task, epochs=1) -> tuple[list[list[str]], np.ndarray]:
    asked = [task.ask(i, 0, epoch).columns for epoch in range(epochs) for i in np.flatnonzero(task.rows_of)]
    return [columns["options"] for columns in asked], np.array([columns["correct"] for columns in asked])


@pytest.mark.parametrize("difficulty", ["random", "hard"])
@pytest.mark.parametrize("options", ["full", "impression", "keywords"])
@pytest.mark.slow
def test_a_text_only_classifier_is_at_chance(options, difficulty):
    train = questions(matching(cohort(400), options, difficulty=difficulty), epochs=2)
    held_out = matching(cohort(400, split=1), options, difficulty=difficulty)
    right = choose_by_text(train, questions(held_out))
    groups = held_out.groups(0)[0][held_out.rows_of > 0]
    low, high = interval(right, np.sort(groups, axis=1)[:, 0])
    assert low <= 0.25 <= high and high - low < 0.12


def drawn_one_by_one(scans, options, difficulty) -> tuple[list[list[str]], np.ndarray]:
    """What is usually done: false texts for each volume by itself, at random or the nearest, equal texts merged."""
    texts, rng = texts_of(scans, options), np.random.default_rng(0)
    asked, correct = [], rng.integers(4, size=len(texts))
    _, first = np.unique(texts, return_index=True)
    for i, text in enumerate(texts):
        others = rng.permutation([j for j in first if texts[j] != text])
        if difficulty == "hard":
            distances = (scans.labels[others] != scans.labels[i]).sum(axis=1)
            others = others[np.argsort(distances, kind="stable")]
        false = [texts[j] for j in others[:3]]
        asked.append([*false[: correct[i]], text, *false[correct[i] :]])
    return asked, correct


@pytest.mark.slow
@pytest.mark.parametrize(("options", "difficulty"), [("keywords", "random"), ("keywords", "hard"), ("full", "hard")])
def test_the_classifier_finds_the_leak_of_false_texts_that_are_drawn_one_by_one(options, difficulty):
    train, test = (drawn_one_by_one(cohort(400, split), options, difficulty) for split in (0, 1))
    low, _ = interval(choose_by_text(train, test))
    assert low > 0.25


@pytest.mark.parametrize("difficulty", ["random", "hard"])
def test_whatever_the_options_are_each_of_them_is_true_once(difficulty):
    scans = cohort(400)
    task = matching(scans, difficulty=difficulty)
    asked: dict[tuple, list] = {}
    for i in range(400):
        row = task.ask(i, 0, 0)
        options, correct = row.columns["options"], row.columns["correct"]
        assert options[correct] == scans.reports[i] and row.completion == "ABCD"[correct]
        assert row.prompt.split("\nA. ")[1].startswith(options[0][:40])
        asked.setdefault(tuple(sorted(options)), []).append((scans.reports[i], correct))
    assert len(asked) == 100
    for options, of_group in asked.items():
        true, places = zip(*of_group, strict=True)
        assert sorted(true) == sorted(options) and sorted(places) == [0, 1, 2, 3]


@pytest.mark.parametrize("difficulty", ["random", "hard"])
@pytest.mark.parametrize("num_false", [1, 3, 9])
def test_false_texts_are_other_patients_and_differ(difficulty, num_false):
    scans = cohort(400)
    task = matching(scans, "keywords", difficulty=difficulty, num_false=num_false)
    groups = task.groups(3)[0]
    assert groups.shape == (400, num_false + 1)
    for i in np.flatnonzero(task.rows_of):
        assert groups[i, 0] == i
        assert len({scans.patients[j] for j in groups[i]}) == num_false + 1
        assert len({task.texts[j] for j in groups[i]}) == num_false + 1
        if difficulty == "hard":
            assert len({tuple(scans.labels[j]) for j in groups[i]}) == num_false + 1


def test_hard_options_differ_in_fewer_labels():
    scans = cohort(400)

    def distance(difficulty):
        groups = matching(scans, difficulty=difficulty).groups(0)[0]
        return (scans.labels[groups[:, :1]] != scans.labels[groups[:, 1:]]).sum(axis=2).mean()

    assert distance("hard") < 0.7 * distance("random")


def test_an_epoch_draws_new_options_and_the_same_again():
    task, twin = matching(cohort(400)), matching(cohort(400))
    first, second = (questions_of(task, epoch) for epoch in (0, 1))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 10
    assert questions_of(twin, 1) == second and questions_of(task, 0) == first
    assert questions_of(matching(cohort(400), seed=1), 0) != first


def questions_of(task, epoch):
    return [task.ask(i, 0, epoch) for i in range(100)]


def test_an_odd_number_of_volumes_leaves_none_out():
    keys = np.stack([np.arange(14), np.arange(14)], axis=1)
    assert kept_of(keys, 4, np.arange(14)).all()
    groups = draw_groups(keys, 4, np.random.default_rng(0))
    assert (groups[:, 0] == np.arange(14)).all() and all(len(set(group)) == 4 for group in groups)
    assert len({tuple(sorted(group)) for group in groups}) <= 5


def test_what_shares_too_frequent_a_text_is_left_out_with_a_warning(caplog):
    names = [f"train_{i}_a_1.nii.gz" for i in range(40)]
    texts = ["None"] * 20 + [f"Finding {i}" for i in range(20)]
    with caplog.at_level(logging.WARNING):
        task = Matching(names, texts, np.zeros((40, 18), int), names)
    assert "14 of the 40 volumes of the split 'train' are left out" in caplog.text
    assert task.rows_of[:20].sum() == 6 and task.rows_of[20:].all()
    groups = task.groups(0)[0][task.rows_of > 0]
    assert all(sum(texts[j] == "None" for j in group) <= 1 for group in groups)
    # "None" is the true one of six questions and stands in 24: it is no better a guess than the others.
    assert sum(texts[j] == "None" for group in groups for j in group) == pytest.approx(24, abs=2)


def test_three_patients_have_nothing_to_choose_among():
    names = [f"train_{i}_a_1.nii.gz" for i in range(3)]
    assert not Matching(names, ["A", "B", "C"], np.zeros((3, 18), int), names).rows_of.any()


def test_the_prompt_is_in_the_language_that_is_asked_for():
    english, chinese = (matching(cohort(400), language=language).ask(0, 0, 0) for language in ("en", "zh"))
    assert "Answer with its letter." in english.prompt and "请回答其字母" in chinese.prompt
    assert english.columns == chinese.columns and english.completion == chinese.completion


def test_partners_have_another_text():
    task = matching(cohort(400), "keywords")
    unfit = task.unfit_partners(5, 0, 0)
    assert 5 in unfit and {task.texts[j] for j in unfit} == {task.texts[5]}
