"""A doubtful finding in the files for a PACS."""

from ct_rate_pairs.hub.pacs.fhir import _observation
from ct_rate_pairs.hub.pacs.structured_report import _finding
from ct_rate_pairs.hub.reporting.scan_report import WHY_DOUBTFUL, Finding


def test_a_doubtful_finding_is_told_as_in_the_other_files():
    finding = Finding("Emphysema", stated=True, confidence=0.24, sentence="Emphysema is seen.", doubtful=True)
    notes = [note["text"] for note in _observation(1, finding, True)["note"]]
    comments = [str(item.TextValue) for item in _finding(finding, []).ContentSequence if "TextValue" in item]
    assert notes == comments == ["Emphysema is seen.", WHY_DOUBTFUL]
