"""
The Chinese words of the 18 labels, and of the organs that their findings lie in.

A finding such as 积液 (fluid) is a label only in its organ. In Chinese the organ stands before the finding, so the
organs of a finding are those named last before it. This file is also shipped beside the `evaluate` scripts.
"""

from typing import NamedTuple


class ChineseTerm(NamedTuple):
    """
    One way to state a label in Chinese.

    Args:
        pattern (`str`):
            Regular expression of the finding.
        organs (`str`, *optional*, defaults to `""`):
            Names in `ORGANS`, separated by spaces, one of which the finding must lie in; `none` for a finding without
            an organ before it. By default the organ does not matter.
        unless (`str`, *optional*, defaults to `""`):
            Words that must not stand in the same sentence.
    """

    pattern: str
    organs: str = ""
    unless: str = ""


# The first pattern that matches at a place names the organ, so longer names stand before the names that they hold.
ORGANS: dict[str, str] = {
    "coronary": r"[左右]?冠(?:状动脉|脉)|[左右]冠|前降支|回旋支|左主干|(?<![A-Za-z])(?:LAD|LCX|RCA)(?![A-Za-z])",
    "valve": r"主动脉瓣|二尖瓣|三尖瓣|瓣膜|瓣环|瓣叶",
    "other": (
        r"[脾肝肾]动脉|肠系膜[上下]?动脉|肺静脉|甲状腺|肾上腺|乳腺|乳房|肝|胆|脾|肾|胰|胃|腹(?!主动脉)|盆|皮下|皮肤|"
        r"胸壁|胸椎|胸骨|椎|肋(?!膈)|锁骨(?!下动脉)|肩胛|骨|关节|肌|食管|食道|肠|鼻窦|乳突"
    ),
    "artery": r"腹?主动脉弓?|(?:肺|颈总?|锁骨下|头臂|无名)动脉|头臂干|动脉(?!瓣|导管|粥|硬化)|大血管|(?<!气管)血管",
    "node": r"淋巴结",
    "pericardium": r"心包",
    "chamber": r"[左右](?:心[房室]?|房|室)|心[房室]",
    "heart": r"心影|心脏|心胸比[例值率]?|心(?=增大|脏|影)",
    "septum": r"小叶间隔",
    "around": r"(?:细?支?气管)周围(?:间质)?|支?气?管?血管束|支气管袖",
    "bronchus": r"细?支气管",
    "lung": (
        r"胸膜下|距[^，,]{0,6}?(?:胸膜|叶间裂)|[双两左右]肺|肺(?![气大静]|不张|门|动脉)|[上中下]叶|舌[段叶]|"
        r"[尖后前背]段|叶间裂?旁|[斜水平]裂旁"
    ),
    "pleura": r"胸膜腔?|胸腔|叶间裂?|斜裂|水平裂|肋膈角|胸(?=内|部)",
    "mediastinum": r"纵隔|肺门|气管|隆突",
}

_CALCIUM = r"钙化|钙斑|钙质|粥样硬化|硬化斑|动脉硬化"
_FLUID = r"积液|积血|积脓|液体密度|液性密度|渗出液|水样密度"

TERMS: dict[str, tuple[ChineseTerm, ...]] = {
    "Medical material": (
        ChineseTerm(
            r"(?<!胸)(?<!动脉)(?<!胰)(?<!肝)(?<!胆)导管|置管|引流管|胃管|气管(?:插管|套管|切开)|造[瘘口]管|营养管|输液港|起搏器|"
            r"起搏电极|除颤器|支架|(?:人工|机械|生物|金属)瓣|瓣膜?(?:置换|成形)|人工(?:血管|关节|心脏)|弹簧圈|滤器|封堵[器伞]|假体|"
            r"内固定|钢[丝板针]|螺[钉丝]|吻合[钉器]|缝合?[线钉]|[银钛手术]夹|夹子|[植置]入物|硅胶|骨水泥|椎体成形|"
            r"金属(?:影|异物|密度|伪影|缝|固定|材料|物)|高密度金属|医疗(?:材料|器械|装置)|"
            r"(?<![A-Za-z])(?:PICC|CVC|ICD|ECMO|IABP|LVAD|VAD|TAVI|TAVR|VP)(?![A-Za-z])"
        ),
    ),
    "Arterial wall calcification": (
        ChineseTerm(_CALCIUM, "artery"),
        ChineseTerm(r"(?<!冠状)(?<![脾肝肾])动脉(?:粥样)?硬化", "artery none lung mediastinum heart pleura"),
    ),
    "Cardiomegaly": (
        ChineseTerm(r"增大|扩大|肥大|增宽|增高|偏大|大于|超过|[>＞]\s*0?\.5", "heart"),
        ChineseTerm(r"巨大心|普大型?心|(?:全|大)心(?:增大|扩大)"),
    ),
    "Pericardial effusion": (
        ChineseTerm(_FLUID, "pericardium"),
        ChineseTerm(r"心包填塞|心脏压塞|心包压塞"),
    ),
    "Coronary artery wall calcification": (ChineseTerm(_CALCIUM, "coronary"),),
    "Hiatal hernia": (
        ChineseTerm(r"裂孔疝|滑动型?疝|滑疝|胃[^，,]{0,8}疝入"),
        ChineseTerm(r"膈疝", unless=r"胸骨旁|后外侧|创伤|Bochdalek|Morgagni"),
    ),
    # As in English, each lymph node counts that the report does not call normal.
    "Lymphadenopathy": (
        ChineseTerm(
            r"(?<!肺内)(?<!叶间)淋巴结(?!清扫|引流|[区站])",
            unless=r"淋巴结[^。]{0,40}?(?:不大|未见(?:明显|明确|确切|异常|病理性)*(?:肿大|增大|异常)|"
            r"无(?:明显|明确|异常)*(?:肿大|增大|异常)|未(?:明显)?[肿增]大|正常)|"
            r"(?:腹腔|腹膜后|肠系膜|腹股沟|盆腔|肝门)[^，,。]{0,8}淋巴结",
        ),
    ),
    "Emphysema": (ChineseTerm(r"气肿|肺?大[泡疱]"),),
    "Atelectasis": (ChineseTerm(r"不张|膨胀不[全良]|[萎塌]陷", "none lung pleura bronchus mediastinum around"),),
    "Lung nodule": (
        ChineseTerm(
            r"(?<!淋巴)结节(?!病|性?(?:甲状腺|肝|硬化))|(?<![A-Za-z])[pm]?GGNs?(?![A-Za-z])",
            "none lung bronchus around",
        ),
    ),
    # As in English, a ground-glass nodule is a nodule and not an opacity.
    "Lung opacity": (
        ChineseTerm(r"[磨毛]玻璃(?!(?:样|状|密度|影)*(?:微|小)?结节)|(?<![A-Za-z])p?GG[Oo](?!结节)"),
        ChineseTerm(
            r"(?<!结节状)(?<!结节样)(?<!条索状)(?<!索条状)(?<!条状)(?<!钙化)密度增[高浓]|斑片|片[状絮](?!实变)[^，,、]{0,4}影|"
            r"(?<!条)(?<!斑)片影|云絮|絮状|模糊影|渗出(?!液)|混浊影?|致密影",
            "none lung bronchus around",
        ),
    ),
    "Pulmonary fibrotic sequela": (
        ChineseTerm(
            r"纤维(?!腺|瘤|支气管镜|素|囊|母|脂|环)|[索条]条|条索|瘢痕|疤痕|后遗|纤维化",
            "none lung pleura bronchus around mediastinum septum",
        ),
        ChineseTerm(
            r"陈旧性?(?:[^，,、骨折]{0,6}?)(?:病变|病灶|灶|改变|炎症|结核)",
            "none lung pleura bronchus around mediastinum",
        ),
    ),
    "Pleural effusion": (
        ChineseTerm(_FLUID, "pleura none"),
        ChineseTerm(r"积液", "lung"),
        ChineseTerm(r"胸水|脓胸|血胸|[液水]气胸|乳糜胸"),
    ),
    "Mosaic attenuation pattern": (ChineseTerm(r"马赛克"),),
    "Peribronchial thickening": (ChineseTerm(r"增[厚粗]", "around"), ChineseTerm(r"袖口征|袖套征")),
    # As in English, "ground glass consolidation" is an opacity.
    "Consolidation": (ChineseTerm(r"(?<!玻璃)(?<!玻璃样)实变"),),
    "Bronchiectasis": (ChineseTerm(r"扩张(?!剂)", "bronchus"), ChineseTerm(r"支扩|支气管(?:呈)?柱状扩张")),
    "Interlobular septal thickening": (
        ChineseTerm(r"增[厚粗]|增宽", "septum"),
        ChineseTerm(r"(?i:kerley|克氏)\s?[A-Ca-c]?\s?线"),
    ),
}
