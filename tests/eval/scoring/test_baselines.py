import numpy as np
import pytest

from ct_rate_pairs.eval.scoring.baselines import all_positive_report, most_common_report, trivial_reports
from ct_rate_pairs.eval.scoring.labelers import label_reports
from ct_rate_pairs.reports.labels import LABELS


NORMAL = "Trachea is open. Pleural effusion was not observed. Heart size is normal."
REPORTS = [
    "Trachea is open. Pleural effusion was not observed. Cardiomegaly is observed.",
    "Trachea is open. Pleural effusion was not observed. Emphysema is observed in both lungs. Heart size is normal.",
    "Trachea is open. Bilateral pleural effusion is observed. Heart size is normal.",
    NORMAL,
    "No pathology was detected.",
]


@pytest.fixture(scope="module")
def labels():
    return label_reports(REPORTS)


def test_all_negative_states_nothing_and_all_positive_everything(labels):
    for reports, rows in ((REPORTS, labels), (REPORTS[:3], labels[:3])):
        trivial = trivial_reports(reports, rows)
        assert set(trivial) == {"all_negative", "most_common", "all_positive"}
        stated = dict(zip(trivial, label_reports(list(trivial.values())), strict=True))
        assert not stated["all_negative"].any()
        assert stated["all_positive"].all()


def test_all_negative_is_the_most_common_normal_report(labels):
    assert trivial_reports(REPORTS, labels)["all_negative"] == NORMAL


def test_a_scan_with_a_finding_does_not_give_the_all_negative_report(labels):
    labels = labels.copy()
    labels[REPORTS.index(NORMAL), 3] = 1  # a finding that the report's text keeps quiet about
    assert trivial_reports(REPORTS, labels)["all_negative"] == "No pathology was detected."


def test_without_a_normal_scan_the_findings_are_left_out(labels):
    all_negative = trivial_reports(REPORTS[:3], labels[:3])["all_negative"]
    assert all_negative and not label_reports([all_negative]).any()
    assert "was not observed" in all_negative or "Heart size is normal" in all_negative


def test_the_most_common_report_is_the_repeated_one_or_the_one_with_the_shared_sentences():
    assert most_common_report(["A b. C d.", "E f.", "G h.", "E f."]) == "E f."
    assert most_common_report(["One sentence. Two sentence.", "One sentence. Three sentence.", "Four sentence."]) != (
        "Four sentence."
    )


def test_all_positive_takes_the_training_set_s_most_frequent_wording():
    often, seldom = "There is an increase in heart size, cardiomegaly", "Cardiomegaly is seen"
    report = all_positive_report([f"{seldom}.", f"{often}.", f"{often}."])
    assert report.split(". ")[LABELS.index("Cardiomegaly")] == often
    assert label_reports([report]).sum() == 18
    assert f"{LABELS[1]} is observed" in report


def test_no_reports_is_an_error():
    with pytest.raises(ValueError, match="there are none"):
        trivial_reports([], np.zeros((0, 18)))
