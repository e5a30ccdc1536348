"""A DiagnosticReport of FHIR R4 says what the report says, is preliminary, and names nobody unless it is told to."""

import json
import re
from xml.etree import ElementTree

import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from helpers.dicom_reports import TEXT, report_of
from helpers.dicom_series import PLANTED, slices
from helpers.tiny_reader import AFFINE, make_voxels

from ct_rate_pairs.hub.pacs import make_diagnostic_report
from ct_rate_pairs.reports.labels import LABELS


@pytest.fixture(scope="module")
def report():
    return report_of(slices(make_voxels((1, 0, 1)), AFFINE))


def written(report, subject=None) -> dict:
    """The resource as it is read back from its JSON, which is validated once more."""
    return json.loads(
        DiagnosticReport.model_validate_json(
            make_diagnostic_report(report, subject).model_dump_json()
        ).model_dump_json()
    )


def test_it_has_the_text_the_codes_and_the_confidences_and_is_preliminary(report):
    record = written(report)
    assert (record["resourceType"], record["status"], record["conclusion"]) == (
        "DiagnosticReport",
        "preliminary",
        TEXT,
    )
    assert [concept["text"] for concept in record["conclusionCode"]] == ["Medical material", "Cardiomegaly"]
    heart = {"system": "http://snomed.info/sct", "code": "8186001", "display": "Cardiomegaly"}
    assert record["conclusionCode"][1]["coding"] == [heart] and "coding" not in record["conclusionCode"][0]
    model, *observations = record["contained"]
    assert (model["deviceName"][0]["name"], model["version"][0]["value"]) == ("USER/model", "4f5e")
    assert [observation["code"]["text"] for observation in observations] == list(LABELS)
    assert [f"#{observation['id']}" for observation in observations] == [at["reference"] for at in record["result"]]
    stated = {o["code"]["text"]: o["component"][0]["valueQuantity"] for o in observations if o["valueBoolean"]}
    assert stated["Cardiomegaly"]["value"] == 75.0 and set(stated) == {"Medical material", "Cardiomegaly"}
    assert {o["status"] for o in observations} == {"preliminary"}


def test_it_names_nobody_unless_a_subject_is_given(report):
    record = written(report)
    assert "subject" not in json.dumps(record) and not [word for word in PLANTED if word in json.dumps(record)]
    record = written(report, "Patient/123")
    whose = [record["subject"], *(observation["subject"] for observation in record["contained"][1:])]
    assert whose == [{"reference": "Patient/123"}] * (1 + len(LABELS))
    for subject in ("Jane Doe", "DOE^JANE", "Patient/", "patient/1", "Patient/1 or 2"):
        with pytest.raises(ValueError, match="no reference of FHIR") as raised:
            make_diagnostic_report(report, subject)
        assert "DOE" not in str(raised.value)


def test_what_people_read_is_xhtml_without_markup_of_the_model(report):
    hostile = "A <script>nodule</script> &amp; \x00\x1b[2J\ufffe ]]>"
    record = written(report_of(slices(make_voxels((1, 0, 1)), AFFINE), text=hostile, told=["Its axes are guessed."]))
    paragraphs = [element.text for element in ElementTree.fromstring(record["text"]["div"])]
    assert paragraphs[0].startswith("Not a medical device.") and "Its axes are guessed." in paragraphs
    assert paragraphs[-1].startswith("A <script>nodule</script> &amp; ") and len(paragraphs) == 4
    assert not re.search("[\x00-\x08\x1b]", record["conclusion"])


def test_of_a_report_that_is_cut_what_is_not_stated_is_not_absent(report):
    record = written(report_of(slices(make_voxels((1, 0, 1)), AFFINE), cut=True))
    others = [o for o in record["contained"][1:] if o["code"]["text"] not in ("Medical material", "Cardiomegaly")]
    assert not [o for o in others if "valueBoolean" in o]
    assert {o["dataAbsentReason"]["coding"][0]["code"] for o in others} == {"unknown"}
    assert "met its limit of tokens" in record["text"]["div"]


def test_a_model_that_wrote_nothing_leaves_no_conclusion(report):
    record = written(report_of(slices(make_voxels((1, 0, 1)), AFFINE), text="", unread="The model wrote no report."))
    assert "conclusion" not in record and "The model wrote no report." in record["text"]["div"]
