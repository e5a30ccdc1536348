"""
The 18 findings in codes that other systems know: SNOMED CT, or DICOM's own terms of the chest (PS3.16, CID 6102).

A finding has a code only where the code means the same. The others have a code of this project, whose meaning is the
name of the label.
"""

from typing import NamedTuple

from ct_rate_pairs.reports.labels import LABELS


PRIVATE = "99CTRATEPAIRS"  # scheme of codes that no standard has, in DICOM's form
SYSTEMS = {"SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM"}  # of FHIR


class FindingCode(NamedTuple):
    """A code, the scheme that it is of, and its meaning there."""

    value: str
    scheme: str
    meaning: str


_KNOWN = {
    "Cardiomegaly": FindingCode("8186001", "SCT", "Cardiomegaly"),
    "Pericardial effusion": FindingCode("373945007", "SCT", "Pericardial effusion"),
    "Coronary artery wall calcification": FindingCode("445512009", "SCT", "Calcification of coronary artery"),
    "Hiatal hernia": FindingCode("84089009", "SCT", "Hiatal hernia"),
    "Lymphadenopathy": FindingCode("30746006", "SCT", "Lymphadenopathy"),
    "Emphysema": FindingCode("87433001", "SCT", "Pulmonary emphysema"),
    "Atelectasis": FindingCode("46621007", "SCT", "Atelectasis"),
    "Lung nodule": FindingCode("27925004", "SCT", "Nodule"),
    "Lung opacity": FindingCode("112001", "DCM", "Opacity"),
    "Pleural effusion": FindingCode("60046008", "SCT", "Pleural effusion"),
    "Mosaic attenuation pattern": FindingCode("112130", "DCM", "Mosaic pattern"),
    "Consolidation": FindingCode("95436008", "SCT", "Lung consolidation"),
    "Bronchiectasis": FindingCode("12295008", "SCT", "Bronchiectasis"),
    "Interlobular septal thickening": FindingCode("112114", "DCM", "Septal line(s)"),
}
CODES = {
    label: _KNOWN.get(label, FindingCode(f"FINDING{number:02}", PRIVATE, label))
    for number, label in enumerate(LABELS, start=1)
}
