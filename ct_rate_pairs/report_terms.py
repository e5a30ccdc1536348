"""The term table of the rule labeler: which words of a report state which of the 18 labels."""

from typing import NamedTuple


class Term(NamedTuple):
    r"""
    One way a report states a label. All patterns are regular expressions over lower-case text with single spaces.

    Args:
        pattern (`str`):
            The words that state the finding. They count where no negation reaches them.
        also (`str`, *optional*, defaults to `""`):
            Words that must stand in the same sentence, such as the organ: `calcif` says nothing of the coronary
            arteries until `coronar` is there.
        unless (`str`, *optional*, defaults to `""`):
            Words that must not stand in the same clause, such as another organ: a thyroid nodule is no lung nodule.
    """

    pattern: str
    also: str = ""
    unless: str = ""


ARTERY = (
    r"aort(?!ic valve|opulm|o-?pulm)|aorta|\barch\b|iliac|carotid|supra-?aort|arterial|"
    r"(?<!coronary )(?<!descending )(?:vascular|vessel|arter(?:y|ies)\b)"
)
# Organs whose nodules are no lung nodules.
OTHER_ORGAN = (
    r"thyroid|adrenal|breast|mammary|liver|hepat|spleen|splenic|kidney|renal|pancrea|\bskin\b|cutaneous|oment|isthmus|"
    r"goit|peritone|mesenter|muscle|axilla|vertebra|\bbones?\b|\bribs?\b|abdom|retroareolar|gallbladder|stomach|gastric|"
    r"trache|\bpleural nodul|in the pleura|pericard"
)
LUNG = r"lung|lobe|segment|parenchym|pulmon|apic|apex|lingul|basal|subpleural|hemithora"

TERMS: dict[str, tuple[Term, ...]] = {
    "Medical material": (
        Term(r"catheter|pacemaker|electrode|\bicd\b|nasogastric|cannula|\btubes?\b|prosthe|sternotomy|valve replace"),
        Term(
            r"\bport\b|metal|\bclips?\b|\bscrews?\b|\bgraft|fixator|silicone|\bcoils?\b|\bdrains?\b|\bwires?\b|\bpeg\b"
        ),
        Term(r"\bsutures?\b|surgical material|operation material|stabiliz|\bdevices?\b|\bstent(?:s|ed|ing)?\b"),
    ),
    "Arterial wall calcification": (
        Term(r"atherom|atheroscl", also=ARTERY),
        Term(r"calcif", also=ARTERY, unless=r"lymph|nodul|pleura|pericard|valve|thyroid|kidney|trache|liver|annul"),
    ),
    "Cardiomegaly": (
        Term(r"cardiomegal|enlarged heart|(?:large|larger|big) heart|enlargement of the heart"),
        Term(
            r"\bheart\b[^,]{0,45}(?:increas|large|bigger|upper limit)|increase\w* (?:in )?(?:the )?(?:heart|cardiac)"
        ),
        Term(r"(?:cardio-?thoracic|\bctr\b|\bcti\b)[^,]{0,40}(?:increas|high|above|favor of the heart)"),
    ),
    "Pericardial effusion": (Term(r"effusion|fluid", also=r"pericardi"), Term(r"hydropericard|hemopericard")),
    "Coronary artery wall calcification": (
        Term(r"calcif|atherom|atheroscl|sclerotic plaque", also=r"coronar|\blad\b|left anterior descending"),
    ),
    "Hiatal hernia": (
        Term(r"hiat\w* herni|sliding|siliding"),
        Term(
            r"herni", unless=r"inguinal|umbilical|incision|bochdalek|dis[ck]|abdominal wall|hernia sac|morgagni|fatty"
        ),
    ),
    "Lymphadenopathy": (Term(r"(?<!intrapulmonary )(?<!subpleural )lymph ?-?nod|\blaps?\b|lymphaden|adenopath"),),
    "Emphysema": (Term(r"emphysem|\bbull(?:a|ae|as|ous)\b|\bblebs?\b"),),
    "Atelectasis": (
        Term(r"(?<!fibro)(?<!fibro-)(?<!fibro )atelec"),
        Term(r"\bcollaps", also=LUNG, unless=r"vertebra|trachea"),
    ),
    "Lung nodule": (
        Term(
            r"(?<!centriacinar )(?<!centrilobular )nodules?\b|(?<!reticulo)nodular (?:lesion|formation|densities)",
            unless=rf"{OTHER_ORGAN}|hypodense",
        ),
    ),
    "Lung opacity": (
        Term(r"(?:ground|frosted)[- ]?glass(?! (?:density )?nodule)|crazy|(?<!nodular )opacit"),
        Term(
            r"densit(?:y|ies) increas|increas\w* (?:in |of )?(?:\w+ )?densit",
            also=LUNG,
            unless=rf"{OTHER_ORGAN}|sequel|fibro|consol|pleuro|pleural par|fatty",
        ),
    ),
    "Pulmonary fibrotic sequela": (
        Term(r"sequel|fibro(?!id|aden)|pleuro-?parenchymal", unless=r"\bribs?\b|fracture|kidney|liver|spleen|lymph"),
        Term(r"\bbands?\b|\bscar", also=LUNG, unless=r"atelec"),
    ),
    "Pleural effusion": (
        Term(r"pleur[^,.]*(?:effusion|fluid)|(?:effusion|fluid)[^,.]*pleur|hydro(?:pneumo)?thorax|hemothorax|empyema"),
        Term(r"effusion", unless=r"pericardi|joint|peri(?:renal|neph|hepat|splen)|kidney|spleen|abdom|liver|pelvi"),
    ),
    "Mosaic attenuation pattern": (Term(r"mosaic"),),
    "Peribronchial thickening": (
        Term(r"peribronch\w*[^,.]{0,60}(?:thick|cuff)|thick\w*[^,.]{0,40}peribronch|peribronch\w* sheath"),
    ),
    "Consolidation": (Term(r"(?<!glass )consolid"),),
    "Bronchiectasis": (Term(r"bronchiec|bronchioec|ectasia[^,.]{0,30}bronch|bronch\w*[^,.]{0,30}\bectas"),),
    "Interlobular septal thickening": (
        Term(r"interlob\w*[^,.]{0,20}\bsept"),
        Term(r"\b(?:inter)?sept(?:al|a|um)\b[^,.]{0,30}thick|thick\w*[^,.]{0,30}\bsept(?:al|a|um)\b", also=LUNG),
    ),
}

# A sentence that states a label holds one of these strings, parted by spaces. They spare most sentences the regular
# expressions above.
STEMS: dict[str, str] = {
    "Medical material": (
        "cathet pacemaker electrode icd nasogastric cannula tube prosthe sternotomy valve port metal clip screw graft "
        "fixator silicone coil drain wire peg sutur material stabiliz device stent"
    ),
    "Arterial wall calcification": "calcif athero",
    "Cardiomegaly": "cardio heart cardiac ctr cti",
    "Pericardial effusion": "pericard",
    "Coronary artery wall calcification": "coronar lad descending",
    "Hiatal hernia": "herni sliding siliding",
    "Lymphadenopathy": "lymph lap adenopath",
    "Emphysema": "emphys bull bleb",
    "Atelectasis": "atelec collaps",
    "Lung nodule": "nodul",
    "Lung opacity": "glass crazy opacit densit",
    "Pulmonary fibrotic sequela": "sequel fibro parenchymal band scar",
    "Pleural effusion": "effusion fluid thorax empyema",
    "Mosaic attenuation pattern": "mosaic",
    "Peribronchial thickening": "peribronch",
    "Consolidation": "consolid",
    "Bronchiectasis": "bronchiec bronchioec ectas",
    "Interlobular septal thickening": "sept",
}
