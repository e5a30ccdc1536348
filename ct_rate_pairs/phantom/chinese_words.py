"""The words of the phantom's Chinese reports, under the names of [`~ct_rate_pairs.phantom.english_words`]."""

AIRWAYS = ("气管及双侧主支气管通畅。", "气管、支气管开口通畅，管腔未见狭窄。")
VESSELS = ("纵隔大血管走行正常。", "纵隔居中，大血管形态未见异常。")
HEART = ("心影大小、形态正常。", "心脏形态、大小在正常范围。")
AORTA = ("胸主动脉管径正常。", "胸主动脉未见增宽。")
PERICARDIUM = ("心包未见积液及增厚。", "心包未见积液。")
OESOPHAGUS = ("食管走行正常，管壁未见增厚。", "食管管壁未见异常增厚。")
NODES = ("纵隔及双侧肺门未见肿大淋巴结。", "纵隔内未见明显肿大淋巴结。")
CLEAR_LUNG = ("双肺野清晰，未见结节及实变影。", "双肺透亮度正常，未见肿块、结节及渗出影。")
LUNG = ("双肺未见肿块影。", "双肺野内未见明确肿块。")
PLEURA = ("双侧胸腔未见积液，胸膜未见增厚。", "双侧胸腔未见积液。")
ABDOMEN = ("扫描范围内上腹部脏器未见异常。", "上腹部扫描层面未见异常。")
BONES = ("骨质未见异常，椎体高度正常。", "所示骨质未见破坏。")
CLEAR_IMPRESSION = ("胸部 CT 平扫未见异常。", "胸部 CT 检查未见明显异常。")

POSITIVE = {
    "Medical material": ("{side}可见{detail}影。", "{side}见{detail}。"),
    "Cardiomegaly": ("心影增大，心胸比为 {size}%。", "心脏增大，心胸比约 {size}%。"),
    "Arterial wall calcification": (
        "主动脉壁可见钙化斑块，以{detail}为著。",
        "胸主动脉粥样硬化，钙化以{detail}为主。",
    ),
    "Coronary artery wall calcification": ("冠状动脉{detail}可见钙化斑块。", "冠状动脉粥样硬化，钙化位于{detail}。"),
    "Pericardial effusion": ("心包可见积液，最厚处约 {size} mm。", "心包积液，厚约 {size} mm。"),
    "Hiatal hernia": ("食管下端可见食管裂孔疝，大小约 {size} mm。", "可见滑动型食管裂孔疝，大小约 {size} mm。"),
    "Lymphadenopathy": ("{detail}可见肿大淋巴结，最大者约 {size} mm。", "{detail}淋巴结肿大，较大者约 {size} mm。"),
    "Emphysema": ("{where}可见肺气肿改变。", "{where}肺气肿。"),
    "Mosaic attenuation pattern": ("双肺可见马赛克灌注征。", "双肺密度不均，呈马赛克样改变。"),
    "Lung opacity": ("{where}可见磨玻璃影，直径约 {size} mm。", "{where}见磨玻璃样密度增高影，范围约 {size} mm。"),
    "Interlobular septal thickening": ("{where}可见小叶间隔增厚。", "{where}小叶间隔增厚。"),
    "Pulmonary fibrotic sequela": ("{where}可见纤维化后遗改变。", "{where}见纤维索条影。"),
    "Peribronchial thickening": ("{where}可见支气管周围增厚。", "{where}支气管血管束增粗。"),
    "Consolidation": (
        "{where}可见实变影，大小约 {size} mm，内见空气支气管征。",
        "{where}实变，范围约 {size} mm，伴空气支气管征。",
    ),
    "Bronchiectasis": ("{where}可见支气管扩张。", "{where}支气管扩张改变。"),
    "Atelectasis": ("{where}可见肺不张。", "{where}可见线状肺不张。"),
    "Lung nodule": ("{where}可见一枚结节，大小约 {size} mm。", "{where}见一结节，直径约 {size} mm。"),
    "Pleural effusion": ("{pleura}胸腔可见积液，最厚处约 {size} mm。", "{pleura}胸腔积液，厚约 {size} mm。"),
}
SEVERAL_NODULES = ("{where}可见多发结节，最大者约 {size} mm。", "{where}见多发结节，较大者直径约 {size} mm。")
IMPRESSIONS = {
    "Medical material": "{side}{detail}。",
    "Cardiomegaly": "心影增大。",
    "Arterial wall calcification": "主动脉壁钙化。",
    "Coronary artery wall calcification": "冠状动脉钙化。",
    "Pericardial effusion": "心包积液。",
    "Hiatal hernia": "食管裂孔疝。",
    "Lymphadenopathy": "纵隔淋巴结肿大。",
    "Emphysema": "肺气肿。",
    "Mosaic attenuation pattern": "双肺马赛克灌注征。",
    "Lung opacity": "肺磨玻璃影。",
    "Interlobular septal thickening": "小叶间隔增厚。",
    "Pulmonary fibrotic sequela": "肺纤维化后遗改变。",
    "Peribronchial thickening": "支气管周围增厚。",
    "Consolidation": "肺实变。",
    "Bronchiectasis": "支气管扩张。",
    "Atelectasis": "肺不张。",
    "Lung nodule": "肺结节。",
    "Pleural effusion": "胸腔积液。",
}
CLINICAL_INFORMATION = (
    "未提供。",
    "咳嗽。",
    "气短。",
    "肺炎？",
    "胸痛。",
    "复查。",
    "肺结节随访。",
    "发热、咳嗽。",
    "肿瘤筛查。",
)
TECHNIQUE = "胸部 CT 轴位平扫，层厚 {thickness} mm。"
NOT_GIVEN = "未提供。"

SIDES = {"right": "右", "left": "左", "both": "双", "": ""}
LOBES = {"upper": "上叶", "middle": "中叶", "lower": "下叶", "": ""}
# Words of `Finding.detail`
DETAILS = {
    "single": "单发",
    "several": "多发",
    "port catheter": "输液港导管",
    "pacemaker": "起搏器",
    "row of sternotomy wires": "胸骨后钢丝",
    "arch": "主动脉弓",
    "descending aorta": "降主动脉",
    "left anterior descending": "左前降支",
    "circumflex": "回旋支",
    "right coronary": "右冠状动脉",
    "right paratracheal": "右气管旁",
    "prevascular": "血管前",
    "aortopulmonary": "主肺动脉窗",
    "subcarinal": "隆突下",
    "right hilar": "右肺门",
    "left hilar": "左肺门",
}
