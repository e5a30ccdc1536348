"""The rule labeler: negation and its reach, doubt, comparison, and what never matters."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers.labelled_sentences import PLAIN, SYNONYMS, stated
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.reports.clauses import split_clauses
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.sentence_spans import split_sentences


# 800 real reports with manual labels, which may not be shipped with the project.
DEV_REPORTS = ROOT.parent / "shared" / "data" / "report_labels_dev.csv"


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
