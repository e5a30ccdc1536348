"""Answers are scored by type, and set beside what needs no volume."""

import json

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.tree import SPACING, write_telling_tree, write_tree

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.looking.likelihood import report_losses
from ct_rate_pairs.eval.metrics.ranking import rank_scores
from ct_rate_pairs.eval.rows import first_volumes
from ct_rate_pairs.eval.tasks import EVALUATIONS, TaskSettings
from ct_rate_pairs.eval.tasks.matching import evaluate_matching, first_groups, group_names, measure_options
from ct_rate_pairs.eval.tasks.text_only import score_options
from ct_rate_pairs.eval.tasks.vqa import common_answers, evaluate_vqa, score_answers, set_f1
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_telling_tree(tmp_path_factory.mktemp("tasks"))


def load(tree, task, **options):
    return load_dataset(
        "ct_rate_pairs", task=task, data_dir=str(tree), spacing=SPACING, validation_size=0.0, **options
    )


@pytest.fixture(scope="module")
def tiny():
    texts = [*LABELS, "Which of these texts describes this chest CT? Answer with its letter.", "A B C D Yes No"]
    model, processor = make_tiny_qwen(texts, hidden_size=64, vision_depth=1, vision_hidden_size=32)
    return model, PairCollator(processor)


def test_scores_by_hand():
    yes, no = frozenset({"Yes"}), frozenset({"No"})
    pairs = [(yes, yes), (yes, no), (no, no), (None, yes)]
    lists = [(frozenset("ab"), frozenset("bc")), (frozenset(), frozenset()), (None, frozenset())]
    answers, references = zip(*pairs, *lists, strict=True)
    scores = score_answers(answers, references, ["presence"] * 4 + ["location"] * 3)
    presence, location = scores["per_type"]["presence"], scores["per_type"]["location"]
    assert presence["accuracy"] == 0.5 and presence["unread"] == 1 and presence["n"] == 4
    assert presence["f1"] == pytest.approx((2 / 4 + 2 / 3) / 2)  # yes: 1 of 2 said and 2 true; no: 1 of 1 and 2
    assert location["accuracy"] == pytest.approx(1 / 3)
    assert location["f1"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores["accuracy"] == pytest.approx(3 / 7) and scores["n"] == 7
    assert set_f1(frozenset(), frozenset("a")) == 0
    with pytest.raises(ValueError, match="no questions"):
        score_answers([], [], [])


def test_sizes_choices_and_dialogues_by_hand():
    pairs = [({"6 mm"}, {"6 mm"}), ({"6 mm"}, {"8 mm"}), ({"6 mm"}, {"9 mm"}), (None, {"5 mm"})]
    pairs += [({"One"}, {"One"}), ({"Several"}, {"One"})]
    answers, references = zip(*((a and frozenset(a), frozenset(b)) for a, b in pairs), strict=True)
    scores = score_answers(answers, references, ["size"] * 4 + ["count"] * 2)
    assert scores["per_type"]["size"] == {"accuracy": 0.25, "within_2mm": 0.5, "n": 4, "unread": 1}
    assert scores["per_type"]["count"]["f1"] == pytest.approx(2 / 3)  # one: 1 of 1 said and 2 true

    def row(answer, *before):
        turns = [{"role": "assistant", "content": text} for text in before]
        told = {"question_type": "location", "label": "a", "prompt": turns}
        return told | {"completion": [{"role": "assistant", "content": answer}]}

    train = [row("x", "Yes", "Right"), row("y", "Yes", "Left"), row("y", "Yes", "Left"), row("z")]
    rows = [
        {"question_type": "location", "label": "a", "earlier": told} for told in (["Yes", "Right"], ["Yes", "Left"])
    ]
    assert common_answers(train, rows)["text_only"] == ["x", "y"]


def test_intervals_draw_whole_patients():
    yes, no = frozenset({"Yes"}), frozenset({"No"})
    answers, references = [yes, no] * 20, [yes] * 40

    def width(volumes):
        low, high = score_answers(answers, references, ["presence"] * 40, volumes=volumes, ci=0.95)["accuracy_ci"]
        return high - low

    # Each patient has one right and one wrong answer, so whichever are drawn, half of the answers are right.
    assert width([f"valid_{i // 2}_a_1.nii.gz" for i in range(40)]) == 0
    assert width([f"valid_{i}_a_1.nii.gz" for i in range(40)]) > 0.2


def test_a_constant_answer_has_half_the_accuracy_and_a_third_of_the_f1():
    references = [frozenset({answer}) for answer in ("Yes", "No")] * 5
    scores = score_answers([frozenset({"Yes"})] * 10, references, ["presence"] * 10)["per_type"]["presence"]
    assert scores["accuracy"] == 0.5 and scores["f1"] == pytest.approx(1 / 3)


def test_text_only_answers_are_learnt_for_each_finding_from_training_alone():
    def row(kind, label, answer):
        return {
            "question_type": kind,
            "label": label,
            "prompt": [],
            "completion": [{"role": "assistant", "content": answer}],
        }

    train = [row("presence", "a", "Yes")] * 2 + [row("presence", "b", "No")] * 3 + [row("side", "b", "Left")]
    asked = [{"question_type": "presence", "label": label, "earlier": []} for label in ("a", "b", "never seen")]
    answers = common_answers(train, [*asked, {"question_type": "location", "label": "a", "earlier": []}])
    assert answers == {"text_only": ["Yes", "No", "No", ""], "most_common": ["No", "No", "No", ""]}


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_questions_end_to_end(tree, tiny, tmp_path, language, capsys):
    rows = load(tree, "vqa", prompt=language)
    settings = TaskSettings(max_samples=5, max_new_tokens=4)
    results = EVALUATIONS["vqa"](*tiny, rows["test"], rows["train"], tmp_path, settings)
    assert list(results) == ["model", "blank", "text_only", "most_common"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    chosen = first_volumes(rows["test"], 5).with_format(None)
    assert [row["volume"] for row in answers] == list(chosen["volume"]) and len({*chosen["volume"]}) == 5
    assert [row["reference"] for row in answers] == [turns[0]["content"] for turns in chosen["completion"]]
    for scores in results.values():
        assert scores["n"] == len(answers) == sum(kind["n"] for kind in scores["per_type"].values())
        low, high = scores["accuracy_ci"]
        assert low <= scores["accuracy"] <= high
    assert not any(kind["unread"] for kind in results["text_only"]["per_type"].values())
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count("model, blank volume") == len(results["model"]["per_type"]) + 1


def test_answers_without_an_end_are_counted_as_cut(tree, tiny, tmp_path, capsys):
    rows = load(tree, "vqa")
    settings = TaskSettings(max_samples=2, max_new_tokens=1)
    results = evaluate_vqa(*tiny, rows["test"], rows["train"], tmp_path, settings)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert results["model"]["cut"] == sum(line["cut"] for line in lines) == len(lines)
    assert results["blank"]["cut"] == sum(line["blank_cut"] for line in lines)
    told = capsys.readouterr().out
    assert f"{len(lines)} of {len(lines)} answers (100.0%) met their limit of 1 tokens" in told
    assert "| not read | cut |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_an_unreadable_volume_is_left_out_not_counted_twice(tree, tiny, tmp_path):
    own = write_tree(tmp_path / "tree", scans=6)
    bad = next(own.glob("dataset/valid_fixed/*/*/valid_3_a_1.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:500])
    rows = load(own, "vqa", question_types=["presence"], on_error="skip")
    results = evaluate_vqa(*tiny, rows["test"], rows["train"], tmp_path, TaskSettings(max_new_tokens=2))
    whole = list(rows["test"].with_format(None)["volume"])
    assert results["model"]["n"] == len(whole) - whole.count("valid_3_a_1.nii.gz") < len(whole)


def test_whole_groups_are_chosen_and_drawn(tree):
    rows = load(tree, "matching")["test"]
    groups = group_names(rows.with_format(None)["options"])
    assert sorted(map(groups.count, set(groups))) == [4] * 4
    for number, questions in ((1, 4), (4, 4), (11, 8), (99, 16)):
        assert len(first_groups(rows, number)) == questions
    # One right choice a group, as without a look: whichever groups are drawn, a quarter is right.
    ranks = np.array([1, 2, 3, 4] * 4)
    assert rank_scores(ranks, 4, sorted(groups), 0.95)["top1_ci"] == [0.25, 0.25]


@torch.no_grad()
def test_the_letters_are_scored_as_the_answer_is_trained(tree, tiny):
    model, collator = tiny
    rows = load(tree, "matching", options="keywords")["test"].select(range(2))
    places, losses = measure_options(model, collator, rows)
    assert places == [0, 1] and losses.shape == (2, 2, 4)
    for place, row in enumerate(rows):
        for number, letter in enumerate("ABCD"):
            answer = row | {"completion": [{"role": "assistant", "content": letter}], "negative_images": []}
            batch = {name: value for name, value in collator([answer]).items() if name != "volumes"}
            total, count = report_losses(model, batch)
            assert losses[0, place, number] == pytest.approx((total / count).item(), abs=1e-4)
    assert not np.allclose(losses[0], losses[1], atol=1e-4)  # a blank volume is another one


@pytest.mark.slow
def test_choices_end_to_end(tree, tiny, tmp_path):
    rows = load(tree, "matching", options="keywords", difficulty="hard")
    results = evaluate_matching(*tiny, rows["test"], rows["train"], tmp_path, TaskSettings())
    assert list(results) == ["model", "blank", "text_only", "most_common", "chance"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    model = results["model"]
    assert (model["n"], model["num_options"], model["difficulty"]) == (16, 4, "hard")
    assert {"top1", "top1_ci", "mrr", "mrr_ci", "recall_at_2", "recall_at_3", "recall_at_3_ci"} <= model.keys()
    assert results["chance"]["top1"] == results["most_common"]["top1"] == 0.25
    assert len((tmp_path / "choices.jsonl").read_text().splitlines()) == 16
    assert "| TF-IDF of the options |" in (tmp_path / "table.md").read_text()


def test_the_text_baseline_finds_a_leak():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]

    def questions(leak):
        options = [[" ".join(rng.choice(words, 6)) for _ in range(4)] for _ in range(300)]
        correct = rng.integers(4, size=300)
        if leak:
            for texts, place in zip(options, correct, strict=True):
                texts[place] += " word0 word1"
        return options, correct

    for leak in (False, True):
        (train, correct), (test, answers) = questions(leak), questions(leak)
        right = (score_options(train, correct, test).argmax(axis=1) == answers).mean()
        assert right > 0.9 if leak else right < 0.35
