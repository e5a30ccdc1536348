"""The words of the rule labeler: each label by its terms and synonyms, and the organ that a finding belongs to."""

import re

import pytest
from helpers.labelled_sentences import PLAIN, SYNONYMS, stated

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.terms import STEMS, TERMS


@pytest.mark.parametrize("index", range(18), ids=LABELS)
def test_plain_sentence_states_its_label_alone_in_the_official_order(index):
    assert label_report(PLAIN[index]) == [int(place == index) for place in range(18)]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Calcific plaques are observed in the coronary arteries.", {"Coronary artery wall calcification"}),
        (
            "Atheroma plaques are present in the aorta and the coronary arteries.",
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
        while "(" in pattern:  # alternatives outside brackets
            pattern = re.sub(r"\([^()]*\)\??", "", pattern)
        words = pattern.replace(r"\b", "").split("|")
        return all(any(stem in word for stem in STEMS[label].split()) for word in words if word.isalpha())

    for label, terms in TERMS.items():
        for term in terms:
            assert all_hold_a_stem(term.pattern, label) or (term.also and all_hold_a_stem(term.also, label)), term


@pytest.mark.parametrize(("label", "text"), [(label, text) for label in SYNONYMS for text in SYNONYMS[label]])
def test_synonyms_state_their_label_alone(label, text):
    assert stated(text) == {label}


@pytest.mark.parametrize(
    "text",
    [
        "A hypodense nodule is seen in the right thyroid lobe.",
        "A nodular lesion of the left adrenal gland is noted.",
        "Perihepatic fluid is seen.",
        "Calcification is seen in the liver.",
        "A sequela calcification of the spleen is noted.",
        "There is an umbilical hernia.",
        "A disc herniation is seen at T8.",
        "Free fluid is seen in the abdomen.",
        "Collapse of the L1 vertebra.",
        "The bladder is collapsed.",
        "A calcified nodule of the breast is seen.",
        "Calculi are seen in the gallbladder.",
        "Decreased liver density in keeping with steatosis.",
        "The density of the liver parenchyma is increased.",
        "Old rib fractures with sequela changes are seen.",
        "Calcified mitral annulus.",
        "Fibroadenoma of the left breast.",
        "Fibroglandular tissue of the breasts is dense.",
        "Mesenteric lymph nodes are seen.",
        "Intra-abdominal lymph nodes are noted.",
        "An intrapulmonary lymph node is seen.",
        "Peritoneal implants are noted.",
        "Bochdalek hernia on the left.",
        "Knee joint effusion.",
        "The interventricular septum is thickened.",
        "Contrast material was not given.",
        "Bone density is decreased.",
        "Pancreatic head and tail are of normal size.",
    ],
)
def test_findings_of_other_organs_are_no_chest_labels(text):
    assert stated(text) == set()


# What CT-RATE's manual labels do not count, though near a label in meaning (docs/labeler.md).
@pytest.mark.parametrize(
    "text",
    [
        "Crazy paving is seen in the right lung.",
        "Air trapping is seen in both lungs.",
        "Bronchial wall thickening is noted.",
        "Fibroatelectatic changes.",
        "Parenchymal air cysts are seen.",
        "Pneumonic infiltration is seen in the left lung.",
    ],
)
def test_neighbours_of_a_label_are_read_as_the_manual_labels_do(text):
    assert stated(text) <= {"Pulmonary fibrotic sequela"}


AORTIC, CORONARY = "Arterial wall calcification", "Coronary artery wall calcification"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Cardiac enlargement.", {"Cardiomegaly"}),
        ("Heart: Mildly enlarged.", {"Cardiomegaly"}),
        ("Heart size is at the upper limit of normal.", set()),
        ("The cardiothoracic ratio is above the upper limit of normal.", {"Cardiomegaly"}),
        ("Pleural thickening without effusion.", set()),
        ("Pericardial thickening without effusion is seen.", set()),
        ("Pericardial fluid is at physiological limits.", set()),
        ("Pleural and pericardial effusion.", {"Pleural effusion", "Pericardial effusion"}),
        ("Pleura: No effusion or pneumothorax.", set()),
        ("Pleura: Small right effusion.", {"Pleural effusion"}),
        ("Thyroid: 9 mm nodule in the right lobe.", set()),
        ("Thyroid nodules and pulmonary nodules are seen.", {"Lung nodule"}),
        ("Mediastinum: Enlarged subcarinal node measuring 1.6 cm.", {"Lymphadenopathy"}),
        ("Splenic artery calcification.", set()),
        ("Calcified plaques in the abdominal aorta and the splenic artery.", {AORTIC}),
        ("Coronary arterial calcification.", {CORONARY}),
        ("Aortic and coronary calcifications.", {AORTIC, CORONARY}),
        ("Coronary and aortic calcification.", {AORTIC, CORONARY}),
        ("Calcified plaques without significant stenosis in the aortic arch.", {AORTIC}),
        ("Aortic calcification is seen, coronary calcification is not.", {AORTIC}),
        ("No calcification was observed in the coronary arteries, atheroma plaques are seen in the aorta.", {AORTIC}),
        ("Aortic valve calcification without coronary calcification.", set()),
        ("Stent in the LAD without coronary calcification.", {"Medical material"}),
        ("Peribronchial and interlobular septal thickening.", {LABELS[14], LABELS[17]}),
        ("Consolidative density is observed in the left lung.", {"Consolidation", "Lung opacity"}),
        ("Peribronchial ground glass densities and wall thickening were observed.", {"Lung opacity"}),
    ],
)
def test_a_finding_belongs_to_its_organ_through_lists_headings_and_denials(text, labels):
    assert stated(text) == labels
