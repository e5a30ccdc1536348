"""
Writes a report as a FHIR R4 DiagnosticReport, checked by the models of `fhir.resources` (R4B, whose DiagnosticReport,
Observation and Device are those of R4).

It holds nothing of the patient or the study, unless the reader names a subject. It is preliminary: no person has read
it.
"""

import html
import re
from datetime import UTC, datetime

from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.hub.reporting.scan_report import WHY_DOUBTFUL, Finding, ScanReport

from .finding_codes import CODES, SYSTEMS
from .options import check_subject


ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
# What XML cannot hold, not even as an escape.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def make_diagnostic_report(report: ScanReport, subject: str | None = None) -> DiagnosticReport:
    """
    A report as a FHIR R4 DiagnosticReport: the text as `conclusion`, the stated findings as `conclusionCode`, an
    Observation with the confidence of each of the 18 labels, and the model as a Device.

    Args:
        report ([`~ct_rate_pairs.hub.reporting.scan_report.ScanReport`]):
            The report.
        subject (`str`, *optional*):
            Reference to the patient on the FHIR server, such as `"Patient/123"`. By default there is no subject.

    Returns:
        `DiagnosticReport`: the resource; `model_dump_json()` gives its JSON.

    Raises:
        `ValueError`: for a subject that is no reference.

    Example:

    ```python
    resource = make_diagnostic_report(load_reporter("USER/model").report("scan.nii.gz"), subject="Patient/123")
    print(resource.model_dump_json(indent=2))
    ```
    """
    check_subject(subject)
    of_whom = {"subject": {"reference": subject}} if subject else {}
    model = {
        "resourceType": "Device",
        "id": "model",
        "deviceName": [{"name": _plain(report.model) or "unnamed model", "type": "model-name"}],
        **({"version": [{"value": _plain(report.version)}]} if report.version.strip() else {}),
        "note": [{"text": NOTICE}],
    }
    is_whole = not (report.cut or report.unread)
    observations = [_observation(n, finding, is_whole) | of_whom for n, finding in enumerate(report.findings, start=1)]
    stated = [finding.label for finding in report.findings if finding.stated]
    return DiagnosticReport.model_validate(
        {
            "resourceType": "DiagnosticReport",
            "text": {"status": "generated", "div": _narrative(report)},
            "contained": [model, *observations],
            "status": "preliminary",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2", "display": "CT Chest"}]},
            "issued": datetime.now(UTC).isoformat(timespec="seconds"),
            "result": [{"reference": f"#{observation['id']}"} for observation in observations],
            **({"conclusion": _plain(report.text)} if report.text.strip() else {}),
            **({"conclusionCode": [_concept(label) for label in stated]} if stated else {}),
            **of_whom,
        }
    )


def _observation(number: int, finding: Finding, is_whole: bool) -> dict:
    """A label as an Observation: whether the report states it, with its confidence and the sentence."""
    observation = {
        "resourceType": "Observation",
        "id": f"finding-{number}",
        "status": "preliminary",
        "code": _concept(finding.label),
        "device": {"reference": "#model"},
    }
    if finding.stated or is_whole:
        observation["valueBoolean"] = finding.stated
    else:  # that it is not stated says nothing
        observation["dataAbsentReason"] = {"coding": [{"system": ABSENT, "code": "unknown"}]}
    if finding.confidence is not None:
        percent = {"value": round(100 * finding.confidence, 1), "system": "http://unitsofmeasure.org", "code": "%"}
        observation["component"] = [
            {"code": {"text": "calibrated probability of the finding"}, "valueQuantity": percent | {"unit": "%"}}
        ]
    notes = [finding.sentence] if finding.sentence else []
    notes += [f"It rests on slices {', '.join(map(str, finding.slices))}, from the top."] if finding.slices else []
    notes += [WHY_DOUBTFUL] if finding.doubtful else []
    return observation | ({"note": [{"text": _plain(note)} for note in notes]} if notes else {})


def _concept(label: str) -> dict:
    """A finding as a CodeableConcept. One that no standard has the code of has its name alone."""
    code = CODES[label]
    if code.scheme not in SYSTEMS:
        return {"text": label}
    return {
        "coding": [{"system": SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}],
        "text": label,
    }


def _narrative(report: ScanReport) -> str:
    """The report for people, as XHTML: what is to be known first, then its text."""
    paragraphs = [NOTICE, *report.warnings, *report.text.splitlines()]
    escaped = (html.escape(_plain(paragraph)) for paragraph in paragraphs if paragraph.strip())
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{"".join(f"<p>{text}</p>" for text in escaped)}</div>'


def _plain(text: str) -> str:
    return _NO_XML.sub("\ufffd", text).strip()
