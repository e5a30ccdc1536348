"""The term table of the rule labeler: which words of a report state which of the 18 labels."""

from typing import NamedTuple


class Term(NamedTuple):
    r"""
    One way a report states a label. All patterns are regular expressions over lower-case text with single spaces.

    Args:
        pattern (`str`):
            The words that state the finding. They count if no negation reaches them. If the pattern begins with the
            organ, a group marks the finding itself, so that a negation between the two counts, as in "pleural
            thickening without effusion".
        also (`str`, *optional*, defaults to `""`):
            Words that must stand in the same clause, such as the organ: `calcif` states a calcification of the
            coronary arteries only together with `coronar`.
        unless (`str`, *optional*, defaults to `""`):
            Words that must not stand in the same clause, such as another organ: a thyroid nodule is not a lung nodule.
    """

    pattern: str
    also: str = ""
    unless: str = ""


ARTERY = (
    r"aort(?!ic valve|opulm|o-?pulm)|aorta|\barch\b|iliac|carotid|supra-?aort|"
    r"(?<!coronary )(?<!descending )(?<!circumflex )(?<!splenic )(?<!hepatic )(?<!renal )(?<!mesenteric )"
    # "Three-vessel coronary calcification", "in all three vessels"
    r"(?<!one[- ])(?<!two[- ])(?<!three[- ])(?<!single[- ])(?<!double[- ])(?<!triple[- ])(?<!multi)(?<!multi[- ])"
    r"(?<!tri[- ])(?<!four[- ])(?<![1-4][- ])"
    r"(?:vascular|vessel|arter(?:y|ies|ial)\b)"
)
CORONARY = r"coronar|\blad\b|\blcx\b|\brca\b|\blmca\b|circumflex|left anterior descending"
# Organs whose nodules are not lung nodules.
OTHER_ORGAN = (
    r"thyroid|adrenal|breast|mammary|liver|hepat|spleen|splenic|kidney|renal|pancrea|\bskin\b|cutaneous|oment|"
    r"isthmus|goit|peritone|mesenter|muscle|axilla|vertebra|\bbones?\b|\bribs?\b|abdom|retroareolar|gallbladder|"
    r"stomach|gastric|trache|\bpleural nodul|in the pleura|pericardi(?:um|al\b)"
)
# Lymph nodes of the abdomen, and lymph nodes that the report calls normal.
OTHER_NODE = (
    r"intra-?abdominal|mesenter|\bmeso\b|colic\b|inguinal|pelvic|"
    r"\b(?:no[nt]|un)[- ]?(?:appear |look |seem )?(?:\w+ly )?enlarged|"
    r"\bnone\b[^,]*\b(?:enlarged|patholog|exceed|larger|greater)|"
    r"nodes? (?:(?:is|are|appears?) )?(?:(?:of|in|within) )?(?:normal|unremarkable)"
)
LUNG = r"lung|lobe|segment|parenchym|pulmon|apic|apex|lingul|basal|subpleural|hemithora"

TERMS: dict[str, tuple[Term, ...]] = {
    "Medical material": (
        Term(
            r"catheter|chemoport|mediport|tracheostom|gastrostom|nasogastric|pacemaker|electrode|defibrillator|"
            r"pigtail|swan-?ganz|hickman|broviac|pleurx|assist device|balloon pump|stimulator|"
            r"loop recorder|hardware|\bpacers?\b|endobronchial valve|gastric band|coiled (?:\w+ )?aneurysm"
        ),
        # A line is a catheter only by its vessel, kind or tip: there are pleural lines, and "in line with".
        Term(
            r"\b(?:venous|subclavian|jugular|ijv?|femoral|brachiocephalic|central|dialysis|ha?emodialysis|infusion|"
            r"cvp?|tunnell?ed|indwelling)(?: \w+){0,2} lines?\b|\barterial lines?\b(?! of)|"
            r"\blines? (?:tip|terminat|(?:ends?|is|are) (?:in|at|in place)|and tubes|"
            r"(?:(?:is|are) )?(?:seen |noted |coiled )?(?:in|within) (?:the )?(?:\w+ ){0,2}(?:vein|vena|svc|atrium))|"
            # The tip of a device that is not named, as in "right IJ with its tip in the SVC"
            r"\btip (?:(?:is|lies|ends|terminates|projects) )?(?:in|at|within|over) (?:the )?(?:\w+ ){0,2}"
            r"(?:svc|cavo-?atrial|atrium|vena cava)"
        ),
        Term(
            r"(?:mechanical|artificial|prosthetic|metallic|biological) (?:\w+ )?valve|"
            r"valve (?:\w+ )?(?:replace|prosthe)"
        ),
        Term(
            r"\b(?:ports?|(?:port-?a-?|perma?-?|vas-?)cath\w*|picc|cannulas?|cannulae|tubes?|peg|a?icd|devices?|"
            r"stent(?:s|ed|ing)?|lvads?|iabp|ett|cv[cl]s?|rods?|(?:vp|ventriculo-?peritoneal) shunt|ta(?:vr|vi))\b"
        ),
        Term(
            r"\b(?:coils?|(?:endo)?grafts?|drains?(?! (?:in)?to\b| the\b| directly| secretion| normally| freely)|"
            r"clips?|screws?|wires?|sutures?|stapler?s?|"
            r"(?:cava|caval|ivc) filter|(?:pacing|pacer|epicardial|icd|atrial|ventricular) leads?|"
            r"leads? (?:fracture|migration|displacement|disloca\w+|dislodg\w+|perforation|tips?|fragments?|"
            r"remains?|persists?|is|are|in (?:place|situ)))\b|\b(?:abandoned|retained|residual|remaining) leads?\b"
        ),
        Term(r"prosthe|arthroplast|vertebroplast|silicone|metal|fixator|sternotomy"),
        # "Implant" alone is not enough: a tumour has implants on the peritoneum.
        Term(
            r"(?:surgical|fixation|stabili[sz]ation) (?:suture )?material|(?:breast|mammary|dental|cochlear) implant"
        ),
    ),
    "Arterial wall calcification": (
        Term(r"atherom|atheroscl|arterioscl", also=ARTERY),
        Term(
            rf"(?<!un)(?<!non)(?<!non[- ])calcif(?:(?! (?:without|no) (?:\w+ )?(?:{ARTERY}))[^,]){{0,250}}"
            rf"(?:{ARTERY})|"
            rf"(?:{ARTERY})(?:[^,]|, coronary){{0,250}}((?<!un)(?<!non)(?<!non[- ])calcif)",
            unless=r"lymph|valve|annul",
        ),
    ),
    "Cardiomegaly": (
        Term(r"cardiomegal|cardiac enlarge|(?:larger?|big) heart|enlarge\w* (?:of )?(?:the )?(?:heart|cardiac)"),
        Term(
            r"\b(?:heart|(?:cardiac|cardio-?mediastinal) (?:size|silhouette|shadow|contour)s?)\b[^,]{0,45}"
            r"(increas|large|bigger|above (?:the |normal)|exceed)"
        ),
        Term(r"increase\w* (?:in )?(?:the )?(?:heart|cardiac)"),
        Term(r"(?:cardio-?thoracic|\bctr\b|\bcti\b)[^,]{0,40}(increas|high|above|greater|exceed|favor of the heart)"),
    ),
    "Pericardial effusion": (
        Term(
            r"pericardi.*(effusion|fluid|liquid)|"
            r"(?:effusion|fluid|liquid)(?=.*pericardi(?!\w* (?:effusion|fluid|liquid)))",
            unless=r"physiologic",
        ),
        Term(r"(?:hydro|hemo|haemo)pericard|tamponade"),
    ),
    "Coronary artery wall calcification": (
        Term(
            r"calcif|calcium|atherom|atheroscl|sclerotic plaque",
            also=CORONARY,
        ),
        Term(r"\bcac\b"),
        Term(r"\b(?:one|two|three|four|single|double|triple|multi|[1-4])[- ]?vessel\b", also=r"calcif|calcium|athero"),
    ),
    "Hiatal hernia": (
        Term(r"hiat\w* herni|sliding"),
        # A hernia of the diaphragm counts if it goes through the hiatus: Bochdalek's and Morgagni's hernias do not.
        Term(
            r"(?:diaphragm|esophag|gastric|stomach)\w{0,15}[^,]{0,40}(herni)|"
            r"herni\w{0,15}[^,]{0,40}(?:stomach|gastric|fundus|esophag|hiat)",
            unless=r"bochdalek|morgagni|fatty",
        ),
    ),
    "Lymphadenopathy": (
        # A lymph node inside the lung is a small normal nodule, and "lymph node stations" is a place.
        Term(
            r"(?<!intrapulmonary )(?<!parenchymal )(?<!subpleural )lymph ?-?nod(?!\w* station)|"
            r"\blaps?\b|lymphaden|adenopath|adenomegal",
            unless=OTHER_NODE,
        ),
        Term(
            r"(?:mediastinal|hilar|axillary|subcarinal|paratracheal|prevascular|supraclavicular|mammary|enlarged) "
            r"nodes?\b",
            unless=OTHER_NODE,
        ),
    ),
    "Emphysema": (Term(r"emphysem|\bbull(?:a|as|ae|ous)\b|\bblebs?\b"),),
    "Atelectasis": (
        # "Fibroatelectatic" is CT-RATE's word for a scar.
        Term(r"(?<!fibro)(?<!fibro-)(?<!fibro )atelec"),
        Term(r"\bcollaps", also=LUNG, unless=r"vertebra|trache|fracture|corpus|\bveins?\b|vena|bladder"),
    ),
    "Lung nodule": (
        Term(r"(?:lung|pulmonary) (?:micro)?nodul"),
        Term(r"nodules?\b|(?<!reticulo)nodular (?:lesion|formation)", unless=rf"{OTHER_ORGAN}|hypodense"),
    ),
    "Lung opacity": (
        # In CT-RATE, a ground-glass nodule is a nodule and not an opacity.
        Term(r"(?:ground|frosted)[- ]?glass(?! (?:density )?nodule)|\bggos?\b|(?<!nodular )opaci[tf]"),
        Term(
            r"densit(?:y|ies) increas|increas\w* (?:in |of )?(?:\w+ )?densit",
            also=LUNG,
            unless=rf"{OTHER_ORGAN}|sequel|consol|\bpleur(?:o|a|al)[- ]?parenchym|fatty",
        ),
        Term(r"(?:linear (?:\w+ )?|consolidative |acinar |dependent )densit", also=LUNG, unless=OTHER_ORGAN),
    ),
    "Pulmonary fibrotic sequela": (
        Term(
            r"sequel|fibro(?!id|aden|gland|cyst|ma\b|mas\b|lip|musc)|\bpleur(?:o|a|al)[- ]?parenchym",
            unless=r"\bribs?\b|fracture|kidney|liver|spleen|lymph",
        ),
        Term(r"\bbands?\b", also=LUNG, unless=r"atelec"),
        Term(
            r"\bscar(?:s|red|ring)?\b",
            unless=rf"{OTHER_ORGAN}|myocard|cardiac|incision|surgical|operati|wound|chest wall|cortical",
        ),
    ),
    "Pleural effusion": (
        Term(r"pleur[^,.]{0,60}(effusion|fluid|liquid)|(?:effusion|fluid|liquid)(?=[^,.]{0,60}pleur)"),
        Term(r"(?:hydro|hemo|haemo|chylo|pyo)(?:pneumo)?thorax|empyema"),
        Term(
            r"effusion",
            unless=r"pericardi|joint|knee|shoulder|\bhip\b|peri(?:renal|neph|hepat|splen)|kidney|spleen|abdom|liver|"
            r"pelvi",
        ),
    ),
    "Mosaic attenuation pattern": (Term(r"mosaic"),),
    "Peribronchial thickening": (
        Term(r"peribronch\w{0,15}(?:(?! and )[^,.]){0,60}(thick|cuff)|peribronch\w{0,15} and (?:\w+ ){1,2}(thick)"),
        Term(r"thick\w{0,15}[^,.]{0,40}peribronch|peribronch\w{0,15} sheath"),
    ),
    # In CT-RATE, "ground glass consolidation" is an opacity and not a consolidation.
    "Consolidation": (Term(r"(?<!glass )consolid"),),
    "Bronchiectasis": (
        Term(r"bronchi\w{0,3}ect|\bectas[^,.]{0,30}bronch|bronch\w{0,15}[^,.]{0,30}\b(ectas)|ectatic bronch"),
        Term(r"bronchial dilat|dilat\w* (?:of (?:the )?)?bronchi\b|bronchi (?:is|are) (dilat)"),
    ),
    "Interlobular septal thickening": (
        Term(r"interlob\w{0,15}[^,.]{0,20}\bsept|kerley", unless=r"\b(?:no[nt]|un)[- ]?(?:\w+ly )?(?:thick|promin)"),
        Term(
            r"\b(?:inter)?sept(?:al|ae?|um)\b[^,.]{0,30}(thick)|thick\w{0,15}[^,.]{0,30}\bsept(?:al|ae?|um)\b",
            also=LUNG,
        ),
    ),
}

# Strings, separated by spaces; `$` is the end of a word. A sentence that states a label holds at least one of the
# label's strings, so most sentences need not be searched with the slower regular expressions above.
STEMS: dict[str, str] = {
    "Medical material": (
        "cath port picc cannula tube tracheos gastrostom peg pacemaker electrode defibrill icd device stent coil "
        "graft nasogastric prosthe arthroplast valve filter drain pigtail silicone metal clip screw fixator wire "
        "sutur sternotomy staple surgical fixation stabili implant vertebroplast swan-ganz swanganz hickman broviac "
        "pleurx assist lvad iabp ett$ cvc cvl pump stimulator recorder hardware rod$ rods$ lead$ leads$ "
        "pacer band aneurysm shunt tavr "
        "tavi line$ lines$ tip$"
    ),
    "Arterial wall calcification": "calcif athero arterioscl",
    "Cardiomegaly": "cardio heart cardiac ctr cti",
    "Pericardial effusion": "pericard tamponade",
    "Coronary artery wall calcification": "coronar cac lad lcx rca lmca circumflex descending vessel$",
    "Hiatal hernia": "herni sliding",
    "Lymphadenopathy": "lymph lap adenopath adenomegal node",
    "Emphysema": "emphys bull bleb",
    "Atelectasis": "atelec collaps",
    "Lung nodule": "nodul",
    "Lung opacity": "glass opaci densit ggo",
    "Pulmonary fibrotic sequela": "sequel fibro parenchym band scar",
    "Pleural effusion": "effusion fluid liquid thorax empyema",
    "Mosaic attenuation pattern": "mosaic",
    "Peribronchial thickening": "peribronch",
    "Consolidation": "consolid",
    "Bronchiectasis": "bronch",
    "Interlobular septal thickening": "sept kerley",
}
