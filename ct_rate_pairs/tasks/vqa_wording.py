"""The wording of questions and answers, in English and Chinese. A template never depends on the answer."""

from functools import cache

from ct_rate_pairs.reports.labels import LABELS, NAMES
from ct_rate_pairs.reports.texts import same_words


# Name of each finding in a question. `NAMES` has its name in an answer.
FINDINGS = {
    "en": {
        "Medical material": "medical material such as a catheter, a device or sutures",
        "Arterial wall calcification": "calcification of the arterial walls",
        "Cardiomegaly": "cardiomegaly",
        "Pericardial effusion": "pericardial effusion",
        "Coronary artery wall calcification": "calcification of the coronary arteries",
        "Hiatal hernia": "a hiatal hernia",
        "Lymphadenopathy": "lymphadenopathy",
        "Emphysema": "emphysema",
        "Atelectasis": "atelectasis",
        "Lung nodule": "a lung nodule",
        "Lung opacity": "lung opacity",
        "Pulmonary fibrotic sequela": "fibrotic sequelae of the lungs",
        "Pleural effusion": "pleural effusion",
        "Mosaic attenuation pattern": "a mosaic attenuation pattern",
        "Peribronchial thickening": "peribronchial thickening",
        "Consolidation": "consolidation",
        "Bronchiectasis": "bronchiectasis",
        "Interlobular septal thickening": "interlobular septal thickening",
    },
    "zh": {**NAMES["zh"], "Medical material": "医疗材料（如导管、器械或缝线）"},
}

QUESTIONS = {
    "en": {
        "presence": (
            "Does this chest CT show {}?",
            "Is there {} in this chest CT?",
            "Can {} be seen in this scan?",
            "Is {} present?",
        ),
        "side": (
            "On which side is {}?",
            "Which side of the chest shows {}?",
            "This chest CT shows {}. Is it on the right, on the left or on both sides?",
        ),
        "location": (
            "Which lobes of the lungs show {}?",
            "In which lobes is {}?",
            "This chest CT shows {}. Which lobes are affected?",
        ),
        "abnormalities": (
            "Which abnormalities does this chest CT show?",
            "List the abnormalities in this chest CT.",
            "What is abnormal in this scan?",
        ),
        "size": ("How large is the largest lung nodule?", "What is the largest diameter of the lung nodules?"),
        "count": (
            "Does this chest CT show one lung nodule or several?",
            "Is the lung nodule single, or are there more?",
        ),
        "grade": (
            "In which size class of the Fleischner Society is the largest lung nodule?",
            "Is the largest lung nodule below 6 mm, 6 to 8 mm or above 8 mm?",
        ),
        "severity": ("How severe is {}?", "This chest CT shows {}. How severe is it?"),
        "change": ("How has {} changed since the earlier scan?", "Compared with the earlier scan, how is {} now?"),
    },
    "zh": {
        "presence": ("这份胸部 CT 是否显示{}？", "这份胸部 CT 中有没有{}？", "该扫描中能否看到{}？", "是否存在{}？"),
        "side": ("{}位于哪一侧？", "胸部哪一侧可见{}？", "这份胸部 CT 显示{}。位于右侧、左侧还是双侧？"),
        "location": ("哪些肺叶可见{}？", "{}位于哪些肺叶？", "这份胸部 CT 显示{}。累及哪些肺叶？"),
        "abnormalities": ("这份胸部 CT 有哪些异常？", "请列出这份胸部 CT 中的异常。", "该扫描有什么异常？"),
        "size": ("最大的肺结节有多大？", "肺结节的最大直径是多少？"),
        "count": ("这份胸部 CT 显示一枚还是多枚肺结节？", "肺结节是单发还是多发？"),
        "grade": (
            "最大的肺结节属于 Fleischner 学会的哪一个大小分级？",
            "最大的肺结节小于 6 mm、6 至 8 mm 还是大于 8 mm？",
        ),
        "severity": ("{}的程度如何？", "这份胸部 CT 显示{}。程度如何？"),
        "change": ("与之前的检查相比，{}有何变化？", "{}较前有何变化？"),
    },
}
# The end of a question, which says what form the answer must have.
FORMS = {
    "en": {
        "presence": " Answer yes or no.",
        "side": " Answer right, left or both.",
        "location": " Answer with a list.",
        "abnormalities": " Answer with a list, or none.",
        "size": " Answer in mm.",
        "count": " Answer one or several.",
        "grade": " Answer below 6 mm, 6 to 8 mm or above 8 mm.",
        "severity": " Answer mild, moderate or severe.",
        "change": " Answer new, larger, smaller or unchanged.",
    },
    "zh": {
        "presence": "请回答“是”或“否”。",
        "side": "请回答“右侧”、“左侧”或“双侧”。",
        "location": "请列出。",
        "abnormalities": "请列出；如果没有，请回答“无”。",
        "size": "请以 mm 为单位回答。",
        "count": "请回答“单发”或“多发”。",
        "grade": "请回答“小于 6 mm”、“6 至 8 mm”或“大于 8 mm”。",
        "severity": "请回答“轻度”、“中度”或“重度”。",
        "change": "请回答“新发”、“增大”、“缩小”或“无变化”。",
    },
}
ANSWER_TYPES = {
    "presence": "yes/no",
    "side": "side",
    "location": "list",
    "abnormalities": "list",
    "size": "number",
    "count": "choice",
    "grade": "choice",
    "severity": "choice",
    "change": "choice",
}
QUESTION_TYPES = tuple(ANSWER_TYPES)
DEFAULT_TYPES = QUESTION_TYPES[:4]
# The answers to choose from, in the order of `COUNTS`, `GRADES`, `SEVERITIES` and `CHANGES` of `reports.details`
CHOICES = {
    "en": {
        "count": ("One", "Several"),
        "grade": ("Below 6 mm", "6 to 8 mm", "Above 8 mm"),
        "severity": ("Mild", "Moderate", "Severe"),
        "change": ("New", "Larger", "Smaller", "Unchanged"),
    },
    "zh": {
        "count": ("单发", "多发"),
        "grade": ("小于 6 mm", "6 至 8 mm", "大于 8 mm"),
        "severity": ("轻度", "中度", "重度"),
        "change": ("新发", "增大", "缩小", "无变化"),
    },
}
EXAMPLES = {
    "en": ("Examples from other patients, without their scans:", "Question: {}", "Answer: {}", "This scan: {}"),
    "zh": ("以下是其他患者的示例（不含影像）：", "问题：{}", "回答：{}", "本次扫描：{}"),
}

YES_NO = {"en": ("No", "Yes"), "zh": ("否", "是")}
SIDE_NAMES = {
    "en": {"right": "Right", "left": "Left", "both": "Both"},
    "zh": {"right": "右侧", "left": "左侧", "both": "双侧"},
}
LOBE_NAMES = {
    "en": {
        "right upper": "right upper lobe",
        "right middle": "right middle lobe",
        "right lower": "right lower lobe",
        "left upper": "left upper lobe",
        "lingula": "lingula",
        "left lower": "left lower lobe",
    },
    "zh": {
        "right upper": "右肺上叶",
        "right middle": "右肺中叶",
        "right lower": "右肺下叶",
        "left upper": "左肺上叶",
        "lingula": "左肺舌段",
        "left lower": "左肺下叶",
    },
}
SEPARATORS = {"en": ", ", "zh": "、"}
NONE = {"en": "None", "zh": "无"}


def write_question(kind: str, language: str, template: int, label: str = "") -> str:
    """A question of the type `kind`. `template` is any whole number: it chooses one of the wordings."""
    wordings = QUESTIONS[language][kind]
    finding = FINDINGS[language][label] if label else ""
    return wordings[template % len(wordings)].format(finding) + FORMS[language][kind]


def find_question(text: str, language: str) -> tuple[str, str] | None:
    """
    The question of the task that a text asks, and its type; `None` for any other text.

    Case and blanks are free, and the end that says what form the answer must have may be missing.
    """
    return _questions(language).get(same_words(text))


@cache
def _questions(language: str) -> dict[str, tuple[str, str]]:
    """Every question of a language and its type, by its words, with and without its end."""
    found = {}
    for kind, wordings in QUESTIONS[language].items():
        for template, wording in enumerate(wordings):
            for label in LABELS if "{}" in wording else ("",):
                question = write_question(kind, language, template, label)
                for words in (question, question.removesuffix(FORMS[language][kind])):
                    found[same_words(words)] = question, kind
    return found


def write_examples(examples: list[tuple[str, str]], question: str, language: str) -> str:
    """A question after questions about other patients, each with its answer."""
    heading, asked, answered, now = EXAMPLES[language]
    lines = [line for one in examples for line in (asked.format(one[0]), answered.format(one[1]))]
    return "\n".join([heading, *lines, now.format(question)]) if examples else question


def write_list(names: list[str], language: str) -> str:
    """Names as an answer lists them. Without names, the answer is `None` in the language."""
    return SEPARATORS[language].join(names) or NONE[language]


def write_findings(labels, language: str) -> str:
    """The answer that lists the positive labels, of 18 zeros and ones, in the order of `LABELS`."""
    return write_list(
        [NAMES[language][name] for name, positive in zip(LABELS, labels, strict=True) if positive], language
    )
