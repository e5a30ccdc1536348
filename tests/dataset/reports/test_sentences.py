"""The rule labeler on sentences of many kinds (`sentences.txt`): changes, devices, vessels, signs, denials, doubt."""

from pathlib import Path

import pytest

from ct_rate_pairs.reports.clauses import split_clauses
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.negations import negated_spans
from ct_rate_pairs.reports.rules import DENIAL, hinted_by, label_report
from ct_rate_pairs.reports.sentence_spans import split_sentences


NAMES = dict(zip("MM AWC CM PCE CAC HH LN EM AT NO OP FS PE MO PB CO BR IS".split(), LABELS, strict=True))  # noqa: SIM905
KINDS: dict[str, list[tuple[str, set[str]]]] = {}
for line in Path(__file__).with_name("sentences.txt").read_text().splitlines():
    if line.startswith("## "):
        KINDS[line.removeprefix("## ")] = sentences = []
    elif line and not line.startswith("#"):
        text, names = line.rsplit(" |", 1)
        sentences.append((text, {NAMES[name] for name in names.split()}))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_is_read_as_a_radiologist_means_it(kind):
    assert len(KINDS[kind]) > 10
    read = {
        text: {label for label, value in zip(LABELS, label_report(text), strict=True) if value}
        for text, _ in KINDS[kind]
    }
    assert {text: read[text] for text, said in KINDS[kind] if read[text] != said} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_no_denial_is_passed_over_for_want_of_its_words(kind):
    for text, _ in KINDS[kind]:
        for sentence in split_sentences(text):
            words = sentence.lower().split()
            if "(-)" not in words and DENIAL not in frozenset().union(*map(hinted_by, words)):
                clauses = split_clauses(" ".join(words).replace("(-)", ""))
                assert not any(map(negated_spans, clauses)), sentence


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("no interval {} of the pleural effusion", {"Pleural effusion"}),
        ("the nodule shows no {}", {"Lung nodule"}),
        ("without significant {} in the consolidation", {"Consolidation"}),
        ("there is no evidence of {} of the emphysema", {"Emphysema"}),
    ],
)
@pytest.mark.parametrize(
    "change", ["change", "progression", "improvement", "worsening", "resolution", "growth", "regression"]
)
def test_a_denied_change_leaves_the_finding_there(text, labels, change):
    said = text.format(change)
    assert {label for label, value in zip(LABELS, label_report(said), strict=True) if value} == labels


@pytest.mark.parametrize(
    "device", ["chest tube", "central venous catheter", "pacemaker", "IVC filter", "PICC line", "drain"]
)
@pytest.mark.parametrize("done", ["removed", "withdrawn", "taken out", "explanted", "retrieved", "discontinued"])
def test_a_device_that_was_taken_is_gone_and_one_that_was_not_is_there(device, done):
    gone = [f"The {device} has been {done}.", f"The {device} was {done} in the interval.", f"Right {device} {done}."]
    assert not any(any(label_report(text)) for text in gone)
    there = label_report(f"The {device} has not been {done}.")
    assert [label for label, value in zip(LABELS, there, strict=True) if value] == ["Medical material"]


@pytest.mark.parametrize("yes", ["(+)", "( + )", ": +", ": present", ": yes", ": positive", "(positive)", "+ve"])
@pytest.mark.parametrize(
    "no", ["(-)", "( - )", "(−)", ": -", ": absent", ": none", ": negative", "(none)", "-ve", " - absent"]
)
def test_a_sign_belongs_to_the_finding_before_it(yes, no):
    def said(text: str) -> set[str]:
        return {label for label, value in zip(LABELS, label_report(text), strict=True) if value}

    assert said(f"Pleural effusion {no}, emphysema {yes}".replace(" :", ":")) == {"Emphysema"}
    assert said(f"Emphysema {yes}, pleural effusion {no}".replace(" :", ":")) == {"Emphysema"}
    assert said(f"Consolidation {no}".replace(" :", ":")) == set()
    if "(" in yes and "(" in no:  # then no comma is needed
        assert said(f"Nodule {yes} effusion {no} emphysema {yes}") == {"Lung nodule", "Emphysema"}
