"""A findings line says what the labels say, and comes off a text again, whatever follows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.reports.findings_line import (
    findings_named,
    form_of,
    open_text,
    report_of,
    sides_of,
    stating_entries,
    write_line,
)
from ct_rate_pairs.reports.labels import LABELS, NAMES
from ct_rate_pairs.reports.places import LATERAL, SIDES
from ct_rate_pairs.reports.sentences import report_sentences, stating_sentences


KINDS = st.tuples(st.sampled_from(["names", "yes_no", "sides"]), st.sampled_from(["en", "zh"]))
VECTORS = st.lists(st.integers(0, 1), min_size=18, max_size=18)
REPORTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.strip)


def test_a_line_is_as_it_is_documented():
    heart = [int(label in ("Cardiomegaly", "Pleural effusion")) for label in LABELS]
    assert write_line(heart, "names") == "Abnormalities: Cardiomegaly; Pleural effusion."
    assert write_line([0] * 18, "names") == "Abnormalities: none."
    assert write_line(heart, "names", "zh") == "异常：心脏增大；胸腔积液。"
    assert write_line([0] * 18, "names", "zh") == "异常：无。"
    entries = write_line(heart, "yes_no").removeprefix("Abnormalities: ").removesuffix(".").split("; ")
    assert [entry.rsplit(" ", 1) for entry in entries] == [
        [label, "yes" if here else "no"] for label, here in zip(LABELS, heart, strict=True)
    ]


def test_a_line_with_sides_is_as_it_is_documented():
    nodule, effusion, heart = map(LABELS.index, ("Lung nodule", "Pleural effusion", "Cardiomegaly"))
    labels = [int(i in (nodule, effusion, heart)) for i in range(18)]
    english = write_line(labels, "sides", "en", {nodule: "right", heart: "left"})  # a heart has no side
    assert english.startswith("Abnormalities and sides: Medical material no; ")
    assert (
        "; Cardiomegaly yes; " in english and "; Lung nodule right; " in english and "Pleural effusion yes" in english
    )
    chinese = write_line(labels, "sides", "zh", {nodule: "left", effusion: "both", LABELS.index("Emphysema"): "right"})
    assert chinese.startswith("异常及侧别：医疗材料否；")
    assert "；肺结节左；" in chinese and "；胸腔积液双；" in chinese and "；肺气肿否；" in chinese


@given(VECTORS, st.dictionaries(st.sampled_from(LATERAL), st.sampled_from(SIDES)), st.sampled_from(["en", "zh"]))
def test_the_sides_of_a_line_are_those_of_its_findings(labels, sides, language):
    line = write_line(labels, "sides", language, sides)
    assert open_text(line).labels == tuple(labels) and form_of(line) == ("sides", language)
    assert sides_of(line) == {i: side for i, side in sides.items() if labels[i]}
    assert stating_entries(line).keys() == {i for i, label in enumerate(labels) if label}
    entries = {i: line[slice(*place)] for i, place in stating_entries(line).items()}
    assert all(entry.startswith(NAMES[language][LABELS[i]]) for i, entry in entries.items())
    assert write_line(labels, "yes_no", language, sides) == write_line(labels, "yes_no", language)


def test_a_reader_names_findings_with_or_without_their_side():
    named = findings_named(["Cardiomegaly", "Lung nodule right", "Pleural effusion"])
    assert [LABELS[i] for i, label in enumerate(named.labels) if label] == [
        "Cardiomegaly",
        "Lung nodule",
        "Pleural effusion",
    ]
    assert named.sides == {LABELS.index("Lung nodule"): "right"}
    with pytest.raises(ValueError, match="'Cardiomegaly left' has a side, which only findings of the lungs"):
        findings_named(["Cardiomegaly left"])
    with pytest.raises(ValueError, match="is Lung nodule meant"):
        findings_named(["Lung nodul left"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_name_of_a_label_is_another_s(language):
    assert len(set(NAMES[language].values())) == 18 and list(NAMES[language]) == list(LABELS)


@given(VECTORS, KINDS, REPORTS)
def test_it_comes_off_a_text_and_the_report_stays(labels, kind, report):
    line = write_line(labels, *kind)
    assert open_text(f"{line}\n{report}") == (line, tuple(labels), report)
    assert report_of({"role": "assistant", "content": f"{line}\n{report}"}) == report


@given(REPORTS)
def test_a_report_without_a_line_stays_as_it_is(report):
    if not report.startswith(("Abnormalities: ", "异常：", "Abnormalities and sides: ", "异常及侧别：")):
        assert open_text(report) == (None, None, report)


@pytest.mark.parametrize(
    "line",
    [
        "Abnormalities: ",
        "Abnormalities: none",  # cut before its end
        "Abnormalities: Cardiomegaly; Pleural eff",
        "Abnormalities: Cardiomegaly; Cardiomegaly.",
        "Abnormalities: Pleural effusion; Cardiomegaly.",  # not in the official order
        "Abnormalities: Cardiomegaly; none.",
        "Abnormalities: Cardiomegaly; Pneumothorax.",
        "Abnormalities: Cardiomegaly yes; Pleural effusion no.",  # two of the 18
        "Abnormalities: cardiomegaly.",
        "Abnormalities: Cardiomegaly. The heart is large.",
        "异常：心脏增大，胸腔积液。",
        write_line([0] * 18, "yes_no").replace("Emphysema no", "Emphysema maybe"),
        write_line([0] * 18, "yes_no").replace("Emphysema no", "Emphysema no yes"),
        write_line([1] * 18, "names").replace("; ", ", "),
        write_line([0] * 18, "yes_no").replace("Emphysema no", "Emphysema left"),  # this form has no sides
        write_line([0] * 18, "sides").replace("Cardiomegaly no", "Cardiomegaly left"),
        write_line([0] * 18, "sides").replace("Emphysema no", "Emphysema middle"),
    ],
)
def test_a_malformed_line_states_nothing_and_is_no_text_of_the_report(line):
    assert open_text(f"{line}\nFindings: Emphysema is seen.") == (line, None, "Findings: Emphysema is seen.")
    assert open_text(line) == (line, None, "")


@given(VECTORS, KINDS)
def test_its_entries_are_no_sentences_of_the_report(labels, kind):
    report = "Findings: The heart is normal. Emphysema is seen.\nImpression: Emphysema."
    text = f"{write_line(labels, *kind)}\n{report}"
    moved = len(text) - len(report)
    expected = [s._replace(start=s.start + moved, end=s.end + moved) for s in report_sentences(report)]
    assert report_sentences(text) == expected
    assert all(text[s.start : s.end] == s.text for s in report_sentences(text))
    assert stating_sentences(text).keys() == {LABELS.index("Emphysema")}
