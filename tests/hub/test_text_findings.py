"""What is read from the text of a report, with the confidence of its findings."""

from ct_rate_pairs.hub.reporting.text_findings import findings_of
from ct_rate_pairs.reports.labels import LABELS


EVIDENCE = {index: [0.0, 0.0] for index in range(len(LABELS))}


def test_a_stated_finding_that_is_more_likely_absent_is_doubtful():
    probabilities = [0.1] * len(LABELS)
    for label, probability in (("Emphysema", 0.49), ("Lung nodule", 0.5)):
        probabilities[LABELS.index(label)] = probability
    findings = findings_of("Emphysema is seen. There is a nodule in the left lung.", probabilities, EVIDENCE, {})
    assert {finding.label for finding in findings if finding.stated} == {"Emphysema", "Lung nodule"}
    assert [finding.label for finding in findings if finding.doubtful] == ["Emphysema"]


def test_without_a_confidence_nobody_knows_what_is_doubtful():
    findings = findings_of("Emphysema is seen.", [None] * len(LABELS), EVIDENCE, {})
    assert {finding.doubtful for finding in findings} == {None}
