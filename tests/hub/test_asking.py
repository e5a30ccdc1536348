"""`load_reporter(...).ask(scan, questions)`: prompts as in the training, one reading of the scan, and what is told."""

import json
import shutil
from pathlib import Path

import pytest
from datasets import load_dataset
from helpers.command import call
from helpers.dicom_series import PLANTED, slices, write
from helpers.tiny_reader import (
    AFFINE,
    COMBINATIONS,
    SETTINGS,
    list_findings,
    make_voxels,
    save_nifti,
    with_line,
    write_report,
)
from helpers.tree import SPACING, write_telling_tree

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.ask import main
from ct_rate_pairs.hub.reporting import asking as module
from ct_rate_pairs.hub.reporting import reporter as reporter_module
from ct_rate_pairs.hub.reporting.reporter import Reporter
from ct_rate_pairs.tasks.vqa_wording import QUESTION_TYPES
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.trainer.row_settings import RowSettingsError, settings_of_dataset


LIST = [
    f"{asked} Answer with a list, or none."
    for asked in (
        "Which abnormalities does this chest CT show?",
        "List the abnormalities in this chest CT.",
        "What is abnormal in this scan?",
    )
]
SHOWN = (1, 0, 1)


@pytest.fixture(scope="module")
def talker(talker_dir):
    return load_reporter(talker_dir, device="cpu")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return save_nifti(tmp_path_factory.mktemp("scan") / "DOE.nii.gz", SHOWN)


@pytest.fixture
def asked(monkeypatch):
    """The rows that models were asked with, batch by batch."""
    batches, write_batch = [], module.write_batch

    def spy(model, collator, rows, **options):
        batches.append(rows)
        return write_batch(model, collator, rows, **options)

    monkeypatch.setattr(module, "write_batch", spy)
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"prompt": "zh"}, {"prompt_metadata": True, "question_types": ["presence"]}])
def test_a_question_is_asked_with_the_rows_that_the_dataset_makes(reader, tmp_path, asked, options):
    tree = write_telling_tree(tmp_path)
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", task="vqa", spacing=SPACING, **options)
    settings = settings_of_dataset(rows)
    reporter = Reporter(*reader, settings.options, tasks=settings.tasks)
    assert len(rows) > 8
    for row in rows.select(range(0, len(rows), 3)):
        file = next(tree.rglob(row["volume"]))
        metadata = {"age": row["age"], "sex": row["sex"]} if "prompt_metadata" in options else None
        question = row["prompt"][0]["content"].splitlines()[-1]
        answers = reporter.ask(file, question, metadata=metadata, max_new_tokens=1)
        ((shown,),) = asked
        assert all(shown[name] == row[name] for name in ("prompt", "slice_mm"))
        assert [image.tobytes() for image in shown["images"]] == [image.tobytes() for image in row["images"]]
        assert answers.answers[0].question_type == row["question_type"]
        assert not [told for told in answers.told if "Question 1" in told]
        asked.clear()


@pytest.mark.slow
def test_the_steps_before_a_question_can_be_asked_as_in_the_training(reader, tmp_path, asked, monkeypatch):
    options = {"spacing": SPACING, "steps": True, "question_types": QUESTION_TYPES[:3], "prompt_metadata": True}
    tree = write_telling_tree(tmp_path)
    rows = load_dataset("ct_rate_pairs", data_dir=str(tree), split="test", task="vqa", **options)
    row = max(rows.select_columns(["volume", "prompt", "age", "sex"]), key=lambda row: len(row["prompt"]))
    assert len(row["prompt"]) > 2
    given = [turn["content"] for turn in row["prompt"]]
    # The model of the dataset's steps is the truth: it gives the right answers.
    right = iter(given[1::2])
    spy = module.write_batch
    monkeypatch.setattr(
        module, "write_batch", lambda *a, **o: [w._replace(text=next(right, w.text)) for w in spy(*a, **o)]
    )
    reporter = Reporter(*reader, settings_of_dataset(rows).options, tasks=["vqa"])
    questions = [given[0].splitlines()[-1], *given[2::2]]
    metadata = {"age": row["age"], "sex": row["sex"]}
    file = next(tree.rglob(row["volume"]))
    answers = reporter.ask(file, questions, dialogue=True, metadata=metadata, max_new_tokens=1)
    assert asked[-1][0]["prompt"] == row["prompt"] and module.ONE_DIALOGUE not in answers.told
    alone = reporter.ask(file, questions[-1], metadata=metadata, max_new_tokens=1)
    assert module.STEPS in alone.told


def test_several_questions_are_answered_from_one_reading_of_the_scan(talker, scan, asked, monkeypatch):
    readings, see = [], reporter_module.see
    monkeypatch.setattr(reporter_module, "see", lambda *given: readings.append(given) or see(*given))
    answers = talker.ask(scan, LIST)
    assert [answer.text for answer in answers.answers] == [list_findings(SHOWN)] * 3
    assert len(readings) == 1 and [len(batch) for batch in asked] == [3] and answers.told == []
    assert not any(answer.cut for answer in answers.answers) and set(answers.seconds) == {"reading", "answering"}


@pytest.mark.slow
def test_an_answer_is_about_the_scan(talker, tmp_path):
    for shown in COMBINATIONS:
        (answer,) = talker.ask(save_nifti(tmp_path / "scan.nii.gz", shown), LIST[0]).answers
        assert answer.text == list_findings(shown)


def test_the_end_of_a_question_may_be_left_out(talker, scan, asked):
    (answer,) = talker.ask(scan, "  list the abnormalities in this chest CT. ").answers
    assert answer.question == LIST[1] == asked[0][0]["prompt"][0]["content"]


def test_questions_after_a_report_are_turns_of_one_dialogue_which_is_told(talker, scan, asked):
    report = talker.report(scan)
    answers = talker.ask(scan, LIST[:2], report=report, dialogue=True)
    turns = [turn["content"] for turn in asked[-1][0]["prompt"]]
    assert turns == [
        "Write the findings of this chest CT.",
        with_line(SHOWN),
        LIST[0],
        answers.answers[0].text,
        LIST[1],
    ]
    assert answers.report == with_line(SHOWN)
    assert {module.AFTER_REPORT, module.ONE_DIALOGUE} <= set(answers.told)
    each = talker.ask(scan, LIST[:2], report="Emphysema is seen.")
    assert [len(batch) for batch in asked] == [1, 1, 2] and len(asked[-1][1]["prompt"]) == 3
    assert module.AFTER_REPORT in each.told and module.ONE_DIALOGUE not in each.told


def test_a_line_of_the_prompt_is_no_part_of_the_report(reader):
    reporter = Reporter(*reader, SETTINGS | {"prompt_findings": True, "prompt_dropout": 0.5})
    assert reporter.below_line("No nodule.", "Abnormalities: none.") == "No nodule."


@pytest.mark.slow
def test_what_the_training_did_not_have_is_told(talker, scan):
    answers = talker.ask(scan, ["Is there hope?", "Is cardiomegaly present?", LIST[0]])
    other, kind, *unread = answers.told
    assert other.startswith("Question 1 is in other words than those of the training") and "'presence'" in kind
    assert kind.startswith("Question 2 is of the type") and all("question 3" not in told for told in unread)
    (cut,) = talker.ask(scan, LIST[0], max_new_tokens=2).told
    assert "question 1 is cut at its limit of 2 tokens" in cut
    own = Reporter(talker.model, talker.collator, talker.settings, tasks=["own_questions"])
    assert own.ask(scan, "Is there hope?").told == []
    shots = Reporter(talker.model, talker.collator, talker.settings | {"num_shots": 3}, tasks=["vqa"])
    assert shots.ask(scan, LIST[0]).told == [module.SHOTS.format(number=3)]


def test_an_answer_that_its_question_cannot_have_is_told(talker, scan, monkeypatch):
    monkeypatch.setattr(module, "write_batch", lambda *_, **__: [Written("Sinus tachycardia", False)])
    assert talker.ask(scan, LIST[0]).told == [module.UNREAD.format(number=1)]


def with_tasks(model: Path, folder: Path, *tasks: str) -> Path:
    shutil.copytree(model, folder)
    (folder / "row_settings.json").write_text(json.dumps(SETTINGS | {"tasks": tasks}))
    return folder


@pytest.mark.slow
def test_a_model_does_what_it_was_trained_for_and_refuses_the_rest(reader_dir, scan, tmp_path):
    asks = load_reporter(with_tasks(reader_dir, tmp_path / "asks", "vqa", "errors"), device="cpu")
    with pytest.raises(RowSettingsError, match="asks was trained on vqa and errors, and not to write reports"):
        asks.report(scan)
    assert asks.ask(scan, LIST[0]).answers
    reports = load_reporter(with_tasks(reader_dir, tmp_path / "reports", "report"), device="cpu")
    with pytest.raises(RowSettingsError, match="reports was trained on report, and not to answer questions"):
        reports.ask(scan, LIST[0])
    with pytest.raises(RowSettingsError, match="neither to write reports nor to answer"):
        load_reporter(with_tasks(reader_dir, tmp_path / "neither", "matching"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"questions": []}, "at least one question"),
        ({"questions": ["What?", " "]}, "no empty one"),
        ({"questions": "What?", "report": ""}, "The report is empty"),
        ({"questions": "What?", "metadata": {"age": 63}}, "'age', which has no effect"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_reason(talker, scan, given, told):
    with pytest.raises(ValueError, match=told):
        talker.ask(scan, **given)


@pytest.mark.slow
def test_the_command_prints_and_writes_answers_without_the_patient(talker_dir, tmp_path, capfd):
    series = write(tmp_path / "DOE_JANE_19450102", slices(make_voxels(SHOWN), AFFINE))
    (tmp_path / "report.json").write_text(json.dumps({"text": write_report(SHOWN), "line": "Abnormalities: none."}))
    options = ("--report", tmp_path / "report.json", "--output_file", tmp_path / "out/answers.json")
    model = ("--model_name_or_path", talker_dir, "--device", "cpu")
    assert call(main, series, "--question", LIST[0], LIST[1][:40], *options, *model) == 0
    said = capfd.readouterr()
    assert "Not a medical device." in said.out and module.AFTER_REPORT in said.err
    written = (tmp_path / "out/answers.json").read_text()
    answers = json.loads(written)
    assert [answer["question"] for answer in answers["answers"]] == LIST[:2]
    assert all(f"{answer['question']}\n  {answer['text']}" in said.out for answer in answers["answers"])
    assert answers["report"].startswith("Abnormalities: none.\nEmphysema") and answers["notice"]
    everything = said.out + said.err + written
    assert not [word for word in (*PLANTED, series.name) if word in everything]


def test_the_command_tells_a_report_that_is_none(talker_dir, scan, tmp_path, capsys):
    (tmp_path / "JANE.json").write_text("{}")
    (tmp_path / "JANE.txt").write_bytes(b"\xff\xfe")
    for name, told in (("JANE.json", "the field text"), ("JANE.txt", "is no text in UTF-8")):
        words = (scan, "--question", "What?", "--report", tmp_path / name, "--model_name_or_path", talker_dir)
        assert call(main, *words) == 2
        said = capsys.readouterr().err
        assert told in said and "JANE" not in said
    assert call(main, scan, "--question", "What?", "--report", "JANE", "--model_name_or_path", talker_dir) == 2
    assert "--report: there is no such file" in capsys.readouterr().err
