"""Answers to own questions are compared by their words, and set beside what needs no volume."""

import json

import pytest
from helpers.own_scans import own_rows, write_table
from helpers.tree import SPACING

from ct_rate_pairs.eval import label_reports
from ct_rate_pairs.eval.tasks.own_questions import (
    common_own_answers,
    score_closed_questions,
    score_own_answers,
    word_f1,
    words_of,
)
from ct_rate_pairs.joins.rad_chestct import LABELS_ASKED
from ct_rate_pairs.reports.labels import LABELS


def test_words_are_compared_as_in_squad_and_characters_in_chinese():
    assert words_of("In the Right-upper lobe (5 mm).") == ["in", "right", "upper", "lobe", "5", "mm"]
    assert words_of("右肺，上叶 A") == ["右", "肺", "上", "叶"]
    assert word_f1("the right lobe", "right upper lobe") == pytest.approx(2 * 2 / 5)
    assert word_f1("", "no") == 0.0


@pytest.mark.parametrize("option", ["A", "the", "+"])
def test_an_answer_without_other_words_is_no_empty_answer(option):
    assert words_of(option) == [option.lower()] and word_f1("", option) == 0.0 and word_f1(option, option) == 1.0
    scores = score_own_answers([option, "", "-"], [option] * 3, ["open"] * 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)


def test_scores_by_hand():
    answers, references = ["Yes.", "no", "left lobe", ""], ["yes", "yes", "the right lobe", "no nodule"]
    scores = score_own_answers(answers, references, ["closed", "closed", "open", "open"], volumes=list("aabb"), ci=0.9)
    assert scores["accuracy"] == 0.25 and scores["n"] == 4 and scores["f1"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert scores["per_type"]["closed"]["accuracy"] == 0.5 and scores["per_type"]["open"]["f1"] == pytest.approx(0.25)
    assert scores["accuracy_ci"] is not None
    with pytest.raises(ValueError, match="no questions"):
        score_own_answers([], [], [])


def test_closed_questions_have_sensitivity_and_specificity_and_other_answers_are_wrong():
    references = ["Yes", "yes.", "no", "No", "left", "yes", "yes", "yes"]
    answers = ["yes", "maybe", "No", "yes", "left", "yes", "no", "yes"]
    questions = ["a"] * 4 + ["b", "b", "c", "c"]  # b is not closed, and c has one answer
    assert score_closed_questions(questions, answers, references) == {
        "balanced_accuracy": 0.5,
        "per_question": {"a": {"n": 4, "positives": 2, "sensitivity": 0.5, "specificity": 0.5}},
    }
    assert score_closed_questions(["b"], ["x"], ["left"]) == {}


def test_common_answers_come_from_the_training_questions():
    def row(question, answer, kind="open"):
        return {"question": question, "reference": answer, "question_type": kind}

    train = [row("Where?", "left"), row("where?", "right"), row("Where?", "right"), row("What?", "left")]
    train += [row("What?", "left")]
    asked = [row("WHERE?", ""), row("Never asked?", ""), row("Is it?", "", "closed")]
    assert common_own_answers(train, asked) == {
        "text_only": ["right", "left", ""],
        "most_common": ["left", "left", ""],
    }


@pytest.mark.slow
def test_own_questions_from_a_table_to_results(tmp_path, capsys):
    from helpers.launch import SHORT

    from ct_rate_pairs.recipes import evaluate_task, sft_neg

    rows = own_rows(tmp_path / "own", 8)
    keep = ("scan", "patient", "split")
    asked = [
        {name: row[name] for name in keep} | {"question": question, "answer": answer}
        for number, row in enumerate(rows)
        for question, answer in (
            ("Is there a nodule?", "yes" if number % 2 else "no"),
            ("Where?", f"lobe {number % 3}"),
        )
    ]
    table = write_table(tmp_path / "own" / "asked.jsonl", asked)
    data = ["--data_dir", str(table)]
    shape = ["--spacing", *map(str, SPACING), "--num_slices", "4", "--output_dir", str(tmp_path / "run")]
    sft_neg.main(
        ["--config", "own_questions", *data, *shape, *SHORT, "--max_eval_samples", "8", "--max_new_tokens", "8"]
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["model"]["n"] == results["text_only"]["n"] > 0 and set(results["model"]["per_type"]) == {
        "closed",
        "open",
    }
    assert "most common answer to the question" in (tmp_path / "run" / "table.md").read_text()
    evaluate_task.main(
        ["--model_name_or_path", str(tmp_path / "run"), "--task", "own_questions", *data, "--max_new_tokens", "8"]
    )
    again = json.loads((tmp_path / "run" / "evaluation" / "own_questions" / "results.json").read_text())
    assert again["model"]["accuracy"] == results["model"]["accuracy"]


@pytest.mark.slow
def test_an_external_test_on_rad_chestct_by_questions_and_by_the_model_s_reports(tmp_path, reader_dir, capsys):
    from helpers.other_sets import write_rad_chestct

    from ct_rate_pairs.__main__ import main

    folder = write_rad_chestct(tmp_path / "rad", shape=(64, 120, 120))
    main(["join", "rad-chestct", str(folder), "--data_dir", str(folder)])
    table = str(folder / "rad-chestct.csv")
    asked = ["evaluate-task", "--model_name_or_path", str(reader_dir), "--task", "own_questions", "--data_dir", table]
    for answers in ("letters", "texts"):
        out = tmp_path / answers
        main([*asked, "--answers", answers, "--max_new_tokens", "40", "--output_dir", str(out)])
        results = json.loads((out / "results.json").read_text())
        assert results["model"]["n"] == 4 * 16 and len(results["model"]["per_question"]) == 16
        assert results["text_only"]["balanced_accuracy"] == 0.5  # it says the same of each scan
        assert "balanced accuracy" in (out / "table.md").read_text()
    rows = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert {row["answer"] for row in rows} <= {"Yes", "No"}
    for row in rows:  # the report of a scan tells all answers about it
        stated = label_reports([row["report"]])[0]
        expected = any(stated[LABELS.index(label)] for label in LABELS_ASKED[row["question"]])
        assert row["answer"] == ("Yes" if expected else "No")
    assert len({(row["volume"], row["report"]) for row in rows}) == 4


@pytest.mark.slow
def test_a_report_answers_no_question_of_another_kind(tmp_path, reader_dir):
    from ct_rate_pairs.recipes import evaluate_task

    rows = [{"scan": row["scan"], "patient": row["patient"], "split": row["split"], "question": "Where?",
             "answer": "left"} for row in own_rows(tmp_path / "own", 6)]  # fmt: skip
    table = write_table(tmp_path / "own" / "asked.csv", rows)
    asked = ["--model_name_or_path", str(reader_dir), "--task", "own_questions", "--data_dir", str(table)]
    with pytest.raises(ValueError, match=r"No question is about the 18 labels.*Leave out --answers texts"):
        evaluate_task.main([*asked, "--answers", "texts", "--output_dir", str(tmp_path / "out")])
