"""Which slices a finding rests on, with a model that is known to read each finding off two slices."""

import numpy as np
import pytest
from helpers.tiny_reader import COMBINATIONS, INDICES, STATED, make_row, with_line, write_report

from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.hub.reporting.evidence import mixed_slices, slice_evidence, top_slices
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.sentences import report_sentences, stating_sentences


@pytest.mark.slow_but_first
@pytest.mark.parametrize("shown", COMBINATIONS[1:])
def test_each_finding_rests_on_the_slices_that_show_it(reader, shown):
    evidence = slice_evidence(*reader, make_row(shown, seed=900), write_report(shown))
    expected = {INDICES[third]: {2 * third + 1, 2 * third + 2} for third, here in enumerate(shown) if here}
    assert {label: set(top_slices(values)) for label, values in evidence.items()} == expected


def test_below_a_findings_line_the_line_rests_on_the_slices_and_the_sentences_on_the_line(line_reader_dir):
    model, collator = load_model(str(line_reader_dir), device="cpu")
    row, text = make_row((1, 1, 0), seed=900), with_line((1, 1, 0))
    by_line = slice_evidence(model, collator, row, text, line=text.splitlines()[0])
    found = {label: set(top_slices(values)) for label, values in by_line.items()}
    showing = {INDICES[0]: {1, 2}, INDICES[1]: {3, 4}}
    # Which of the two slices a model reads more from depends on how its processor rounds while it is trained.
    assert found.keys() == showing.keys() and all(found[label] and found[label] <= showing[label] for label in found)
    by_sentences = slice_evidence(model, collator, row, text)
    assert max(map(max, by_sentences.values())) < 0.5 < max(map(max, by_line.values()))
    assert slice_evidence(model, collator, row, text, line="Abnormalities: nonsense.") == by_sentences


def test_a_finding_that_no_slice_shows_rests_on_none(reader):
    evidence = slice_evidence(*reader, make_row((1, 0, 0), seed=900), write_report((1, 1, 0)))
    assert top_slices(evidence[INDICES[0]]) and not top_slices(evidence[INDICES[1]])


def test_a_report_without_findings_needs_no_evidence(reader):
    assert slice_evidence(*reader, make_row((0, 0, 0)), write_report((0, 0, 0))) == {}


@pytest.mark.slow
def test_evidence_is_the_same_every_time_and_for_every_batch_size(reader):
    row, report = make_row((1, 1, 0), seed=900), write_report((1, 1, 0))
    first, again = (slice_evidence(*reader, row, report) for _ in range(2))
    one_by_one = slice_evidence(*reader, row, report, batch_size=1)
    assert first == again and first.keys() == one_by_one.keys()
    for label, values in first.items():
        np.testing.assert_allclose(values, one_by_one[label], atol=1e-3)


def test_the_noise_of_a_slice_leaves_the_report_ahead_of_a_sentence_out_of_account(reader):
    """Another finding that rests on the noisy slices must not count: each sentence is scored on its own."""
    evidence = slice_evidence(*reader, make_row((1, 0, 1), seed=900), write_report((1, 0, 1)))
    assert max(evidence[INDICES[2]][:2]) < 0.5


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_mixed_slices_keep_their_greys_and_colours_but_not_their_places(mode):
    row = {"images": [image.convert(mode) for image in make_row((1, 1, 1))["images"]]}
    row["images"][0].putpixel((0, 0), 255 if mode == "L" else (255, 0, 7))
    for image, mixed in zip(row["images"], mixed_slices(row), strict=True):
        assert (mixed.mode, mixed.size) == (image.mode, image.size) and mixed.tobytes() != image.tobytes()
        assert sorted(mixed.getcolors(1 << 16)) == sorted(image.getcolors(1 << 16))


def test_sentences_are_found_at_their_places_and_with_their_findings():
    report = "Findings: Cardiomegaly is seen. No emphysema;  a 2.5 mm nodule is present!\nImpression: Cardiomegaly"
    sentences = report_sentences(report)
    assert [report[s.start : s.end] for s in sentences] == [s.text for s in sentences]
    assert [(s.text, [LABELS[label] for label in s.labels]) for s in sentences] == [
        ("Cardiomegaly is seen.", ["Cardiomegaly"]),
        ("No emphysema;", []),
        ("a 2.5 mm nodule is present!", ["Lung nodule"]),
        ("Cardiomegaly", ["Cardiomegaly"]),
    ]
    assert {LABELS[label]: s.text for label, s in stating_sentences(report).items()} == {
        "Cardiomegaly": "Cardiomegaly is seen.",
        "Lung nodule": "a 2.5 mm nodule is present!",
    }


@pytest.mark.parametrize(
    ("report", "texts"),
    [
        ("", []),
        ("Findings:", []),
        ("Findings: \nImpression: ", []),
        (STATED[0][:-1], [STATED[0][:-1]]),  # cut short
        (STATED[0] + " Cardiomeg", [STATED[0], "Cardiomeg"]),
    ],
)
def test_odd_reports_have_only_the_sentences_that_are_there(report, texts):
    assert [sentence.text for sentence in report_sentences(report)] == texts


@pytest.mark.parametrize(
    ("evidence", "slices"),
    [
        ([0.0, 3.0, 2.2, 2.0], [2, 3]),  # less than 70 % of the best is not named
        ([0.1, 0.5, -4.0, 0.0], []),  # nothing above log 2 stands out
        ([0.0, 0.7, 0.0], [2]),
    ],
)
def test_only_slices_that_stand_out_are_named(evidence, slices):
    assert top_slices(evidence) == slices
