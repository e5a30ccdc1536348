"""The task `vqa`: true answers, even ones, and questions that do not tell them."""

from collections import Counter

import numpy as np
import pytest
from helpers.phantom_reports import cohort
from helpers.text_only import interval

from ct_rate_pairs import LABELS
from ct_rate_pairs.eval.tasks.text_only import TfIdf, fit, score
from ct_rate_pairs.reports.places import LATERAL, places
from ct_rate_pairs.tasks.vqa import Questions
from ct_rate_pairs.tasks.vqa_balance import balanced_chances, choose
from ct_rate_pairs.tasks.vqa_wording import (
    DEFAULT_TYPES,
    FINDINGS,
    FORMS,
    NAMES,
    QUESTION_TYPES,
    YES_NO,
    find_question,
)


def questions(scans, **given) -> Questions:
    return Questions(scans.names, scans.reports, scans.labels, scans.patients, **given)


def asked(task, epochs=1, kind=None):
    """(volume, row) of every question of the type `kind`."""
    rows = [
        (i, task.ask(i, number, epoch))
        for epoch in range(epochs)
        for i in range(len(task.names))
        for number in range(task.rows_of[i])
    ]
    return [(i, row) for i, row in rows if kind is None or row.columns["question_type"] == kind]


def read(text, label) -> tuple[str, set[str]] | None:
    place = places(text).get(LABELS.index(label))
    return place and (place.side, set(place.lobes))


@pytest.mark.parametrize(
    ("text", "label", "place"),
    [
        ("There is a nodule in the right lung upper lobe.", "Lung nodule", ("right", {"right upper"})),
        ("A nodule in the upper lobe of the left lung.", "Lung nodule", ("left", {"left upper"})),
        ("A nodule is seen in the middle lobe.", "Lung nodule", ("right", {"right middle"})),
        ("A nodule is seen in the lingular segment.", "Lung nodule", ("left", {"lingula"})),
        ("Atelectasis in the lower lobes of both lungs.", "Atelectasis", ("both", {"right lower", "left lower"})),
        ("Nodules in the right upper and middle lobes.", "Lung nodule", ("right", {"right upper", "right middle"})),
        ("Effusion on the left. Pleural effusion is seen on the right.", "Pleural effusion", ("both", set())),
        ("Bilateral pleural effusion. Pleural effusion.", "Pleural effusion", ("both", set())),
        ("Pleural effusion is observed on the right, no effusion on the left.", "Pleural effusion", ("right", set())),
        ("Effusion was detected on the left and atelectasis was seen on the right.", "Atelectasis", ("right", set())),
        # Which lobes of the left lung is not said, so all lobes are not known.
        ("Nodules in both lungs. A nodule in the right lung upper lobe.", "Lung nodule", ("both", set())),
        ("A nodule in the lower lobe, a nodule in the right lung.", "Lung nodule", ("right", set())),
        # Not clear, or no side of a lung
        ("Consolidation and atelectasis in the right lower lobe and on the left.", "Atelectasis", None),
        ("A nodule adjacent to the left atrium.", "Lung nodule", None),
        ("A nodule is observed.", "Lung nodule", None),
        ("No pleural effusion on the right.", "Pleural effusion", None),
        ("A catheter on the right.", "Medical material", None),
    ],
)
def test_places_are_read_as_they_are_said(text, label, place):
    assert read(text, label) == place


def test_every_place_of_the_phantom_is_read():
    scans = cohort(400)
    for report, findings in zip(scans.reports, scans.findings, strict=True):
        lateral = {label: finding for label, finding in findings.items() if LABELS.index(label) in LATERAL}
        for label, finding in lateral.items():
            sides = ("right", "left") if finding.side == "both" else (finding.side,)
            lobes = {f"{side} {finding.lobe}" for side in sides} if finding.lobe else set()
            assert read(report, label) == (finding.side, lobes - {"left middle"}), report


def test_answers_are_those_of_the_labels_and_the_report():
    scans = cohort(400)
    for i, row in asked(questions(scans), epochs=2):
        kind, label = row.columns["question_type"], row.columns["label"]
        finding = scans.findings[i].get(label)
        if kind == "presence":
            assert row.completion == ("Yes" if finding else "No")
        elif kind == "side":
            assert row.completion.lower() == finding.side
        elif kind == "location":
            assert finding.lobe and all(finding.lobe in lobe for lobe in row.completion.split(", "))
        else:
            positive = [name for name in LABELS if name in scans.findings[i]]
            assert row.completion == (", ".join(positive) or "None")
        assert row.columns["answer_type"] in ("yes/no", "side", "list")


@pytest.mark.slow
def test_for_every_label_yes_is_as_frequent_as_no():
    answers = {label: Counter() for label in LABELS}
    for _, row in asked(questions(cohort(400)), epochs=8, kind="presence"):
        answers[row.columns["label"]][row.completion] += 1
    for label, count in answers.items():
        assert 0.42 < count["Yes"] / count.total() < 0.58, (label, count)


def test_no_side_of_a_finding_is_the_most_frequent():
    answers = {LABELS[label]: Counter() for label in LATERAL}
    for _, row in asked(questions(cohort(400)), epochs=8, kind="side"):
        answers[row.columns["label"]][row.completion] += 1
    for label, count in answers.items():
        assert max(count.values()) / count.total() < 1 / len(count) + 0.1, (label, count)


def accuracy_of_text(train, test, answers) -> tuple[float, float]:
    """Interval, by volume, of how often the text-only baseline answers `test` as the rows do."""
    tfidf, numbers = TfIdf([spaced(row.prompt) for _, row in train]), np.eye(4)

    def features(rows):
        words = tfidf([spaced(row.prompt) for _, row in rows])
        return np.hstack([words, numbers[[row.columns["question_number"] for _, row in rows]]])

    x, held_out = features(train), features(test)
    scores = [score(fit(x, np.array([row.completion == a for _, row in train])), held_out) for a in answers[1:]]
    scores = [np.zeros(len(test)), *scores] if len(answers) == 2 else scores
    guesses = np.array(answers[-len(scores) :])[np.argmax(scores, axis=0)]
    return interval(guesses == [row.completion for _, row in test], np.array([i for i, _ in test]))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_text_only_classifier_is_at_chance(language):
    train, test = (
        asked(questions(cohort(400, split), language=language), epochs=2, kind="presence") for split in (0, 1)
    )
    low, high = accuracy_of_text(train, test, YES_NO[language])
    assert low <= 0.5 <= high + 0.01 and high - low < 0.12


@pytest.mark.slow
def test_a_text_only_classifier_cannot_tell_the_side():
    sided = {"Emphysema", "Atelectasis", "Pulmonary fibrotic sequela", "Pleural effusion"}  # on one side or both
    rows = [asked(questions(cohort(400, split)), epochs=4, kind="side") for split in (0, 1)]
    train, test = ([(i, row) for i, row in of_split if row.columns["label"] in sided] for of_split in rows)
    low, _ = accuracy_of_text(train, test, ("", "Right", "Left", "Both"))
    assert low <= 1 / 3 + 0.02


@pytest.mark.slow
def test_the_classifier_finds_the_leak_of_questions_that_are_not_balanced():
    rows = []
    for split in (0, 1):
        task = questions(cohort(400, split), question_types=("presence",))
        task.chances = np.where(np.arange(39) < 18, 4 / 18, 0) * np.ones((400, 1))
        rows.append(asked(task, epochs=2))
    low, _ = accuracy_of_text(*rows, YES_NO["en"])
    assert low > 0.7


def spaced(text):
    return " ".join(text) if ord(text[0]) > 255 else text


@pytest.mark.slow
def test_questions_differ_within_a_volume_and_come_from_seed_epoch_and_volume_alone():
    scans = cohort(400)
    task = questions(scans)
    for i in range(50):
        rows = [task.ask(i, number, 0) for number in range(4)]
        assert len({(row.columns["question_type"], row.columns["label"]) for row in rows}) == 4
    backwards = [task.ask(i, number, 2) for i in reversed(range(50)) for number in reversed(range(4))]
    assert backwards[::-1] == [questions(scans).ask(i, number, 2) for i in range(1) for number in range(4)] + [
        task.ask(i, number, 2) for i in range(1, 50) for number in range(4)
    ]
    first, second = ([task.ask(i, 0, epoch) for i in range(50)] for epoch in (0, 1))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 10
    assert [questions(scans, seed=1).ask(i, 0, 0) for i in range(9)] != first[:9]


def test_both_languages_ask_the_same():
    english, chinese = (asked(questions(cohort(400), language=language)) for language in ("en", "zh"))
    for (_, row), (_, twin) in zip(english[:400], chinese, strict=False):
        assert row.columns == twin.columns and row.prompt != twin.prompt and row.completion != twin.completion
    assert set(FINDINGS["zh"]) == set(FINDINGS["en"]) == set(NAMES["zh"]) == set(LABELS)
    assert len(set(NAMES["zh"].values())) == len(LABELS)


def test_only_partners_with_another_answer_are_fit():
    task = questions(cohort(400))
    kinds = set()
    for i in range(60):
        for number in range(4):
            answer = task.ask(i, number, 0)
            unfit = set(task.unfit_partners(i, number, 0).tolist())
            kind, label = answer.columns["question_type"], answer.columns["label"]
            others = [j for j in range(400) if j not in unfit and cohort(400).patients[j] != cohort(400).patients[i]]
            assert i in unfit and others
            for j in others[:20]:
                findings = cohort(400).findings[j]
                if kind == "presence":
                    assert (label in findings) != (answer.completion == "Yes")
                elif kind == "side":
                    assert findings[label].side != answer.completion.lower()
                elif kind == "abnormalities":
                    assert set(findings) != set(cohort(400).findings[i])
            kinds.add(kind)
    assert kinds == set(DEFAULT_TYPES)


def test_what_all_others_answer_alike_is_not_asked():
    names = [f"train_{i}_a_1.nii.gz" for i in range(6)]
    labels = np.zeros((6, 18), int)
    labels[:, 0] = 1
    labels[:3, 9] = 1
    task = Questions(names, ["Nodule in the right lung."] * 6, labels, names, questions_per_volume=39)
    assert {row.columns["label"] for _, row in asked(task, kind="presence")} == {"Lung nodule"}
    assert not asked(task, kind="side") and task.rows_of.tolist() == [2] * 6
    # A second scan of the only patient with a nodule is no other answer to his first.
    alone = Questions(names, [""] * 6, labels, ["a"] * 3 + ["b"] * 3, question_types=("presence",))
    assert alone.rows_of.tolist() == [1] * 6
    assert not Questions(names, [""] * 6, labels, ["a"] * 6).rows_of.any()


def test_types_and_their_number_can_be_chosen():
    scans = cohort(400)
    task = questions(scans, question_types=("side", "location"), questions_per_volume=2)
    assert {row.columns["question_type"] for _, row in asked(task)} == {"side", "location"}
    assert set(task.rows_of) == {0, 1, 2} or set(task.rows_of) == {0, 2}
    everything = questions(scans, questions_per_volume=39)
    assert (everything.rows_of >= 19).all()


@pytest.mark.slow
def test_an_item_is_chosen_with_exactly_its_chance():
    rng = np.random.default_rng(0)
    chances = np.array([1.0, 0.7, 0.05, 0.0, 0.25, 1.0])
    drawn = np.array([np.isin(np.arange(6), choose(chances, rng)) for _ in range(20000)])
    assert (drawn.sum(axis=1) == 3).all()
    np.testing.assert_allclose(drawn.mean(axis=0), chances, atol=0.012)


def test_chances_even_out_rare_values_as_far_as_there_are_any():
    rng = np.random.default_rng(0)
    values = (rng.random((1000, 4)) < [0.5, 0.2, 0.05, 0.01]).astype(int)
    chances = balanced_chances(values, np.ones(4), np.ones(4, dtype=bool), 1)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    yes, no = ((chances * (values == value)).sum(axis=0) for value in (1, 0))
    np.testing.assert_allclose(yes / (yes + no), 0.5, atol=0.02)


PROFESSIONAL = ("size", "count", "grade", "severity", "change")
NODULE = LABELS.index("Lung nodule")
TOLD = [
    ("There is a 7 mm nodule in the right lung upper lobe, unchanged.", {"size": "7 mm", "grade": "6 to 8 mm"}),
    ("A nodule of 4 mm is seen in the left lung lower lobe.", {"size": "4 mm", "grade": "Below 6 mm", "count": "One"}),
    ("Multiple nodules are seen, the largest 12 mm. They are stable.", {"size": "12 mm", "count": "Several"}),
    ("A new ground glass nodule of 9 mm is seen.", {"size": "9 mm", "change": "New"}),
]


def told_questions(**given) -> Questions:
    labels = np.zeros((len(TOLD), len(LABELS)), np.int8)
    labels[:, NODULE] = 1
    names = [f"train_{i}_a_1.nii.gz" for i in range(len(TOLD))]
    given = {"question_types": PROFESSIONAL, "questions_per_volume": 5} | given
    return Questions(names, [text for text, _ in TOLD], labels, [str(i) for i in range(len(TOLD))], **given)


def test_professional_questions_have_the_answers_of_the_report_and_a_sentence_as_proof():
    told = {(i, row.columns["question_type"]): row for i, row in asked(told_questions())}
    for i, (text, answers) in enumerate(TOLD):
        for kind, answer in answers.items():
            assert told[i, kind].completion == answer
            assert told[i, kind].columns["proof"] in text
            assert told[i, kind].columns["label"] == "Lung nodule"
    assert (3, "grade") not in told  # other rules hold for ground glass
    assert {row.columns["answer_type"] for row in told.values()} == {"number", "choice"}


def test_presence_and_places_have_their_sentences_as_proof():
    scans = cohort(40)
    rows = asked(questions(scans))
    for i, row in rows:
        if row.columns["question_type"] in ("side", "location") or row.completion == "Yes":
            assert row.columns["proof"] and row.columns["proof"].split(". ")[0] in scans.reports[i]
        else:
            assert row.columns["proof"] == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_steps_lead_to_a_question_with_their_answers(language):
    scans = cohort(60)
    rows = asked(questions(scans, steps=True, language=language, question_types=("presence", "side", "location")))
    plain = asked(questions(scans, language=language, question_types=("presence", "side", "location")))
    assert [row._replace(before=()) for _, row in rows] == [row for _, row in plain]
    yes = YES_NO[language][1]
    for _, row in rows:
        answers = [answer for _, answer in row.before]
        kind = row.columns["question_type"]
        assert len(answers) == {"presence": 0, "side": 1, "location": 2}[kind]
        assert answers[:1] == [yes][: len(answers)]
        assert all(FINDINGS[language][row.columns["label"]] in question for question, _ in row.before)


def test_examples_are_the_same_question_about_other_patients_of_the_training_split():
    train, test = cohort(60), cohort(30, split=1)
    examples = questions(train)
    task = questions(test, num_shots=3, examples=examples)
    answers = Counter()
    for _, row in asked(task, epochs=2):
        heading, *lines, own = row.prompt.split("\n")
        assert heading == "Examples from other patients, without their scans:"
        assert own.startswith("This scan: ") and len(lines) == 6
        assert {line.removeprefix("Question: ") for line in lines[::2]} == {own.removeprefix("This scan: ")}
        if row.columns["question_type"] == "presence":
            shown = [line.removeprefix("Answer: ") for line in lines[1::2]]
            answers[row.completion, shown.count("Yes")] += 1
    # What is shown does not depend on the answer: the mean number of "Yes" is about the same for both.
    means = [np.average(range(4), weights=[answers[own, n] + 1e-9 for n in range(4)]) for own in ("Yes", "No")]
    assert abs(means[0] - means[1]) < 0.6


def test_no_example_is_of_the_same_patient():
    labels = np.zeros((6, len(LABELS)), np.int8)
    labels[:3, 2] = 1
    names = [f"train_{i}_a_1.nii.gz" for i in range(6)]
    reports = ["Cardiomegaly."] * 3 + ["Normal."] * 3
    patients = ["a", "a", "a", "b", "b", "c"]
    task = Questions(names, reports, labels, patients, num_shots=5, question_types=("presence",))
    for i, row in asked(task, epochs=3):
        shown = row.prompt.count("Answer: ")
        assert shown == 2  # one of each other patient, though five were asked for
        if row.columns["label"] == LABELS[2] and i < 3:
            assert "Answer: Yes" not in row.prompt  # only this patient has the finding


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_question_is_found_by_its_words_with_and_without_its_end(language):
    task = questions(cohort(60), question_types=QUESTION_TYPES, language=language)
    for _, row in asked(task, epochs=2):
        kind, end = row.columns["question_type"], FORMS[language][row.columns["question_type"]]
        assert row.prompt.endswith(end)
        for text in (row.prompt, row.prompt.removesuffix(end), f" {row.prompt.upper()}\n"):
            assert find_question(text, language) == (row.prompt, kind)
    assert find_question("Is there hope?", language) is None and find_question("", language) is None
