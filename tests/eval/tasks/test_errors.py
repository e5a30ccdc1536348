"""Report error detection: what is wrong, what its words give away, and that a model that looks finds it."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.eval_rows import REPORTS, make_row
from helpers.phantom_reports import cohort
from helpers.tiny_models import make_tiny_gemma3
from helpers.tiny_reader import COMBINATIONS, STATED
from helpers.tiny_reader import make_row as make_reader_row
from helpers.tiny_reader import write_report as write_reader_report

from ct_rate_pairs.eval.looking.likelihood import report_losses, token_losses
from ct_rate_pairs.eval.tasks.errors import (
    detect_by_answer,
    detect_by_likelihood,
    detection_scores,
    flip_reports,
    like_auroc,
    tokens_of_statements,
)
from ct_rate_pairs.eval.tasks.text_only import score_statements
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.recipes import evaluate_task
from ct_rate_pairs.reports.flips import (
    FlippedReport,
    collect_statements,
    findings_of,
    flip_report,
    labels_of,
    swap_side,
)
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.sentences import report_sentences
from ct_rate_pairs.tasks.errors import Errors
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


SMALL = {"num_slices": 4, "spacing": [9.0, 9.0, 9.0], "validation_size": 0.1}


def names(indices):
    return {LABELS[index] for index in indices}


def rng_of(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def statements():
    return collect_statements(cohort(400).reports)


@pytest.fixture(scope="module")
def flipped(statements):
    """True reports and what was made of them."""
    pairs = [(report, flip_report(report, statements, rng_of(i))) for i, report in enumerate(cohort(400).reports)]
    return [(report, made) for report, made in pairs if made]


def test_sentences_are_cut_without_headings_and_with_their_end_marks():
    text = "Findings: The heart is normal. A nodule of 3.5 mm is seen.\nImpression: Nodule"
    assert [sentence.text for sentence in report_sentences(text)] == [
        "The heart is normal.",
        "A nodule of 3.5 mm is seen.",
        "Nodule",
    ]
    assert findings_of(text) == "Findings: The heart is normal. A nodule of 3.5 mm is seen."


@pytest.mark.parametrize(
    ("sentence", "stated", "denied"),
    [
        ("Pleural effusion is seen on the left.", {"Pleural effusion"}, set()),
        ("There is no pleural effusion.", set(), {"Pleural effusion"}),
        ("Pleural effusion or thickening was not detected.", set(), {"Pleural effusion"}),
        ("The heart is of normal size.", set(), {"Cardiomegaly"}),
        ("No pleural or pericardial effusion is seen.", set(), {"Pleural effusion", "Pericardial effusion"}),
        ("Emphysema without pleural effusion.", {"Emphysema"}, {"Pleural effusion"}),
        ("The trachea is open.", set(), set()),
    ],
)
def test_a_sentence_states_and_denies_labels(sentence, stated, denied):
    found = labels_of(sentence)
    assert (names(found[0]), names(found[1])) == (stated, denied)


@pytest.mark.parametrize(
    ("sentence", "swapped"),
    [
        ("Atelectasis is observed in the left lung.", "Atelectasis is observed in the right lung."),
        ("Right pleural effusion.", "Left pleural effusion."),
        ("A nodule is seen in the right lung middle lobe.", None),  # the left lung has none
        ("A nodule is seen in the lingula of the left lung.", None),
        ("Nodules are seen in the right and left lung.", None),
        ("Calcific plaques in the left anterior descending coronary artery.", None),
        ("Emphysema is seen.", None),
    ],
)
def test_sides_are_swapped_only_where_that_is_another_finding(sentence, swapped):
    assert swap_side(sentence) == swapped


@pytest.mark.slow
def test_exactly_one_statement_changes_and_the_labeler_agrees(flipped, statements):
    assert Counter(made.kind for _, made in flipped).keys() == {"added", "removed", "side"}
    for report, made in flipped:
        true = findings_of(report)
        start, end = made.statements[made.wrong]
        assert made.text[:start] + made.original + made.text[end:] == true
        assert made.text[start:end] != made.original
        changed = np.flatnonzero(np.array(label_report(true)) != label_report(made.text))
        assert names(changed) == (set() if made.kind == "side" else {made.label})
        stated = [bool(labels_of(made.text[slice(*span)])[0]) for span in made.statements]
        assert len(stated) > 1 and set(stated) == {made.kind != "removed"}
        if made.kind != "side":
            assert made.text[start:end] in statements[LABELS.index(made.label), made.kind == "added"]


def test_another_statement_of_the_same_label_keeps_a_sentence_as_it_is(statements):
    report = "A nodule is seen in the left lung. A nodule is seen in the right lung. Emphysema in the left lung."
    assert flip_report(report, statements, rng_of(0)) is None  # emphysema alone could be wrong


def test_an_error_depends_on_seed_and_volume_alone(statements):
    scans = cohort(30)
    kept, reports = flip_reports(scans.names, scans.reports, seed=3)
    back = flip_reports(scans.names[::-1], scans.reports[::-1], seed=3)
    assert ([29 - place for place in back[0]][::-1], back[1][::-1]) == (kept, reports)
    assert flip_reports(scans.names, scans.reports, seed=4)[1] != reports


@pytest.mark.slow
def test_words_tell_nothing_where_like_statements_are_compared(statements):
    """The prior does: that a stated effusion is more often wrong than a stated nodule. So it is not the headline."""

    def questions(split, seed):
        scans = cohort(800, split)
        kept, reports = flip_reports(scans.names, scans.reports, seed)
        options, wrong, kinds = zip(*((report.options, report.wrong, report.kind) for report in reports), strict=True)
        return options, wrong, kinds, [scans.names[place] for place in kept]

    (said, wrong, *_), (more, also, *_) = questions(0, 0), questions(0, 1)
    options, *asked = questions(1, 0)
    guesses = score_statements(said + more, wrong + also, options)
    rule = detection_scores({"words": guesses}, options, *asked, 0.99)["rules"]["words"]
    low, high = rule["auroc_ci"]
    assert low <= 0.5 <= high and high - low < 0.2
    assert rule["auroc_all_ci"][0] > 0.5


@pytest.mark.slow
def test_that_a_sentence_was_read_in_training_does_not_tell_that_it_is_right_or_wrong():
    scans, known = cohort(800, 1), {said for report in cohort(800).reports for said in sentences_of(report)}

    def auroc_of_known(statements):
        made = [
            (name, flip_report(report, statements, rng_of(i)))
            for i, (name, report) in enumerate(zip(scans.names, scans.reports, strict=True))
        ]
        names_of, reports = zip(*((name, report) for name, report in made if report), strict=True)
        scores = [np.array([float(said in known) for said in report.options]) for report in reports]
        wrong, kinds = ([getattr(report, name) for report in reports] for name in ("wrong", "kind"))
        rules = detection_scores({"known": scores}, [r.options for r in reports], wrong, kinds, names_of, 0.99)
        return rules["rules"]["known"]["auroc_ci"]

    low, high = auroc_of_known(collect_statements(scans.reports))
    assert low <= 0.5 <= high and high - low < 0.2
    assert auroc_of_known(collect_statements(cohort(800).reports))[0] > 0.5  # were they drawn from there


def sentences_of(report):
    return [sentence.text for sentence in report_sentences(report)]


@pytest.fixture(scope="module")
def small_cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 40, valid_scans=12, workers=1)
    return folder


@pytest.fixture(scope="module")
def splits(small_cohort):
    return load_dataset("ct_rate_pairs", data_dir=str(small_cohort), negative="gauss", **SMALL)


@pytest.mark.slow
def test_a_row_asks_for_the_wrong_statement_of_its_volume(splits, small_cohort):
    reports = splits["train"].with_format(None)
    asked = load_dataset("ct_rate_pairs", data_dir=str(small_cohort), task="errors", negative="gauss", **SMALL)
    texts = [row["content"] for (row,) in reports["completion"]]
    kept, flipped = flip_reports(reports["volume"], texts)
    assert asked["train"].with_format(None)["volume"] == [reports["volume"][place] for place in kept]
    row, of_scan, report = asked["train"][0], splits["train"][kept[0]], flipped[0]
    assert [image.tobytes() for image in row["images"]] == [image.tobytes() for image in of_scan["images"]]
    question, *numbered = row["prompt"][0]["content"].split("\n")
    assert numbered == [f"{place}. {said}" for place, said in enumerate(row["statements"], 1)]
    assert sorted(row["statements"]) == sorted(report.options)
    assert row["statements"][row["wrong"]] == report.options[report.wrong]
    assert (row["error"], row["label"]) == (report.kind, report.label)
    assert row["completion"] == [{"role": "assistant", "content": str(row["wrong"] + 1)}]
    assert question.startswith("One of these")


def task_of(scans, **given) -> Errors:
    return Errors(scans.names, scans.reports, scans.labels, scans.patients, **given)


def test_each_epoch_makes_another_error_and_the_same_again():
    task, twin = (task_of(cohort(100, 1)) for _ in range(2))
    there = np.flatnonzero(task.rows_of)
    first, second = ([task.ask(i, 0, epoch) for i in there] for epoch in (0, 1))
    assert len(there) > 20 and sum(a == b for a, b in zip(first, second, strict=True)) < 0.4 * len(there)
    assert [twin.ask(i, 0, 1) for i in there] == second
    assert (
        "\u54ea" not in first[0].prompt
        and "请回答其编号" in task_of(cohort(100, 1), language="zh").ask(int(there[0]), 0, 0).prompt
    )


@pytest.mark.slow
def test_the_wrong_statement_is_right_of_a_partner():
    scans = cohort(400, 1)
    task = task_of(scans)
    kinds = Counter()
    for i in np.flatnonzero(task.rows_of):
        columns = task.ask(i, 0, 0).columns
        unfit = set(task.unfit_partners(i, 0, 0).tolist())
        label = LABELS.index(columns["label"])
        kinds[columns["error"]] += 1
        assert i in unfit or not unfit
        for j in set(range(400)) - unfit if unfit else ():
            if columns["error"] == "side":
                side = "left" if "left" in columns["statements"][columns["wrong"]].lower() else "right"
                said = (sentence.text for sentence in report_sentences(task.texts[j]))
                assert any(side in sentence.lower() for sentence in said if label in labels_of(sentence)[0])
            else:
                assert scans.labels[j, label] == (columns["error"] == "added")
    assert kinds.keys() == {"added", "removed", "side"}


@pytest.mark.slow
def test_no_number_is_the_answer_more_often_than_another():
    task = task_of(cohort(100, 1))
    answers = []
    for epoch in range(20):
        for i in np.flatnonzero(task.rows_of):
            columns = task.ask(i, 0, epoch).columns
            answers.append((columns["wrong"] + 0.5) / len(columns["statements"]))
    # Uniform on (0, 1), but for the steps: its deviation is at most .289
    assert abs(np.mean(answers) - 0.5) < 4 * 0.289 / np.sqrt(len(answers))


@pytest.mark.slow
def test_a_model_is_asked_for_the_number_beside_those_that_do_not_look(small_cohort):
    asked = load_dataset("ct_rate_pairs", data_dir=str(small_cohort), task="errors", **SMALL)
    train = asked["train"].with_format(None)
    texts = [text[0]["content"] for column in ("prompt", "completion") for text in train[column]]
    model, processor = make_tiny_qwen(texts, hidden_size=32, num_layers=1, vision_depth=1)
    result = detect_by_answer(model, PairCollator(processor), asked["test"], asked["train"], ci=0.95, progress=False)
    assert list(result["rules"]) == ["answer", "blank", "text_only", "most_common"]
    wrong = asked["test"].with_format(None)["wrong"]
    assert result["n"] == len(wrong) and sum(of["n"] for of in result["kinds"].values()) == len(wrong)
    assert result["rules"]["most_common"]["top1"] == pytest.approx(np.mean(np.array(wrong) == 0), abs=1e-6)
    assert Counter(train["wrong"]).most_common(1)[0][0] == 0


@pytest.mark.parametrize("make", [make_tiny_qwen, make_tiny_gemma3])
def test_every_statement_gets_its_own_tokens(make):
    text = "Findings: The heart is normal. Effusion of 8 mm (left).\nNo – nodule."
    _, processor = make(REPORTS)
    batch = PairCollator(processor)([make_row(0, text)])
    tokens = batch["input_ids"][batch["labels"] != -100]
    spans = [(sentence.start, sentence.end) for sentence in report_sentences(text)]
    places = tokens_of_statements(processor.tokenizer, tokens, FlippedReport(text, spans, 0, "", "", ""))
    for place, (start, end) in enumerate(spans):
        said = processor.tokenizer.decode(tokens[torch.from_numpy(places == place)])
        assert said.strip() == text[start:end]
    assert places[-1] == -1  # the end of the turn


def test_losses_of_tokens_add_up_to_those_of_reports():
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    batch = PairCollator(processor)([make_row(seed, report) for seed, report in enumerate(REPORTS)])
    del batch["volumes"]
    with torch.no_grad():
        sums, counts = report_losses(model.eval(), batch)
        by_token = token_losses(model, batch)
    assert [len(losses) for losses in by_token] == counts.tolist()
    assert [losses.sum() for losses in by_token] == pytest.approx(sums.tolist(), rel=1e-4)


@pytest.mark.slow
def test_a_model_that_looks_finds_the_error_and_without_the_scan_it_guesses(reader):
    rows = [make_reader_row(shown, seed=900 + i) for i, shown in enumerate(COMBINATIONS * 3)]
    known = [write_reader_report(shown) for shown in COMBINATIONS]
    statements = collect_statements(known)
    assert {sentence for (_, stated), said in statements.items() if stated for sentence in said} == set(STATED)
    model, collator = reader
    train = ([str(i) for i in range(len(known))], known)
    result = detect_by_likelihood(model, collator, rows, *train, ci=0.95, batch_size=5, progress=False)
    again = detect_by_likelihood(model, collator, rows, *train, batch_size=2, progress=False)
    rules = result["rules"]
    # It knows no sides: there the words alone decide, for no scan of its training had a right effusion.
    for rule in ("gap_noise", "gap_others", "loss"):
        assert [result["kinds"][kind]["top1"][rule] for kind in ("added", "removed")] == [1, 1]
        assert again["rules"][rule]["auroc"] == pytest.approx(rules[rule]["auroc"], abs=0.05)
    for rule in ("noise", "blank"):
        low, high = rules[rule]["auroc_ci"]
        assert low <= 0.5 <= high
        assert max(result["kinds"][kind]["top1"][rule] for kind in ("added", "removed")) < 0.8
    assert not model.training and json.dumps(result)


def test_auroc_counts_pairs_of_like_statements():
    rng = rng_of(0)
    scores = rng.integers(0, 5, 60).astype(float)  # with ties
    wrong, like, patients = rng.random(60) < 0.3, rng.integers(0, 3, 60), np.arange(60) // 6
    pairs = [
        (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
        for i in np.flatnonzero(wrong)
        for j in np.flatnonzero(~wrong)
        if like[i] == like[j]
    ]
    result = like_auroc("auroc", scores, wrong, like, patients, 0.95)
    assert result["auroc"] == pytest.approx(np.mean(pairs))
    assert result["auroc_ci"][0] < result["auroc"] < result["auroc_ci"][1]
    perfect = like_auroc("auroc", wrong.astype(float), wrong, like, patients, 0.95)
    assert perfect == {"auroc": 1.0, "auroc_ci": [1.0, 1.0]}
    assert like_auroc("auroc", scores, wrong, np.where(wrong, 0, 1), patients, 0.95) == {
        "auroc": None,
        "auroc_ci": None,
    }
    assert like_auroc("auroc", scores, wrong, like, np.zeros(60, int), 0.95)["auroc_ci"] is None


def test_nothing_to_choose_from_is_said():
    with pytest.raises(ValueError, match="No report has two statements"):
        detection_scores({"loss": []}, [], [], [], [], None)


@pytest.mark.slow
def test_the_recipe_prints_a_table_and_writes_it(tmp_path, small_cohort, capsys):
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    shown = ("--num_slices", "4", "--spacing", "9", "9", "9", "--max_eval_samples", "10")
    asked = ("--task", "errors", "--answers", "texts", "--data_dir", str(small_cohort), *shown)
    evaluate_task.main(["--model_name_or_path", str(tmp_path / "model"), *asked])
    out = tmp_path / "model" / "evaluation" / "errors-texts"
    result = json.loads((out / "results.json").read_text())
    assert result["made_with"]["model"].startswith("sha256:") and result["headline"] == "gap_noise"
    told = capsys.readouterr().out
    assert (out / "table.md").read_text() in told and f"| {result['rules']['blank']['top1']:.3f} [" in told
