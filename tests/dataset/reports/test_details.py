"""Sizes, numbers, degrees and changes of findings, each with the sentence that tells it."""

import pytest
from helpers.phantom_reports import chinese_cohort, cohort

from ct_rate_pairs.reports.details import changes, largest_nodule, nodule_count, nodule_grade, severities
from ct_rate_pairs.reports.labels import LABELS


@pytest.mark.parametrize(
    ("report", "count"),
    [
        ("A 5 mm nodule is seen in the right upper lobe.", "one"),
        ("There is a solitary pulmonary nodule. No effusion.", "one"),
        ("Multiple nodules in both lungs.", "several"),
        ("Three millimetric nodules are seen.", "several"),
        ("A nodule in the right upper lobe. A nodule in the left lower lobe.", "several"),
        ("Findings: A nodule in the right upper lobe.\nImpression: A nodule.", "one"),
        ("A nodule in the lingula. The other nodule is calcified.", None),
        ("No nodule.", None),
        ("A nodule in the left thyroid lobe.", None),
        ("右肺上叶可见一枚结节。", "one"),
        ("双肺多发结节。", "several"),
        ("右肺结节。", None),
    ],
)
def test_number_of_nodules(report, count):
    told = nodule_count(report)
    assert (told and told.value) == count


@pytest.mark.parametrize(
    ("report", "grade"),
    [
        ("A 5 mm nodule is seen.", "below 6 mm"),
        ("A nodule of 5.4 mm is seen.", "below 6 mm"),
        ("A nodule of 5.5 mm is seen.", "6 to 8 mm"),  # 6 mm, rounded
        ("A 6 mm nodule is seen.", "6 to 8 mm"),
        ("An 8 mm nodule is seen. A 3 mm nodule is seen.", "6 to 8 mm"),
        ("A nodule of 0.9 cm is seen.", "above 8 mm"),
        ("A nodule smaller than 5 mm is seen.", "below 6 mm"),
        ("A nodule smaller than 8 mm is seen.", None),
        ("A 9 mm ground glass nodule is seen.", None),
        ("A 9 mm part-solid nodule is seen.", None),
        ("A 9 mm calcified nodule is seen.", None),
        ("A nodule is seen.", None),
        ("右肺上叶实性结节，大小约7mm。", "6 to 8 mm"),
        ("右肺上叶磨玻璃结节，大小约7mm。", None),
    ],
)
def test_size_class_of_the_fleischner_society(report, grade):
    told = nodule_grade(report)
    assert (told and told.value) == grade


@pytest.mark.parametrize(
    ("report", "label", "severity"),
    [
        ("Mild pleural effusion on the right.", "Pleural effusion", "mild"),
        ("There is a large hiatal hernia.", "Hiatal hernia", "severe"),
        ("Moderate emphysema is seen.", "Emphysema", "moderate"),
        ("Mild to moderate emphysema is seen.", "Emphysema", None),
        ("Mild emphysema in the upper lobes. Severe emphysema in the lower lobes.", "Emphysema", None),
        ("Mild emphysema and pleural effusion.", "Emphysema", None),  # of which of the two is not clear
        ("A small nodule is seen.", "Lung nodule", None),
        ("No large pleural effusion.", "Pleural effusion", None),
        ("双侧胸腔少量积液。", "Pleural effusion", "mild"),
        ("重度肺气肿。", "Emphysema", "severe"),
    ],
)
def test_severity(report, label, severity):
    told = severities(report).get(LABELS.index(label))
    assert (told and told.value) == severity


@pytest.mark.parametrize(
    ("report", "label", "change"),
    [
        ("The nodule is unchanged.", "Lung nodule", "unchanged"),
        ("There is no significant change in the nodule.", "Lung nodule", "unchanged"),
        ("The pleural effusion has increased.", "Pleural effusion", "larger"),
        ("The consolidation has partially regressed.", "Consolidation", "smaller"),
        ("A new nodule is seen in the right lung.", "Lung nodule", "new"),
        ("The nodule is stable, and no new nodule is seen.", "Lung nodule", "unchanged"),
        ("Ground glass density increases are seen.", "Lung opacity", None),
        ("A nodule is seen.", "Lung nodule", None),
        ("The nodule is stable. The left nodule has increased in size.", "Lung nodule", None),
        ("右肺结节，较前未见明显变化。", "Lung nodule", "unchanged"),
        ("右侧胸腔积液较前减少。", "Pleural effusion", "smaller"),
        ("右肺新发结节。", "Lung nodule", "new"),
    ],
)
def test_change(report, label, change):
    told = changes(report).get(LABELS.index(label))
    assert (told and told.value) == change


def test_the_proof_is_a_sentence_of_the_report_that_tells_the_detail():
    report = "No effusion. A 4 mm nodule is seen. The largest nodule measures 12 mm."
    assert largest_nodule(report) == (12.0, "The largest nodule measures 12 mm", False)


@pytest.mark.parametrize("scans", [cohort(120), chinese_cohort(120)], ids=["en", "zh"])
def test_the_phantom_s_nodules_have_their_size_and_number(scans):
    checked = 0
    for report, findings in zip(scans.reports, scans.findings, strict=True):
        if nodule := findings.get("Lung nodule"):
            assert largest_nodule(report).value == nodule.size
            assert nodule_count(report).value == {"single": "one", "several": "several"}[nodule.detail]
            checked += 1
        else:
            assert largest_nodule(report) is None and nodule_count(report) is None
    assert checked > 40
