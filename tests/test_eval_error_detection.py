"""Report error detection: what is wrong, what its words give away, and that a model that looks finds it."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from phantom_reports import cohort
from test_eval_generate import REPORTS, make_row
from tiny_models import make_tiny_gemma3
from tiny_reader import COMBINATIONS, STATED, train_reader
from tiny_reader import make_row as make_reader_row
from tiny_reader import write_report as write_reader_report

from ct_rate_pairs.eval.error_detection import (
    auroc,
    detect_by_likelihood,
    detection_scores,
    token_losses,
    tokens_of_statements,
)
from ct_rate_pairs.eval.loss_gap import report_losses
from ct_rate_pairs.eval.report_flips import (
    FlippedReport,
    collect_statements,
    findings_of,
    flip_report,
    flip_reports,
    labels_of,
    sentence_spans,
    swap_side,
    with_errors,
)
from ct_rate_pairs.eval.text_only import TfIdf, fit, score
from ct_rate_pairs.labels import LABELS
from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.report_labels import label_report
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import detect_errors


def names(indices):
    return {LABELS[index] for index in indices}


def rng_of(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def statements():
    return collect_statements(cohort(800).reports)


@pytest.fixture(scope="module")
def flipped(statements):
    """True reports and what was made of them."""
    pairs = [(report, flip_report(report, statements, rng_of(i))) for i, report in enumerate(cohort(400).reports)]
    return [(report, made) for report, made in pairs if made]


def test_sentences_are_cut_without_headings_and_with_their_end_marks():
    text = "Findings: The heart is normal. A nodule of 3.5 mm is seen.\nImpression: Nodule"
    assert [text[start:end] for start, end in sentence_spans(text)] == [
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
    rows = [make_row(seed, report) for seed, report in enumerate(cohort(30).reports)]
    kept, reports = flip_reports(rows, statements, seed=3)
    assert (
        dict(zip(kept, reports, strict=True)).items()
        >= {
            place + 10: report for place, report in zip(*flip_reports(rows[10:], statements, seed=3), strict=True)
        }.items()
    )
    assert flip_reports(rows, statements, seed=4)[1] != reports


def test_words_tell_nothing_where_like_statements_are_compared(statements):
    """The prior does: that a stated effusion is more often wrong than a stated nodule. So it is not the headline."""

    def statements_of(split, seeds):
        scans = cohort(800, split)
        made = [
            (name, flip_report(report, statements, rng_of([seed, place])))
            for seed in range(seeds)
            for place, (name, report) in enumerate(zip(scans.names, scans.reports, strict=True))
        ]
        names_of, reports = zip(*((name, report) for name, report in made if report), strict=True)
        said = [report.text[slice(*span)] for report in reports for span in report.statements]
        wrong = np.concatenate([np.arange(len(report.statements)) == report.wrong for report in reports])
        return list(names_of), reports, said, wrong

    _, _, train_said, train_wrong = statements_of(0, 2)
    volumes, reports, said, _ = statements_of(1, 1)
    tfidf = TfIdf(train_said)
    guess = score(fit(tfidf(train_said), train_wrong.astype(float)), tfidf(said))
    cuts = np.cumsum([len(report.statements) for report in reports])[:-1]
    rule = detection_scores({"words": np.split(guess, cuts)}, reports, volumes, 0.99)["rules"]["words"]
    low, high = rule["auroc_ci"]
    assert low <= 0.5 <= high and high - low < 0.2
    assert rule["auroc_all_ci"][0] > 0.5


@pytest.fixture(scope="module")
def small_cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 40, valid_scans=12, workers=1)
    return folder


@pytest.fixture(scope="module")
def splits(small_cohort):
    options = {"num_slices": 4, "spacing": [9.0, 9.0, 9.0], "validation_size": 0.1}
    return load_dataset("ct_rate_pairs", data_dir=str(small_cohort), negative="gauss", **options)


def test_rows_to_train_on_keep_their_scan_and_ask_for_the_wrong_statement(splits, statements):
    rows = splits["train"]
    asked = with_errors(rows, statements, seed=1)
    kept, reports = flip_reports(rows, statements, seed=1)
    assert asked.with_format(None)["volume"] == rows.with_format(None).select(kept)["volume"]
    row, of_scan, report = asked[0], rows[kept[0]], reports[0]
    assert row.keys() == of_scan.keys()
    for name in ("images", "negative_images"):
        assert [image.tobytes() for image in row[name]] == [image.tobytes() for image in of_scan[name]]
    question, *numbered = row["prompt"][0]["content"].split("\n")
    said = [report.text[slice(*span)] for span in report.statements]
    assert sorted(line.split(". ", 1)[1] for line in numbered) == sorted(said)
    (answer,) = row["completion"]
    assert numbered[int(answer["content"]) - 1] == f"{answer['content']}. {said[report.wrong]}"
    assert question.startswith("One of these") and answer["role"] == "assistant"


def test_no_number_is_the_answer_more_often_than_another(splits, statements):
    answers = []
    for seed in range(40):
        for row in with_errors(splits["train"], statements, seed=seed).with_format(None):
            options = row["prompt"][0]["content"].count("\n")
            answers.append((int(row["completion"][0]["content"]) - 0.5) / options)
    # Uniform on (0, 1), but for the steps: its deviation is at most .289
    assert abs(np.mean(answers) - 0.5) < 4 * 0.289 / np.sqrt(len(answers))


@pytest.mark.parametrize("make", [make_tiny_qwen, make_tiny_gemma3])
def test_every_statement_gets_its_own_tokens(make):
    text = "Findings: The heart is normal. Effusion of 8 mm (left).\nNo – nodule."
    _, processor = make(REPORTS)
    batch = PairCollator(processor)([make_row(0, text)])
    tokens = batch["input_ids"][batch["labels"] != -100]
    spans = sentence_spans(text)
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


def test_a_model_that_looks_finds_the_error_and_without_the_scan_it_guesses():
    rows = [make_reader_row(shown, seed=900 + i) for i, shown in enumerate(COMBINATIONS * 3)]
    statements = collect_statements([write_reader_report(shown) for shown in COMBINATIONS])
    assert {sentence for (_, stated), said in statements.items() if stated for sentence in said} == set(STATED)
    model, collator = train_reader()
    result = detect_by_likelihood(model, collator, rows, statements, ci=0.95, batch_size=5, progress=False)
    again = detect_by_likelihood(model, collator, rows, statements, batch_size=2, progress=False)
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
    result = auroc("auroc", scores, wrong, like, patients, 0.95)
    assert result["auroc"] == pytest.approx(np.mean(pairs))
    assert result["auroc_ci"][0] < result["auroc"] < result["auroc_ci"][1]
    perfect = auroc("auroc", wrong.astype(float), wrong, like, patients, 0.95)
    assert perfect == {"auroc": 1.0, "auroc_ci": [1.0, 1.0]}
    assert auroc("auroc", scores, wrong, np.where(wrong, 0, 1), patients, 0.95) == {"auroc": None, "auroc_ci": None}
    assert auroc("auroc", scores, wrong, like, np.zeros(60, int), 0.95)["auroc_ci"] is None


def test_nothing_to_choose_from_is_said():
    with pytest.raises(ValueError, match="No report has two statements"):
        detection_scores({"loss": []}, [], [], None)


@pytest.mark.slow
@pytest.mark.parametrize("ask", [False, True])
def test_the_recipe_prints_a_table_and_writes_it(tmp_path, small_cohort, capsys, ask):
    model, processor = make_tiny_qwen(REPORTS, hidden_size=32, num_layers=1, vision_depth=1)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    options = {"num_slices": 4, "spacing": [9.0, 9.0, 9.0], "scans": 10}
    arguments = detect_errors.DetectionArguments(
        model=str(tmp_path / "model"), data_dir=str(small_cohort), ask=ask, **options
    )
    detect_errors.main(arguments)
    told = capsys.readouterr().out
    path = tmp_path / "model" / "evaluation" / ("asked_errors.json" if ask else "errors.json")
    result = json.loads(path.read_text())
    assert result["model"].startswith("sha256:") and result["headline"] == ("answer" if ask else "gap_noise")
    assert f"{result['rules']['blank']['top1']:.3f}" in told and f"written to {path}" in told
