"""Reports in the style of CT-RATE: a fixed order of regions, sentences that most reports share, and an impression."""

import zlib

from ct_rate_pairs.reports.labels import LABELS

from .findings import Finding


NOT_GIVEN = "Not given."
NOT_GIVEN_SHARE = 0.03
READERS = 5  # radiologists who dictate the reports; for each sentence, one of them prefers the second wording

# Sentences for a region without findings: the common wording, then the other wording.
AIRWAYS = (
    "Trachea and both main bronchi are open.",
    "No occlusive pathology was observed in the trachea and both main bronchi.",
)
VESSELS = (
    "Mediastinal main vascular structures are normal.",
    "Calibration of mediastinal major vascular structures is natural.",
)
HEART = ("Heart contour and size are normal.", "The size and contour of the heart are natural.")
AORTA = ("Thoracic aorta diameter is normal.", "Calibration of the thoracic aorta is natural.")
PERICARDIUM = (
    "Pericardial effusion or thickening was not observed.",
    "No pericardial effusion was detected.",
)
OESOPHAGUS = (
    "Thoracic esophagus calibration was normal and no significant wall thickening was detected.",
    "No pathological wall thickening was observed in the thoracic esophagus.",
)
NODES = (
    "No enlarged lymph nodes were detected in prevascular, paratracheal, subcarinal or bilateral hilar areas.",
    "No lymph node was observed in the mediastinum in pathological size and appearance.",
)
CLEAR_LUNG = (
    "When examined in the lung parenchyma window, aeration of both lung parenchyma is normal and no nodular or "
    "infiltrative lesion is detected.",
    "In the examination of both lung parenchyma, no mass, nodule or infiltration was detected.",
)
LUNG = (
    "When examined in the lung parenchyma window, no mass lesion was detected.",
    "In the examination of both lung parenchyma, no mass was detected.",
)
PLEURA = ("Pleural effusion or thickening was not detected.", "No pleural effusion was observed.")
ABDOMEN = (
    "Upper abdominal organs included in the sections are normal.",
    "No pathology was observed in the upper abdominal sections.",
)
BONES = (
    "Bone structures are natural and vertebral corpus heights are preserved.",
    "No lytic or destructive lesion was detected in the bones.",
)
CLEAR_IMPRESSION = (
    "Thorax CT examination within normal limits.",
    "No pathology was detected in the thorax CT examination.",
)

# Sentences that state a finding, by label. {where} is a place such as "the right lung upper lobe"; {size} is in mm, or
# in percent for cardiomegaly.
POSITIVE = {
    "Medical material": ("A {detail} is observed{side}.", "There is a {detail}{side}."),
    "Cardiomegaly": (
        "Heart size is increased and the cardiothoracic ratio is {size} percent.",
        "Cardiomegaly is observed with a cardiothoracic ratio of {size} percent.",
    ),
    "Arterial wall calcification": (
        "Calcific plaques are observed in the aortic wall, more prominent in the {detail}.",
        "There are calcific atheroma plaques in the thoracic aorta, most in the {detail}.",
    ),
    "Coronary artery wall calcification": (
        "Calcific plaques are observed in the coronary arteries at the level of the {detail}.",
        "There are calcific atheroma plaques in the coronary arteries, most in the {detail}.",
    ),
    "Pericardial effusion": (
        "Pericardial effusion measuring {size} mm in its thickest part is observed.",
        "There is a pericardial effusion reaching {size} mm in thickness.",
    ),
    "Hiatal hernia": (
        "Hiatal hernia measuring {size} mm is observed at the lower end of the esophagus.",
        "There is a sliding type hiatal hernia of {size} mm.",
    ),
    "Lymphadenopathy": (
        "Enlarged lymph nodes are observed in the {detail} areas and the largest measures {size} mm.",
        "There are lymphadenopathies up to {size} mm in the {detail} areas.",
    ),
    "Emphysema": ("Emphysematous changes are observed in {where}.", "There is emphysema in {where}."),
    "Mosaic attenuation pattern": (
        "Mosaic attenuation pattern is observed in both lungs.",
        "There is a mosaic attenuation pattern in both lung parenchyma.",
    ),
    "Lung opacity": (
        "Ground glass opacity reaching {size} mm in diameter is observed in {where}.",
        "There are ground glass density increases up to {size} mm in {where}.",
    ),
    "Interlobular septal thickening": (
        "Interlobular septal thickenings are observed in {where}.",
        "There are thickenings of the interlobular septa in {where}.",
    ),
    "Pulmonary fibrotic sequela": (
        "Fibrotic sequelae changes are observed in {where}.",
        "There are pleuroparenchymal sequelae bands in {where}.",
    ),
    "Peribronchial thickening": (
        "Peribronchial thickening is observed in {where}.",
        "There are increases in peribronchial wall thickness in {where}.",
    ),
    "Consolidation": (
        "Consolidation with air bronchograms measuring {size} mm is observed in {where}.",
        "There is a consolidation area of {size} mm with air bronchograms in {where}.",
    ),
    "Bronchiectasis": ("Bronchiectasis is observed in {where}.", "There are bronchiectatic changes in {where}."),
    "Atelectasis": ("Atelectasis is observed in {where}.", "There are linear atelectatic changes in {where}."),
    "Lung nodule": (
        "A nodule measuring {size} mm is observed in {where}.",
        "There is a nodule of {size} mm in {where}.",
    ),
    "Pleural effusion": (
        "Pleural effusion measuring {size} mm in its thickest part is observed {pleura}.",
        "There is a pleural effusion reaching {size} mm in thickness {pleura}.",
    ),
}
SEVERAL_NODULES = (
    "Nodules are observed in {where} and the largest measures {size} mm.",
    "There are several nodules up to {size} mm in {where}.",
)
IMPRESSIONS = {
    "Medical material": "{Detail}{side}.",
    "Cardiomegaly": "Cardiomegaly.",
    "Arterial wall calcification": "Calcific plaques in the aortic wall.",
    "Coronary artery wall calcification": "Calcific plaques in the coronary arteries.",
    "Pericardial effusion": "Pericardial effusion.",
    "Hiatal hernia": "Hiatal hernia.",
    "Lymphadenopathy": "Mediastinal lymphadenopathy.",
    "Emphysema": "Emphysema.",
    "Mosaic attenuation pattern": "Mosaic attenuation pattern.",
    "Lung opacity": "Ground glass opacity.",
    "Interlobular septal thickening": "Interlobular septal thickening.",
    "Pulmonary fibrotic sequela": "Fibrotic sequelae changes.",
    "Peribronchial thickening": "Peribronchial thickening.",
    "Consolidation": "Consolidation.",
    "Bronchiectasis": "Bronchiectasis.",
    "Atelectasis": "Atelectasis.",
    "Lung nodule": "Nodule.",
    "Pleural effusion": "Pleural effusion.",
}
LUNG_LABELS = (
    *("Lung nodule", "Lung opacity", "Consolidation", "Atelectasis", "Emphysema", "Bronchiectasis"),
    *("Peribronchial thickening", "Interlobular septal thickening", "Pulmonary fibrotic sequela"),
    "Mosaic attenuation pattern",
)
CLINICAL_INFORMATION = (
    *("Not given.", "Cough.", "Shortness of breath.", "Pneumonia?", "Chest pain.", "Control."),
    *("Nodule follow-up.", "Fever and cough.", "Malignancy screening."),
)
TECHNIQUE = "Images were taken in the axial plane with a section thickness of {thickness} mm without contrast."


def where(finding: Finding) -> str:
    """Side and lobe of a finding in words, such as "the right lung upper lobe" or "the lower lobes of both lungs"."""
    if finding.side == "both":
        return f"the {finding.lobe} lobes of both lungs" if finding.lobe else "both lungs"
    return f"the {finding.side} lung {finding.lobe} lobe" if finding.lobe else f"the {finding.side} lung"


def write_report(rng, findings: dict[str, Finding]) -> tuple[str, str]:
    """
    Write the report of one scan.

    Args:
        rng (`np.random.Generator`):
            The report's own random stream. It chooses the radiologist, and so the wordings.
        findings (`dict[str, Finding]`):
            The findings of the scan by label, with their sides, lobes and sizes.

    Returns:
        `tuple[str, str]`: the findings section and the impression. A few impressions are `Not given.`.
    """

    reader = int(rng.integers(READERS))

    def say(wordings) -> str:
        # Radiologists have habits: a hash of the sentence decides which of them uses its second wording.
        return wordings[zlib.crc32(wordings[0].encode()) % READERS == reader]

    def state(label) -> str:
        finding = findings[label]
        several = label == "Lung nodule" and finding.detail == "several"
        return fill(say(SEVERAL_NODULES if several else POSITIVE[label]), finding)

    def state_or(label, negative) -> list[str]:
        return [state(label) if label in findings else say(negative)]

    parts = [say(AIRWAYS), say(VESSELS)]
    parts += state_or("Cardiomegaly", HEART)
    parts += [say(AORTA)]
    parts += [
        state(label)
        for label in ("Arterial wall calcification", "Coronary artery wall calcification", "Medical material")
        if label in findings
    ]
    parts += state_or("Pericardial effusion", PERICARDIUM)
    parts += state_or("Hiatal hernia", OESOPHAGUS)
    parts += state_or("Lymphadenopathy", NODES)
    in_lung = [label for label in LUNG_LABELS if label in findings]
    parts += [say(LUNG if in_lung else CLEAR_LUNG), *(state(label) for label in in_lung)]
    parts += state_or("Pleural effusion", PLEURA)
    parts += [say(ABDOMEN), say(BONES)]

    impression = " ".join(fill(IMPRESSIONS[label], findings[label]) for label in LABELS if label in findings)
    if not impression:
        impression = say(CLEAR_IMPRESSION)
    if rng.random() < NOT_GIVEN_SHARE:
        impression = NOT_GIVEN
    return " ".join(parts), impression


def fill(wording: str, finding: Finding) -> str:
    """A sentence with the finding's place, size and details filled in."""
    return wording.format(
        where=where(finding),
        size=finding.size,
        detail=finding.detail,
        Detail=finding.detail.capitalize(),
        side=f" on the {finding.side} chest wall" if finding.side in ("right", "left") else "",
        pleura="on both sides" if finding.side == "both" else f"on the {finding.side} side",
    )
