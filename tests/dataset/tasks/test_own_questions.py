"""The questions of a reader's own table: each is a row, and its negative answers otherwise."""

import pytest
from datasets import load_dataset
from helpers.own_scans import own_rows, write_table
from helpers.tree import SPACING

from ct_rate_pairs.sources.csv_tables import TableError
from ct_rate_pairs.tasks.own_questions import OwnQuestions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    rows = [{name: row[name] for name in ("scan", "patient", "split")} for row in own_rows(folder, 10)]
    asked = [
        row | {"question": question, "answer": answer, "id": f"{number}-{question[:2]}"}
        for number, row in enumerate(rows)
        for question, answer in (
            ("Is there an effusion?", "Yes" if number % 2 else "no."),
            ("Where is the nodule?", f"In lobe {number % 3}"),
        )
    ]
    write_table(folder / "asked.jsonl", asked)
    return folder


def load(folder, **options):
    return load_dataset("ct_rate_pairs", data_dir=str(folder), spacing=SPACING, num_slices=4, **options)


def test_each_question_is_a_row_and_labels_that_are_not_known_are_told(folder, caplog):
    rows = load(folder, task="own_questions", validation_size=0.0)["test"]
    assert rows["question_number"][:4] == [0, 1, 0, 1] and rows["question_type"][:2] == ["closed", "open"]
    row = rows[1]
    assert row["prompt"] == [{"role": "user", "content": "Where is the nodule?"}]
    assert row["completion"][0]["content"].startswith("In lobe") and len(row["images"]) == 4
    assert "neither labels nor reports" in caplog.text and "rows of one scan differ in 'id'" in caplog.text


def test_the_negative_answers_otherwise(folder):
    rows = load(folder, task="own_questions", negative="heter", validation_size=0.0)["train"]
    answers = {(row["volume"], row["question_number"]): row["completion"][0]["content"] for row in rows}
    for row in rows:
        assert answers[row["negative_volume"], row["question_number"]] != row["completion"][0]["content"]


def test_the_same_answer_in_other_letters_is_the_same():
    task = OwnQuestions([[("Effusion?", "Yes")], [("effusion?", "yes")], [("Effusion?", "No")], [("Nodule?", "Yes")]])
    assert task.unfit_partners(0, 0, 0).tolist() == [0, 1]


def test_reports_are_not_taken_from_questions(folder, tree):
    with pytest.raises(ValueError, match="no scan with a findings.impression, as task='report' needs"):
        load(folder)
    with pytest.raises(ValueError, match="Questions about CT-RATE are made by task='vqa'"):
        load(tree, task="own_questions")


@pytest.mark.parametrize(
    "change, match",
    [
        ({"answer": None}, "row 2, column 'answer': it is empty, and the question is not"),
        ({"question": "Is it?"}, "row 2, column 'question': row 1 asks the same"),
        ({"split": "test"}, "row 2, column 'split': the patient of row 1"),
        ({"patient": "other"}, "row 2, column 'patient': row 1 says something else"),
    ],
)
def test_rows_of_one_scan_must_agree(folder, change, match):
    scan = next(folder.glob("ct*.nii.gz")).name
    rows = [
        {"scan": scan, "patient": "a", "split": "train", "question": question, "answer": "yes"}
        for question in ("Is it?", "Was it?")
    ]
    rows[1] |= change
    with pytest.raises(TableError, match=match):
        load(write_table(folder / "damaged.jsonl", rows), task="own_questions")
