"""The rule labeler: negation and its reach, and terms that need an organ."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.labels import LABELS
from ct_rate_pairs.report_labels import _TABLE, label_report, split_clauses, split_sentences
from ct_rate_pairs.report_terms import STEMS, TERMS


# One plain sentence a label, in the official order.
PLAIN = [
    "A central venous catheter is observed in the superior vena cava.",
    "Calcified plaques are observed in the wall of the thoracic aorta.",
    "Heart size is increased.",
    "There is minimal pericardial effusion.",
    "There are calcific plaques in the coronary arteries.",
    "A sliding type hiatal hernia was observed.",
    "Enlarged lymph nodes are observed in the mediastinum.",
    "There are emphysematous changes in both lungs.",
    "Linear atelectasis is observed in the lingula.",
    "A 5 mm nodule is observed in the right lung upper lobe.",
    "Ground-glass opacities are observed in both lungs.",
    "Sequelae changes are observed at the apical level.",
    "There is bilateral pleural effusion.",
    "A mosaic attenuation pattern is observed in both lungs.",
    "Peribronchial thickening is observed.",
    "An area of consolidation is observed in the left lower lobe.",
    "There is minimal bronchiectasis in the central parts of both lungs.",
    "Interlobular septal thickening is observed in the lower lobes.",
]


def stated(text: str) -> set[str]:
    return {label for label, value in zip(LABELS, label_report(text), strict=True) if value}


@pytest.mark.parametrize("index", range(18), ids=LABELS)
def test_plain_sentence_states_its_label_alone_in_the_official_order(index):
    assert label_report(PLAIN[index]) == [int(place == index) for place in range(18)]


@pytest.mark.parametrize(
    "text",
    [
        "No pleural effusion, consolidation or nodule was detected.",
        "Pleural effusion, pericardial effusion and consolidation were not observed.",
        "Pericardial effusion-thickening was not detected.",
        "Pericardial effusion - no thickening was detected.",
        "Trachea and both main bronchi are open and no enlarged lymph nodes were detected.",
        "The lungs are free of consolidation.",
        "Neither pleural effusion nor consolidation is seen.",
        "Pleural effusion could not be detected.",
        "The pleural effusion seen before is no longer observed.",
        "The pleural effusion has resolved.",
        "A nodule, which was observed in the previous examination, was not detected in the current examination.",
        "Mediastinal main vascular structures, heart contour, size are normal.",
        "Apart from this, consolidation was not observed.",
        "Heart size is normal.",
        "The interlobular septa are normal.",
        "Aeration of both lung parenchyma is normal and no nodular or infiltrative lesion is detected.",
        "",
        "Not given.",
    ],
)
def test_negated_findings_do_not_count(text):
    assert stated(text) == set()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("There is no consolidation, but emphysema is seen in both lungs.", {"Emphysema"}),
        ("Emphysema is seen in both lungs, and pleural effusion was not detected.", {"Emphysema"}),
        (
            "Emphysema is present, atelectasis is seen in the left lung, pleural effusion was not detected.",
            {"Emphysema", "Atelectasis"},
        ),
        ("No significant change was detected in the size of the nodule in the right lung.", {"Lung nodule"}),
        ("A nodule without calcification is observed in the right lung.", {"Lung nodule"}),
        ("No nodule other than the 3 mm nodule in the lingula was detected.", {"Lung nodule"}),
        ("Consolidation that was not observed in the previous examination is seen.", {"Consolidation"}),
        ("The appearance may be compatible with consolidation.", {"Consolidation"}),
        ("No pneumothorax. Mild bronchiectasis.", {"Bronchiectasis"}),
        ("No focal consolidation; mosaic attenuation in both lungs.", {"Mosaic attenuation pattern"}),
        (
            "The heart cannot be evaluated due to the lack of contrast, and minimal pericardial effusion is observed.",
            {"Pericardial effusion"},
        ),
    ],
)
def test_negation_reaches_no_further_than_its_clause(text, labels):
    assert stated(text) == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Calcific plaques are observed in the coronary arteries.", {"Coronary artery wall calcification"}),
        (
            "Atheroma plaques are observed in the aorta and coronary arteries.",
            {"Arterial wall calcification", "Coronary artery wall calcification"},
        ),
        ("Calcific plaques are observed in the pleura.", set()),
        ("Calcification is observed in the aortic valve.", set()),
        ("A hypodense nodule is observed in the thyroid gland.", set()),
        ("Fibroatelectatic changes are observed in the lingula.", {"Pulmonary fibrotic sequela"}),
        ("Pericardial effusion is observed.", {"Pericardial effusion"}),
        ("Perirenal effusion is observed.", set()),
        ("There is a left inguinal hernia.", set()),
    ],
)
def test_terms_belong_to_their_organ(text, labels):
    assert stated(text) == labels


def test_every_label_has_terms_and_stems():
    assert tuple(TERMS) == LABELS == tuple(STEMS)


def test_stems_hide_no_term():
    def all_hold_a_stem(pattern: str, label: str) -> bool:
        words = re.sub(r"\([^()]*\)\??|\\b", "", pattern).split("|")  # alternatives outside brackets
        return all(any(stem in word for stem in STEMS[label].split()) for word in words if word.isalpha())

    for label, terms in TERMS.items():
        for term in terms:
            assert all_hold_a_stem(term.pattern, label) or (term.also and all_hold_a_stem(term.also, label)), term


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(18)), st.sets(st.integers(0, 17)))
def test_sentences_are_read_one_by_one(order, chosen):
    text = " ".join(PLAIN[index] for index in order if index in chosen)
    assert label_report(text) == [int(index in chosen) for index in range(18)]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='abno ,.;-?"•\nAT', max_size=80))
def test_any_text_is_read(text):
    assert len(label_report(text)) == 18
    assert all(split_clauses(sentence.lower()) is not None for sentence in split_sentences(text))


def test_table_has_one_entry_a_label():
    assert [index for index, *_ in _TABLE] == list(range(18))
