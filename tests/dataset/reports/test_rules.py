"""The rule labeler: terms and their organs, negation and its reach, doubt, comparison, and what never matters."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report, split_clauses
from ct_rate_pairs.reports.sentence_spans import split_sentences
from ct_rate_pairs.reports.terms import STEMS, TERMS


# 800 real reports with manual labels, which may not be shipped with the project.
DEV_REPORTS = ROOT.parent / "shared" / "data" / "report_labels_dev.csv"

# One plain sentence a label, in the official order.
PLAIN = [
    "A central venous catheter is observed in the superior vena cava.",
    "Calcified plaques are observed in the wall of the thoracic aorta.",
    "Heart size is increased.",
    "There is minimal pericardial effusion.",
    "There are calcific plaques in the coronary arteries.",
    "A sliding type hiatal hernia was observed.",
    "Enlarged lymph nodes are observed in the mediastinum.",
    "Emphysematous changes are present on both sides.",
    "Linear atelectasis is observed in the lingula.",
    "A 5 mm nodule is observed in the right lung upper lobe.",
    "Ground-glass opacities are observed in both lungs.",
    "Sequelae changes are present at both apices.",
    "There is bilateral pleural effusion.",
    "A mosaic attenuation pattern is observed in both lungs.",
    "Peribronchial thickening is observed.",
    "An area of consolidation is observed in the left lower lobe.",
    "Mild central bronchiectasis is present on both sides.",
    "Interlobular septal thickening is observed in the lower lobes.",
]

# Other words for each label, as radiologists write them.
SYNONYMS = {
    "Medical material": [
        "A port-a-cath is in place.",
        "The tip of the chemoport lies in the right atrium.",
        "A pigtail catheter is seen in the right pleural space.",
        "Coronary stents are noted.",
        "Sternotomy wires are present.",
        "An ICD with its leads is seen.",
        "A tracheostomy cannula is observed.",
        "An IVC filter is present.",
        "Surgical clips are seen in the left axilla.",
        "An endotracheal tube ends above the carina.",
        "There is posterior fixation material in the thoracic spine.",
        "Breast implants are seen on both sides.",
        "The T12 vertebra was treated by vertebroplasty.",
    ],
    "Arterial wall calcification": [
        "Atherosclerotic changes of the aortic arch.",
        "Wall calcifications are seen in the abdominal aorta.",
        "Mural calcification of the descending aorta is noted.",
        "Arteriosclerotic plaques are seen in the aorta and its branches.",
    ],
    "Cardiomegaly": [
        "Cardiomegaly.",
        "The heart is enlarged.",
        "The cardiothoracic index is increased.",
        "The cardiac silhouette is enlarged.",
        "There is enlargement of the heart.",
        "The cardiothoracic ratio exceeds 0.5.",
    ],
    "Pericardial effusion": [
        "Fluid is seen in the pericardial space.",
        "Hemopericardium is present.",
        "A pericardial effusion of 8 mm is seen.",
    ],
    "Coronary artery wall calcification": [
        "Dense calcifications are seen along the LAD.",
        "Calcified plaques of the RCA and LCX.",
        "Coronary atherosclerosis is noted.",
        "Coronary artery calcium is heavy.",
    ],
    "Hiatal hernia": [
        "Hiatus hernia.",
        "A sliding hernia is noted.",
        "A paraesophageal hernia is seen.",
        "The gastric fundus is herniated into the thorax.",
        "Part of the stomach herniates through the diaphragm.",
    ],
    "Lymphadenopathy": [
        "Mediastinal lymphadenopathy.",
        "Hilar LAP is seen on both sides.",
        "Enlarged subcarinal lymph nodes measure 14 mm.",
        "Axillary adenopathy is noted.",
        "Paratracheal lymph-nodes are seen.",
    ],
    "Emphysema": [
        "Paraseptal emphysema.",
        "Bullae are seen at the apices.",
        "A bulla of 3 cm is present.",
        "Small apical blebs are noted.",
        "Bullous changes are present.",
    ],
    "Atelectasis": [
        "Plate-like atelectasis at the bases.",
        "Atelectatic bands are seen in the lingula.",
        "There is subsegmental collapse in the right lower lobe.",
        "The left lower lobe is collapsed.",
    ],
    "Lung nodule": [
        "Millimetric nodules are scattered in both lungs.",
        "A subsolid nodule is seen in the right apex.",
        "Micronodules are observed in the upper lobes.",
        "A nodular lesion of 9 mm in the left lower lobe.",
        "Centrilobular nodules are seen.",
    ],
    "Lung opacity": [
        "GGO in the right upper lobe.",
        "Groundglass areas in both lungs.",
        "Ground-glass density in the lingula.",
        "Ground glass attenuation is seen in both lungs.",
        "Patchy opacification of the left lung.",
        "Frosted glass densities are present.",
        "Density increases in the lower lobe of the left lung.",
    ],
    "Pulmonary fibrotic sequela": [
        "Fibrotic bands at both apices of the lungs.",
        "Scarring in the right upper lobe.",
        "Pleuroparenchymal sequelae.",
        "Parenchymal bands are seen in the left lung.",
    ],
    "Pleural effusion": [
        "Bilateral pleural fluid is seen.",
        "Hydropneumothorax on the right.",
        "Left-sided hemothorax.",
        "Empyema is present.",
        "Effusion is seen in both hemithoraces.",
        "Pleural liquid of 2 cm on the left.",
    ],
    "Mosaic attenuation pattern": [
        "Mosaic perfusion.",
        "A mosaic pattern of attenuation is noted.",
    ],
    "Peribronchial thickening": [
        "Peribronchial cuffing is seen.",
        "Thickening of the peribronchial sheaths.",
        "Peribronchovascular thickening in the lower lobes.",
    ],
    "Consolidation": [
        "Consolidative changes in the left lower lobe.",
        "Lobar consolidation with air bronchograms.",
        "The right lower lobe is consolidated.",
    ],
    "Bronchiectasis": [
        "Traction bronchiectasis.",
        "Bronchiolectasis is noted.",
        "Tubular ectasia of the lower lobe bronchi.",
        "There is bronchial dilatation in the middle lobe.",
        "Bronchiectatic changes are seen.",
    ],
    "Interlobular septal thickening": [
        "Kerley B lines are seen.",
        "Thickened interlobular septa.",
        "Smooth septal thickening at the lung bases.",
        "Interlobular septae are thickened.",
    ],
}


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
        "Pericardial effusion-thickening was not seen on this scan.",
        "Pericardial effusion - no thickening was seen.",
        "The trachea and main bronchi are open and no enlarged lymph nodes were detected.",
        "The lungs are free of consolidation.",
        "Neither pleural effusion nor consolidation is seen.",
        "Pleural effusion could not be detected.",
        "The pleural effusion seen before is no longer observed.",
        "The pleural effusion has resolved.",
        "A nodule, which was observed in the previous examination, was not detected in the current examination.",
        "Great vessels of the mediastinum, heart contour, size are normal.",
        "Apart from this, consolidation was not observed.",
        "Heart size is normal.",
        "The interlobular septa are normal.",
        "The aeration of both lungs is normal and no nodular or infiltrative lesion is detected.",
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


@pytest.mark.parametrize(("label", "text"), [(label, text) for label in SYNONYMS for text in SYNONYMS[label]])
def test_synonyms_state_their_label_alone(label, text):
    assert stated(text) == {label}


@pytest.mark.parametrize(
    "text",
    [
        "No pleural effusion, pericardial effusion, consolidation or nodule.",
        "There is no evidence of emphysema, bronchiectasis or mosaic attenuation.",
        "Lymphadenopathy, nodule and consolidation were not detected.",
        "Neither atelectasis nor effusion is present in the pleura.",
        "Both lungs are free of consolidation and ground-glass opacity.",
        "The lungs do not show consolidation, nodule or atelectasis.",
        "Pleural effusion: none.",
        "Consolidation: absent",
        "Pleural effusion was ruled out.",
        "The central venous catheter has been removed.",
        "No nodule is visible in either lung.",
        "Interlobular septal thickening is absent.",
        "The ground-glass opacities have completely regressed.",
        "The consolidation has disappeared.",
        "Pleural effusion is no longer present.",
        "The patient is without pericardial or pleural effusion.",
        "No hiatal hernia, cardiomegaly or coronary calcification.",
        "Emphysema was never seen.",
        "In the mediastinal lymph node stations, no enlarged lymph node is seen.",
        "Heart size and contours are normal.",
        "Pleural effusion does not exist.",
        "Lymph node was not found in the axilla, at the hila or in the mediastinum.",
        "There is a complete absence of pleural effusion.",
        "Negative for consolidation or effusion.",
        "No pleural effusion and no pericardial effusion, and consolidation was not seen.",
        "Pericardial and pleural effusion were not seen.",
        "No lung nodule besides those described above was found.",
    ],
)
def test_every_finding_under_a_negation_is_absent(text):
    assert stated(text) == set()


@pytest.mark.parametrize("finding", SYNONYMS["Lung nodule"] + SYNONYMS["Consolidation"])
@pytest.mark.parametrize("frame", ["No {}", "There is no evidence of {}", "{} was not detected", "Without {}"])
def test_a_negation_reaches_synonyms_too(finding, frame):
    noun = re.split(r" (?:is|are|in|of|with) ", finding.rstrip(".").lower())[0]
    assert stated(frame.format(noun) + ".") == set()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("The appearance may be compatible with consolidation.", {"Consolidation"}),
        ("Consolidation? Atelectasis?", {"Atelectasis", "Consolidation"}),
        ("Emphysema cannot be excluded.", {"Emphysema"}),
        ("Pleural effusion could not be ruled out.", {"Pleural effusion"}),
        ("Suspected bronchiectasis in the lingula.", {"Bronchiectasis"}),
        ("Probable mosaic attenuation.", {"Mosaic attenuation pattern"}),
        ("The nodule has decreased in size.", {"Lung nodule"}),
        ("The pleural effusion has partially regressed.", {"Pleural effusion"}),
        ("The consolidation is stable.", {"Consolidation"}),
        ("No change was found in the size of the nodule.", {"Lung nodule"}),
        ("The pleural effusion has not resolved.", {"Pleural effusion"}),
        ("The consolidation has partially resolved.", {"Consolidation"}),
        ("A nodule that was not present previously is seen in the lingula.", {"Lung nodule"}),
        ("Pleural effusion, not seen in the previous scan, is noted.", {"Pleural effusion"}),
        ("Nodules without interval change.", {"Lung nodule"}),
        ("The nodule does not show any significant change.", {"Lung nodule"}),
        ("The catheter has not been removed.", {"Medical material"}),
        ("No consolidation but emphysema is seen.", {"Emphysema"}),
        ("No effusion except a minimal pleural effusion on the left.", {"Pleural effusion"}),
        ("Apart from a single nodule, the lungs are normal.", {"Lung nodule"}),
        ("Emphysema is seen, and nodules were not detected.", {"Emphysema"}),
        ("Consolidation is seen without pleural effusion.", {"Consolidation"}),
        ("Although no consolidation is seen, bronchiectasis is noted.", {"Bronchiectasis"}),
        ("No pleural effusion, however atelectasis is seen.", {"Atelectasis"}),
        ("Pleural effusion is present whereas pericardial effusion was not detected.", {"Pleural effusion"}),
        ("Trachea is normal and emphysema is seen in both lungs.", {"Emphysema"}),
        ("Atelectasis not distinguished from consolidation is seen.", {"Atelectasis", "Consolidation"}),
        ("Atelectasis could not be distinguished from consolidation.", {"Atelectasis", "Consolidation"}),
    ],
)
def test_doubt_comparison_and_exception_leave_a_finding_stated(text, labels):
    assert stated(text) == labels


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


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Heart is not enlarged.", set()),
        ("Heart not enlarged.", set()),
        ("The cardiac silhouette does not appear enlarged.", set()),
        ("The size of the heart has not increased.", set()),
        ("The cardiothoracic index is not increased.", set()),
        ("Mediastinal nodes are not enlarged.", set()),
        ("Mediastinal and hilar lymph nodes are not pathologically enlarged.", set()),
        ("Bronchi are not dilated.", set()),
        ("The interlobular septa are not thickened.", set()),
        ("Peribronchial structures are not thickened.", set()),
        ("The right lower lobe is not consolidated.", set()),
        ("The aorta is not calcified.", set()),
        ("The nodule is not enlarged compared with the prior scan.", {"Lung nodule"}),
        ("The nodule is not calcified.", {"Lung nodule"}),
        ("The pleural effusion has not increased.", {"Pleural effusion"}),
        ("Pleural effusion is not accompanied by atelectasis.", {"Pleural effusion"}),
        ("The pacemaker is in place, the heart is not enlarged.", {"Medical material"}),
    ],
)
def test_not_before_a_word_denies_that_word_alone(text, labels):
    assert stated(text) == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("No consolidation, 5 mm nodule in the right lower lobe.", {"Lung nodule"}),
        ("Without effusion, a nodule in the left lung is seen.", {"Lung nodule"}),
        ("Without evidence of interstitial disease, mild bronchiectasis is noted.", {"Bronchiectasis"}),
        ("No effusion, emphysema is seen.", {"Emphysema"}),
        ("No effusion or nodule, coronary calcifications are present.", {"Coronary artery wall calcification"}),
        ("There is no consolidation, multiple nodules in both lungs.", {"Lung nodule"}),
        ("No effusion, no consolidation, a 4 mm nodule.", {"Lung nodule"}),
        ("Emphysema without nodule, small pleural effusion.", {"Emphysema", "Pleural effusion"}),
        ("Pleural effusion was not detected, 5 mm nodule in the lingula.", {"Lung nodule"}),
        ("No new consolidation, and the known nodule is stable.", {"Lung nodule"}),
        ("No enlarged nodes; however, a 1.5 cm axillary node is present.", {"Lymphadenopathy"}),
        ("Consolidation is present in the right, absent in the left lung.", {"Consolidation"}),
        ("The right pleural effusion has resolved, and the left effusion persists.", {"Pleural effusion"}),
        ("The effusion has resolved but consolidation remains.", {"Consolidation"}),
        ("The consolidation is stable, the nodule resolved.", {"Consolidation"}),
        ("Resolved consolidation, residual band atelectasis.", {"Atelectasis"}),
        ("Ground glass areas of the previous examination disappeared, and nodules persist.", {"Lung nodule"}),
        ("No consolidation, a 5 mm nodule is seen, stable or slightly smaller.", {"Lung nodule"}),
    ],
)
def test_a_statement_after_a_denial_and_its_comma_counts(text, labels):
    assert stated(text) == labels


@pytest.mark.parametrize(
    "text",
    [
        "No effusion, consolidation, nodule or mass is seen.",
        "No pleural effusion, a mass or a nodule.",
        "No consolidation, small effusion or nodule is present.",
        "No effusion, consolidation, nodule is seen.",
        "No free fluid, loculated effusion was detected in the pleural space.",
        "No nodule, mass, infiltration was detected in both lung parenchyma.",
        "No obvious finding of active infiltration, consolidation, and mass was detected.",
        "The lungs are clear without focal consolidation, effusion, or pneumothorax.",
        "There is no lymphadenopathy in the mediastinum, the hila or the axillae.",
        "No nodule larger than 0,5 cm, consolidation or effusion was observed.",
    ],
)
def test_a_list_under_one_denial_is_denied_to_its_end(text):
    assert stated(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "Interval resolution of the consolidation in the left lower lobe.",
        "Complete clearing of the ground-glass opacities.",
        "The previously seen pleural effusion has completely cleared.",
        "Consolidation areas observed in the previous examination regressed completely.",
        "The pleural effusion observed in the previous examination shows total regression.",
        "While there was pleural effusion in the previous examination, it was not detected in this examination.",
        "There was pleural effusion in the previous examination.",
        "In the previous examination of the patient, there is consolidation in the left lung.",
        "Interval removal of the left chest tube.",
        "Consolidation is unlikely.",
        "It is unlikely that this represents consolidation.",
        "Consolidation is less likely.",
        "The findings do not suggest consolidation.",
        "The findings are not in favor of consolidation.",
        "Not consistent with emphysema.",
        "There is nothing to suggest consolidation.",
        "Low likelihood of consolidation.",
        "Evaluate for pleural effusion.",
        "Rule out consolidation.",
        "CT was requested to exclude consolidation.",
        "Indication: Pleural effusion.",
        "Clinical history: Emphysema, follow up of a nodule.",
        "Pneumothorax or pleural effusion: not detected.",
        "Pleural effusion (-).",
    ],
)
def test_what_is_gone_unlikely_or_only_asked_for_is_absent(text):
    assert stated(text) == set()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Near complete resolution of the left pleural effusion.", {"Pleural effusion"}),
        ("The ground-glass opacities have nearly cleared.", {"Lung opacity"}),
        ("The ground-glass opacities have not cleared.", {"Lung opacity"}),
        ("Resolution of the left effusion with persistent right pleural effusion.", {"Pleural effusion"}),
        ("Malignancy is unlikely in this pulmonary nodule.", {"Lung nodule"}),
        ("A nodule is seen that is unlikely to be malignant.", {"Lung nodule"}),
        ("Opacity, unlikely consolidation.", {"Lung opacity"}),
        ("We cannot rule out consolidation.", {"Consolidation"}),
        ("CT cannot exclude early emphysema.", {"Emphysema"}),
        ("Atelectasis rather than consolidation.", {"Atelectasis"}),
        ("The opacity represents atelectasis instead of consolidation.", {"Lung opacity", "Atelectasis"}),
        ("Pleural effusion was observed on the right, and it was not detected on the left.", {"Pleural effusion"}),
        ("Consolidation, absent on the prior scan, is now seen.", {"Consolidation"}),
        ("There was effusion in the previous examination, and it has decreased.", {"Pleural effusion"}),
        ("In the previous examination, there was consolidation, which has decreased.", {"Consolidation"}),
        ("There is a nodule of 5 mm (4 mm in the previous examination).", {"Lung nodule"}),
        ("There are nodules also observed in the previous examination.", {"Lung nodule"}),
        ("Image no 45 shows ground glass density in the right lung.", {"Lung opacity"}),
    ],
)
def test_what_is_partly_gone_or_not_excluded_is_present(text, labels):
    assert stated(text) == labels


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


NORMAL = [
    "The trachea and main bronchi are open.",
    "Both adrenal glands look normal.",
    "No fracture was detected.",
    "The esophagus is of normal calibre.",
    "A simple cyst of the left kidney is noted.",
]
SENTENCES = [*PLAIN, *NORMAL, *(text for texts in SYNONYMS.values() for text in texts)]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6, unique=True), st.randoms())
def test_order_case_blanks_and_normal_sentences_never_matter(sentences, random):
    labels = label_report(" ".join(sentences))
    shuffled = random.sample(sentences, len(sentences))
    assert label_report(" ".join(shuffled)) == labels
    assert label_report(" ".join(sentences).replace(" ", "  ")) == labels
    assert label_report("\n".join(sentences)) == labels
    assert label_report(" ".join(sentences).upper()) == label_report(" ".join(sentences).lower()) == labels
    place = random.randint(0, len(sentences))
    assert label_report(" ".join([*sentences[:place], random.choice(NORMAL), *sentences[place:]])) == labels


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(range(18)), min_size=2, max_size=5, unique=True))
def test_a_list_is_read_item_by_item_and_negated_whole(indices):
    nouns = [
        *("catheter", "aortic calcification", "cardiomegaly", "pericardial effusion", "coronary calcification"),
        *("hiatal hernia", "lymphadenopathy", "emphysema", "atelectasis", "nodule", "ground-glass opacity"),
        *("fibrotic scarring", "pleural effusion", "mosaic attenuation", "peribronchial thickening"),
        *("consolidation", "bronchiectasis", "interlobular septal thickening"),
    ]
    *first, last = (nouns[index] for index in indices)
    listed = f"{', '.join(first)} and {last}"
    assert stated(f"No {listed} in the lungs.") == set()
    assert stated(f"{listed} were not detected in the lungs.") == set()
    assert stated(f"{listed}.") == {LABELS[index] for index in indices}


@pytest.mark.skipif(not DEV_REPORTS.exists(), reason=f"{DEV_REPORTS} is not here: CT-RATE's licence keeps it out")
def test_macro_f1_on_real_reports_is_at_least_96_percent_and_no_label_below_88():
    table = pd.read_csv(DEV_REPORTS)
    labels = table[list(LABELS)].to_numpy(dtype=bool)
    stated_labels = np.array([label_report(text) for text in table["report_text"]], dtype=bool)
    f1 = 2 * (stated_labels & labels).sum(0) / (stated_labels.sum(0) + labels.sum(0))
    assert f1.mean() >= 0.96
    assert f1.min() >= 0.88
