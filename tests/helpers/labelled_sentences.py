"""Sentences that state a label alone, in plain words and in synonyms."""

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report


# One plain sentence a label, in the official order.
PLAIN = [
    "A central venous catheter is observed in the superior vena cava.",
    "Calcified plaques are observed in the wall of the thoracic aorta.",
    "Heart size is increased.",
    "There is minimal pericardial effusion.",
    "There are calcific plaques in the coronary arteries.",
    "A sliding type hiatal hernia was observed.",
    "Enlarged lymph nodes are observed in the mediastinum.",
    "Emphysematous changes are present on both sides.",
    "Linear atelectasis is observed in the lingula.",
    "A 5 mm nodule is observed in the right lung upper lobe.",
    "Ground-glass opacities are observed in both lungs.",
    "Sequelae changes are present at both apices.",
    "There is bilateral pleural effusion.",
    "A mosaic attenuation pattern is observed in both lungs.",
    "Peribronchial thickening is observed.",
    "An area of consolidation is observed in the left lower lobe.",
    "Mild central bronchiectasis is present on both sides.",
    "Interlobular septal thickening is observed in the lower lobes.",
]


# Other words for each label, as radiologists write them.
SYNONYMS = {
    "Medical material": [
        "A port-a-cath is in place.",
        "The tip of the chemoport lies in the right atrium.",
        "A pigtail catheter is seen in the right pleural space.",
        "Coronary stents are noted.",
        "Sternotomy wires are present.",
        "An ICD with its leads is seen.",
        "A tracheostomy cannula is observed.",
        "An IVC filter is present.",
        "Surgical clips are seen in the left axilla.",
        "An endotracheal tube ends above the carina.",
        "There is posterior fixation material in the thoracic spine.",
        "Breast implants are seen on both sides.",
        "The T12 vertebra was treated by vertebroplasty.",
    ],
    "Arterial wall calcification": [
        "Atherosclerotic changes of the aortic arch.",
        "Wall calcifications are seen in the abdominal aorta.",
        "Mural calcification of the descending aorta is noted.",
        "Arteriosclerotic plaques are seen in the aorta and its branches.",
    ],
    "Cardiomegaly": [
        "Cardiomegaly.",
        "The heart is enlarged.",
        "The cardiothoracic index is increased.",
        "The cardiac silhouette is enlarged.",
        "There is enlargement of the heart.",
        "The cardiothoracic ratio exceeds 0.5.",
    ],
    "Pericardial effusion": [
        "Fluid is seen in the pericardial space.",
        "Hemopericardium is present.",
        "A pericardial effusion of 8 mm is seen.",
    ],
    "Coronary artery wall calcification": [
        "Dense calcifications are seen along the LAD.",
        "Calcified plaques of the RCA and LCX.",
        "Coronary atherosclerosis is noted.",
        "Coronary artery calcium is heavy.",
    ],
    "Hiatal hernia": [
        "Hiatus hernia.",
        "A sliding hernia is noted.",
        "A paraesophageal hernia is seen.",
        "The gastric fundus is herniated into the thorax.",
        "Part of the stomach herniates through the diaphragm.",
    ],
    "Lymphadenopathy": [
        "Mediastinal lymphadenopathy.",
        "Hilar LAP is seen on both sides.",
        "Enlarged subcarinal lymph nodes measure 14 mm.",
        "Axillary adenopathy is noted.",
        "Paratracheal lymph-nodes are seen.",
    ],
    "Emphysema": [
        "Paraseptal emphysema.",
        "Bullae are seen at the apices.",
        "A bulla of 3 cm is present.",
        "Small apical blebs are noted.",
        "Bullous changes are present.",
    ],
    "Atelectasis": [
        "Plate-like atelectasis at the bases.",
        "Atelectatic bands are seen in the lingula.",
        "There is subsegmental collapse in the right lower lobe.",
        "The left lower lobe is collapsed.",
    ],
    "Lung nodule": [
        "Millimetric nodules are scattered in both lungs.",
        "A subsolid nodule is seen in the right apex.",
        "Micronodules are observed in the upper lobes.",
        "A nodular lesion of 9 mm in the left lower lobe.",
        "Centrilobular nodules are seen.",
    ],
    "Lung opacity": [
        "GGO in the right upper lobe.",
        "Groundglass areas in both lungs.",
        "Ground-glass density in the lingula.",
        "Ground glass attenuation is seen in both lungs.",
        "Patchy opacification of the left lung.",
        "Frosted glass densities are present.",
        "Density increases in the lower lobe of the left lung.",
    ],
    "Pulmonary fibrotic sequela": [
        "Fibrotic bands at both apices of the lungs.",
        "Scarring in the right upper lobe.",
        "Pleuroparenchymal sequelae.",
        "Parenchymal bands are seen in the left lung.",
    ],
    "Pleural effusion": [
        "Bilateral pleural fluid is seen.",
        "Hydropneumothorax on the right.",
        "Left-sided hemothorax.",
        "Empyema is present.",
        "Effusion is seen in both hemithoraces.",
        "Pleural liquid of 2 cm on the left.",
    ],
    "Mosaic attenuation pattern": [
        "Mosaic perfusion.",
        "A mosaic pattern of attenuation is noted.",
    ],
    "Peribronchial thickening": [
        "Peribronchial cuffing is seen.",
        "Thickening of the peribronchial sheaths.",
        "Peribronchovascular thickening in the lower lobes.",
    ],
    "Consolidation": [
        "Consolidative changes in the left lower lobe.",
        "Lobar consolidation with air bronchograms.",
        "The right lower lobe is consolidated.",
    ],
    "Bronchiectasis": [
        "Traction bronchiectasis.",
        "Bronchiolectasis is noted.",
        "Tubular ectasia of the lower lobe bronchi.",
        "There is bronchial dilatation in the middle lobe.",
        "Bronchiectatic changes are seen.",
    ],
    "Interlobular septal thickening": [
        "Kerley B lines are seen.",
        "Thickened interlobular septa.",
        "Smooth septal thickening at the lung bases.",
        "Interlobular septae are thickened.",
    ],
}


def stated(text: str) -> set[str]:
    return {label for label, value in zip(LABELS, label_report(text), strict=True) if value}
