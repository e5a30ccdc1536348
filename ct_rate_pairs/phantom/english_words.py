"""The words of the phantom's English reports."""

NOT_GIVEN = "Not given."

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
CLINICAL_INFORMATION = (
    *("Not given.", "Cough.", "Shortness of breath.", "Pneumonia?", "Chest pain.", "Control."),
    *("Nodule follow-up.", "Fever and cough.", "Malignancy screening."),
)
TECHNIQUE = "Images were taken in the axial plane with a section thickness of {thickness} mm without contrast."
