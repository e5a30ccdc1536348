"""The Chinese rule labeler on own sentences: each label stated, denied, possible, and of an earlier scan."""

import pytest

from ct_rate_pairs.reports.chinese_rules import label_sentence
from ct_rate_pairs.reports.labels import LABELS


# Label -> sentences that state this label and no other. No sentence comes from a real report.
STATED = {
    "Medical material": (
        "右侧锁骨下静脉可见输液港导管影",
        "左侧胸壁见起搏器影，电极位于右心室",
        "气管插管术后，管端位于隆突上约4cm",
        "右侧胸腔可见引流管影",
        "胸骨后见钢丝影",
        "PICC 导管末端位于上腔静脉",
        "冠脉支架植入术后",
        "主动脉瓣机械瓣置换术后改变",
        "双侧乳腺假体",
        "胃管在位",
    ),
    "Arterial wall calcification": (
        "主动脉壁可见钙化",
        "主动脉弓壁多发钙化斑块",
        "主动脉粥样硬化",
        "主动脉走行正常，壁见钙化斑",
        "降主动脉管壁见条状钙化灶",
        "主动脉硬化",
    ),
    "Cardiomegaly": (
        "心影增大",
        "心脏体积增大",
        "心影轻度增大，以左心室为主",
        "心脏明显扩大",
        "心胸比增大，约0.58",
        "心胸比例>0.5",
        "全心增大",
    ),
    "Pericardial effusion": (
        "心包少量积液",
        "心包腔内见液体密度影",
        "心包增厚并积液",
        "心包，可见弧形积液",
        "心包填塞",
    ),
    "Coronary artery wall calcification": (
        "冠状动脉钙化",
        "冠脉走行区可见多发钙化斑块",
        "左前降支及回旋支见钙化斑",
        "冠状动脉粥样硬化",
        "左冠状动脉前降支、右冠状动脉管壁钙化",
    ),
    "Hiatal hernia": ("食管裂孔疝", "食管下段裂孔疝，大小约30mm", "胃底部分疝入胸腔", "可见滑动性食管裂孔疝"),
    "Lymphadenopathy": (
        "纵隔内见多发肿大淋巴结",
        "纵隔及双侧肺门淋巴结肿大",
        "气管旁淋巴结增大，短径约15mm",
        "右侧腋窝可见淋巴结，较大者短径约12mm",
        "纵隔淋巴结钙化",
    ),
    "Emphysema": (
        "双肺气肿",
        "两肺透亮度增高，呈肺气肿改变",
        "双肺上叶可见小叶中心型肺气肿",
        "右肺尖肺大泡",
        "皮下气肿",
    ),
    "Atelectasis": (
        "右肺中叶不张",
        "左肺下叶膨胀不全",
        "双肺下叶可见盘状肺不张",
        "邻近肺组织受压萎陷",
        "右肺下叶节段性不张",
    ),
    "Lung nodule": (
        "右肺上叶结节，大小约6mm",
        "双肺多发小结节",
        "左肺下叶背段见一磨玻璃结节",
        "右侧斜裂旁见小结节",
        "左肺上叶实性结节，边界清楚",
        "胸膜下见微小结节",
    ),
    "Lung opacity": (
        "双肺多发磨玻璃影",
        "右肺下叶见斑片状密度增高影",
        "左肺上叶片状模糊影",
        "两肺散在毛玻璃样密度影",
        "双肺见云絮状渗出影",
        "右肺中叶GGO",
    ),
    "Pulmonary fibrotic sequela": (
        "右肺上叶纤维灶",
        "双肺下叶可见索条影",
        "左肺尖见陈旧性病灶",
        "双肺少许纤维索条",
        "右肺中叶条索状影",
        "左肺上叶瘢痕",
        "双上肺陈旧性肺结核",
    ),
    "Pleural effusion": (
        "双侧胸腔少量积液",
        "右侧胸腔积液",
        "左侧胸腔内见弧形液体密度影",
        "右侧叶间裂积液",
        "左侧包裹性胸腔积液",
        "双侧胸水",
        "右侧液气胸",
    ),
    "Mosaic attenuation pattern": ("双肺呈马赛克样改变", "双肺马赛克灌注征"),
    "Peribronchial thickening": ("双肺支气管周围增厚", "双肺下叶支气管血管束增粗", "支气管周围间质增厚"),
    "Consolidation": ("右肺下叶实变", "左肺上叶大片实变影，内见支气管充气征", "双肺下叶片状实变影"),
    "Bronchiectasis": (
        "双肺下叶支气管扩张",
        "左肺舌段支扩",
        "右肺中叶支气管呈柱状扩张",
        "牵拉性支气管扩张",
    ),
    "Interlobular septal thickening": ("双肺小叶间隔增厚", "两肺下叶小叶间隔光滑增厚", "可见Kerley B线"),
}
# Sentences that state nothing: denied, gone, of an earlier scan only, asked for, or of another organ.
NOTHING = (
    *("心影不大", "心影大小形态正常", "心脏未见增大", "心影未见明显增大", "心影大小、形态在正常范围"),
    *("双侧胸腔未见积液", "胸腔积液未见", "双侧胸腔及心包未见积液", "无胸腔积液", "胸腔积液（-）", "胸腔积液：无"),
    *("双肺未见明显结节、实变及肿块影", "肺内未见明确结节", "双肺未发现实变影", "未见明显磨玻璃影"),
    *("纵隔未见肿大淋巴结", "纵隔及双侧肺门未见明显肿大淋巴结", "纵隔淋巴结未见肿大", "纵隔淋巴结不大"),
    *("冠状动脉未见钙化", "主动脉壁未见钙化", "冠状动脉及主动脉未见明显钙化斑块", "冠状动脉钙化积分为0"),
    *("支气管通畅，未见狭窄及扩张", "各级支气管通畅，无扩张", "未见支气管扩张", "小叶间隔未见增厚"),
    *("支气管血管束走行正常，未见增粗", "未见肺不张", "无肺气肿", "食管裂孔疝未见", "未见食管裂孔疝"),
    *("未见马赛克征象", "未见纤维索条影", "未见起搏器及导管", "双肺纹理清晰，无实变"),
    # Gone, or of the earlier scan
    *("原右侧胸腔积液已吸收", "原右肺结节已消失", "右肺上叶结节未再显示", "右下肺实变已完全吸收"),
    *("原左侧引流管已拔除", "前片所见右侧胸腔积液，本次未见", "前次检查见左侧胸腔积液", "右肺上叶结节消失"),
    # Asked for, history, unlikely
    *("临床诊断：胸腔积液", "病史：肺气肿", "检查目的：除外肺结节", "肺气肿病史多年", "建议进一步检查排除淋巴结肿大"),
    *("右肺结节可能性小", "不考虑胸腔积液", "有无胸腔积液"),
    # Other organs
    *("甲状腺左叶结节", "肝内多发结节", "双侧肾上腺结节", "腹腔积液", "关节腔积液", "主动脉瓣钙化", "脾动脉钙化"),
    *("左心房增大", "肋骨陈旧性骨折", "甲状腺钙化", "乳腺纤维腺瘤", "肺内淋巴结", "主动脉扩张", "胸导管走行正常"),
    *("椎体骨质硬化", "胆囊结石", "无名动脉走行正常", "腹腔淋巴结肿大", "肾盂扩张", "支气管壁增厚"),
    *("胸廓对称，双肺纹理清晰", "双肺野清晰，未见异常密度影", "胸部 CT 平扫未见异常", "胸膜结节"),
)
# Several labels, doubt, changes, and denials that end
MIXED = {
    "左肺下叶结节，考虑转移可能": ("Lung nodule",),
    "右肺下叶实变不除外": ("Consolidation",),
    "双肺磨玻璃影，间质性肺炎待排": ("Lung opacity",),
    "胸腔积液？": ("Pleural effusion",),
    "不能排除小叶间隔增厚": ("Interlobular septal thickening",),
    "无法排除右肺结节": ("Lung nodule",),
    "疑似食管裂孔疝": ("Hiatal hernia",),
    "右肺结节较前缩小": ("Lung nodule",),
    "右肺上叶结节，较前未见明显变化": ("Lung nodule",),
    "右侧胸腔积液较前部分吸收": ("Pleural effusion",),
    "右侧胸腔积液较前明显减少": ("Pleural effusion",),
    "右侧胸腔积液大部分吸收": ("Pleural effusion",),
    "双侧胸腔及心包积液": ("Pericardial effusion", "Pleural effusion"),
    "双侧胸腔积液，心包未见积液": ("Pleural effusion",),
    "心包少量积液，双侧胸腔未见积液": ("Pericardial effusion",),
    "主动脉及冠状动脉多发钙化": ("Arterial wall calcification", "Coronary artery wall calcification"),
    "主动脉壁及冠状动脉走行区见钙化": ("Arterial wall calcification", "Coronary artery wall calcification"),
    "主动脉壁钙化，冠状动脉未见钙化": ("Arterial wall calcification",),
    "未见胸腔积液，双肺下叶可见索条影": ("Pulmonary fibrotic sequela",),
    "未见实变，但见右肺中叶结节": ("Lung nodule",),
    "未见肿块，仅见少许纤维灶": ("Pulmonary fibrotic sequela",),
    "除右肺上叶结节外，余肺野未见异常": ("Lung nodule",),
    "甲状腺及双肺结节": ("Lung nodule",),
    "甲状腺结节，右肺上叶结节": ("Lung nodule",),
    "右侧胸腔积液伴右肺下叶膨胀不全": ("Atelectasis", "Pleural effusion"),
    "前片所见右侧胸腔积液仍存在": ("Pleural effusion",),
    "原右肺结节，现大小约8mm": ("Lung nodule",),
    "右肺结节，未见钙化": ("Lung nodule",),
    "左肺上叶结节，边缘光滑，内无钙化": ("Lung nodule",),
    "双肺支气管扩张，周围见斑片影": ("Lung opacity", "Bronchiectasis"),
    "双肺小叶间隔增厚，支气管血管束增粗": ("Peribronchial thickening", "Interlobular septal thickening"),
    "心影增大，主动脉壁钙化，双侧胸腔少量积液": (
        "Arterial wall calcification",
        "Cardiomegaly",
        "Pleural effusion",
    ),
    "双肺下叶磨玻璃影及实变影": ("Lung opacity", "Consolidation"),
    "1.双肺气肿 2.右肺上叶结节": ("Emphysema", "Lung nodule"),
}
# Written before the rules had seen them: 4 of these 84 failed.
LATER = {
    "双肺纹理增多、紊乱，透亮度增加，双肺散在多发大小不等的囊状无肺纹理透亮区": (),
    "双肺见多发大小不等结节影，较大者位于右肺下叶外基底段，直径约9mm": ("Lung nodule",),
    "双肺下叶胸膜下见少许条索状密度增高影": ("Pulmonary fibrotic sequela",),
    "右肺中叶内侧段及左肺上叶下舌段见条片状密度增高影": ("Lung opacity",),
    "双侧胸膜局限性增厚，双侧胸腔见少量液体密度影": ("Pleural effusion",),
    "心脏增大，心包少量积液，主动脉及冠状动脉钙化": (
        "Arterial wall calcification",
        "Cardiomegaly",
        "Pericardial effusion",
        "Coronary artery wall calcification",
    ),
    "纵隔内可见多发小淋巴结，未见明显肿大": (),
    "纵隔居中，其内未见肿大淋巴结影": (),
    "气管及主要支气管通畅，管腔未见狭窄": (),
    "双肺下叶坠积性改变": (),
    "所见上腹部：肝内见囊状低密度影": (),
    "胸廓对称，骨性胸廓未见异常": (),
    "双肺支气管管壁增厚、管腔扩张": ("Bronchiectasis",),
    "右肺上叶前段见一枚钙化结节": ("Lung nodule",),
    "左肺上叶尖后段见混合磨玻璃结节，大小约12mm×9mm，其内见血管穿行": ("Lung nodule",),
    "右侧胸腔见引流管影，右侧胸腔积液较前减少": ("Medical material", "Pleural effusion"),
    "右肺术后改变，右肺门区见金属缝线影": ("Medical material",),
    "CABG术后，胸骨见钢丝固定影": ("Medical material",),
    "食管下段管壁增厚，胃底经食管裂孔疝入后纵隔": ("Hiatal hernia",),
    "左肺下叶体积缩小，密度增高，考虑肺不张": ("Atelectasis", "Lung opacity"),
    "双肺弥漫性磨玻璃密度影，伴小叶间隔增厚，呈铺路石征": ("Lung opacity", "Interlobular septal thickening"),
    "右肺下叶背段见团片状实变影，其内见空气支气管征": ("Consolidation",),
    "双肺背侧胸膜下见磨玻璃样密度增高影，考虑坠积效应": ("Lung opacity",),
    "两肺未见明显活动性病变": (),
    "两肺门不大，纵隔淋巴结不大": (),
    "双侧胸腔无积液，胸膜无增厚": (),
    "心脏各房室未见增大，心包无积液": (),
    "心脏起搏器植入术后": ("Medical material",),
    "左锁骨下静脉置管术后，管头位于上腔静脉": ("Medical material",),
    "主动脉迂曲，管壁见多发钙化": ("Arterial wall calcification",),
    "主动脉弓及左前降支壁见钙化斑块影": ("Arterial wall calcification", "Coronary artery wall calcification"),
    "冠脉管壁未见明确钙化斑": (),
    "双肺上叶见小叶中央型及间隔旁型肺气肿，右肺尖见肺大疱形成": ("Emphysema",),
    "气管右旁见一含气囊腔，考虑气管憩室": (),
    "双肺可见多发斑片、斑点状模糊影，边缘不清": ("Lung opacity",),
    "左肺舌段支气管轻度扩张，壁增厚": ("Bronchiectasis",),
    "双肺呼气相可见马赛克征": ("Mosaic attenuation pattern",),
    "右肺上叶空洞，周围见卫星灶": (),
    "右侧水平裂增厚，可见叶间积液": ("Pleural effusion",),
    "与2021年3月旧片对比：右肺上叶结节大小未见变化": ("Lung nodule",),
    "与前片比较，右下肺斑片影已吸收": (),
    "与前次CT比较，双侧胸腔积液基本吸收": ("Pleural effusion",),
    "原左肺下叶实变影较前吸收": ("Consolidation",),
    "原胸腔引流管已拔出，右侧胸腔仍有少量积液": ("Pleural effusion",),
    "双肺上叶陈旧性病变，右侧胸膜增厚、粘连、钙化": ("Pulmonary fibrotic sequela",),
    "腋窝未见肿大淋巴结，双乳未见异常": (),
    "双侧腋窝多发淋巴结，部分肿大": ("Lymphadenopathy",),
    "右侧锁骨上淋巴结肿大，考虑转移": ("Lymphadenopathy",),
    "肝门区淋巴结肿大": (),
    "双肾结石，左肾积液": (),
    "脾周少量积液": (),
    "右侧肩关节积液": (),
    "甲状腺右叶低密度结节，建议超声检查": (),
    "肺动脉干增宽，直径约32mm": (),
    "升主动脉增宽": (),
    "冠状动脉支架置入术后": ("Medical material",),
    "双肺间质性改变，胸膜下见网格影及蜂窝影": (),
    "双肺下叶间质纤维化，伴牵拉性支扩": ("Pulmonary fibrotic sequela", "Bronchiectasis"),
    "右肺中叶、左肺舌段少许纤维化灶": ("Pulmonary fibrotic sequela",),
    "双侧支气管血管束增多、增粗": ("Peribronchial thickening",),
    "支气管血管束增多": (),
    "右肺下叶大片致密影，内见充气支气管像": ("Lung opacity",),
    "右肺上叶后段结节灶，性质待定，恶性不除外": ("Lung nodule",),
    "未见气胸及胸腔积液征象": (),
    "双肺未见渗出性病变": (),
    "未见确切肺栓塞征象，双下肺见片状实变": ("Consolidation",),
    "右侧第5肋骨骨折，邻近胸膜增厚": (),
    "胸腺区软组织影，考虑胸腺增生": (),
    "无明显胸腔积液，心影不大。": (),
    "气管插管已拔除": (),
    "双肺肺泡积血不除外": (),
    "主动脉瓣及二尖瓣环钙化": (),
    "右肺上叶磨玻璃影消散": (),
    "心影饱满": (),
    "双肺结节病改变": (),
    "左乳术后缺如，左侧胸壁见皮下积液": (),
    "胃底壁增厚": (),
    "双侧胸腔积液消失，肺复张良好": (),
    "双肺散在微小结节（LU-RADS 2类）": ("Lung nodule",),
    "左侧胸腔可见中等量积液，邻近肺组织受压膨胀不全": ("Atelectasis", "Pleural effusion"),
    "左下肺不张伴少许实变": ("Atelectasis", "Consolidation"),
    "双肺背侧肺组织膨胀不全": ("Atelectasis",),
    "慢性支气管炎、肺气肿征象": ("Emphysema",),
    "冠脉搭桥术后": (),
}


def named(sentence: str) -> tuple[str, ...]:
    return tuple(LABELS[index] for index in label_sentence(sentence))


@pytest.mark.parametrize(("label", "sentence"), [(label, one) for label in STATED for one in STATED[label]])
def test_a_sentence_states_its_label_and_no_other(label, sentence):
    assert named(sentence) == (label,)


@pytest.mark.parametrize("sentence", NOTHING)
def test_what_is_denied_gone_or_elsewhere_is_not_stated(sentence):
    assert named(sentence) == ()


@pytest.mark.parametrize(("sentence", "labels"), {**MIXED, **LATER}.items())
def test_doubt_change_and_several_findings(sentence, labels):
    assert named(sentence) == labels


def test_every_label_has_sentences_that_state_it():
    assert set(STATED) == set(LABELS)
