"""A findings line says what the labels say, and comes off a text again, whatever follows it."""

import pytest
from hypothesis import assume, given
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
OPENINGS = ("Abnormalities: ", "Abnormalities and sides: ", "异常：", "异常及侧别：", "异常：右肺结节。\n")
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


@pytest.mark.parametrize("write", [str.lower, str.upper, str.title])
def test_a_reader_names_findings_in_upper_or_lower_case(write):
    named = [f"{label} left" if i in LATERAL else label for i, label in enumerate(LABELS)]
    assert findings_named([write(name) for name in named]) == findings_named(named)
    with pytest.raises(ValueError, match="'CARDIOMEGLY' is none of the 18 labels .is Cardiomegaly meant"):
        findings_named(["CARDIOMEGLY"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_name_of_a_label_is_another_s(language):
    assert len(set(NAMES[language].values())) == 18 and list(NAMES[language]) == list(LABELS)


@given(VECTORS, KINDS, REPORTS)
def test_it_comes_off_a_text_and_the_report_stays(labels, kind, report):
    line = write_line(labels, *kind)
    assert open_text(f"{line}\n{report}") == (line, tuple(labels), report)
    assert report_of({"role": "assistant", "content": f"{line}\n{report}"}) == report


@given(st.sampled_from(["", *OPENINGS]), REPORTS)
def test_a_text_by_anybody_else_keeps_its_words(opening, report):
    """Also one that opens with the heading of a line, as reports do: `异常：` is no rare word."""
    text = f"{opening}{report}"
    assume(form_of(text.partition("\n")[0]) is None)
    assert open_text(text) == (None, None, text)
    assert report_of({"role": "assistant", "content": text}) == text


@given(st.one_of(REPORTS, st.sampled_from(OPENINGS)).filter(lambda line: line and "\n" not in line), REPORTS)
def test_a_text_of_a_model_with_a_line_loses_its_first_line_whatever_it_is(line, report):
    opened = open_text(f"{line}\n{report}", with_line=True)
    assert (opened.line, opened.report) == (line, report)
    assert (opened.labels is None) == (form_of(line) is None)


@given(VECTORS, KINDS, st.data())
def test_a_damaged_line_of_a_model_with_a_line_is_never_text(labels, kind, data):
    """A letter is lost, twice there, or another one; or the line is cut."""
    line, report = write_line(labels, *kind), "Findings: Emphysema is seen."
    at = data.draw(st.integers(0, len(line) - 1))
    damage = [line[:at] + line[at + 1 :], line[: at + 1] + line[at:], line[:at] + "x" + line[at + 1 :], line[: at + 1]]
    damaged = data.draw(st.sampled_from(damage))
    opened = open_text(f"{damaged}\n{report}", with_line=True)
    assert (opened.line, opened.report) == (damaged, report)
    assert opened.labels in (None, tuple(labels)) and (opened.labels is None) == (damaged != line)


def test_an_empty_text_has_no_line():
    assert open_text("", with_line=True) == open_text("") == (None, None, "")


@pytest.mark.parametrize(
    "line",
    [
        "Abnormalities:Cardiomegaly.",
        "Abnormality: Cardiomegaly.",
        "abnormalities: Cardiomegaly.",
        "Abnormalities and sides Cardiomegaly no.",
        "异常:心脏增大。",
        "Cardiomegaly; Pleural effusion.",
        "Abnormalities:",
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
    text = f"{line}\nFindings: Emphysema is seen."
    assert open_text(text, with_line=True) == (line, None, "Findings: Emphysema is seen.")
    assert open_text(line, with_line=True) == (line, None, "")
    assert [sentence.text for sentence in report_sentences(text, with_line=True)] == ["Emphysema is seen."]
    assert stating_sentences(text, with_line=True).keys() == {LABELS.index("Emphysema")}
    assert open_text(text) == (None, None, text)  # of anybody else


@given(VECTORS, KINDS)
def test_its_entries_are_no_sentences_of_the_report(labels, kind):
    report = "Findings: The heart is normal. Emphysema is seen.\nImpression: Emphysema."
    text = f"{write_line(labels, *kind)}\n{report}"
    moved = len(text) - len(report)
    expected = [s._replace(start=s.start + moved, end=s.end + moved) for s in report_sentences(report)]
    assert report_sentences(text) == expected
    assert all(text[s.start : s.end] == s.text for s in report_sentences(text))
    assert stating_sentences(text).keys() == {LABELS.index("Emphysema")}
