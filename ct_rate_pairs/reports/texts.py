"""What is asked and what is answered: prompts, and completions from a report's sections."""

NOT_GIVEN = "not given"  # CT-RATE's mark of an absent section

PROMPTS = {
    "en": {
        "findings+impression": "Write the findings and the impression of this chest CT.",
        "findings": "Write the findings of this chest CT.",
        "impression": "Write the impression of this chest CT.",
    },
    "zh": {
        "findings+impression": "请写出这份胸部 CT 的影像所见和诊断印象。",
        "findings": "请写出这份胸部 CT 的影像所见。",
        "impression": "请写出这份胸部 CT 的诊断印象。",
    },
}
LANGUAGES = tuple(PROMPTS)
TARGETS = tuple(PROMPTS["en"])

_PATIENT = {
    "en": {"age": "Age: {}", "sex": "Sex: {}", "separator": ", ", "end": "."},
    "zh": {"age": "年龄：{} 岁", "sex": "性别：{}", "separator": "，", "end": "。"},
}
_SEX = {"en": {}, "zh": {"M": "男", "F": "女"}}  # "M" and "F" where nothing else is given


def write_prompt(
    target: str = "findings+impression", language: str = "en", age: int | None = None, sex: str | None = None
) -> str:
    """The user's turn; `age` in years and `sex` (`"M"` or `"F"`), where given, are told ahead of the task."""
    return tell_patient(PROMPTS[language][target], language, age, sex)


def tell_patient(prompt: str, language: str = "en", age: int | None = None, sex: str | None = None) -> str:
    """A prompt with what is known of the patient on a line ahead of it."""
    words = _PATIENT[language]
    known = [words["age"].format(age)] if age is not None else []
    if sex is not None:
        known.append(words["sex"].format(_SEX[language].get(sex, sex)))
    patient = words["separator"].join(known) + words["end"] if known else ""
    return "\n".join(filter(None, (patient, prompt)))


def write_completion(findings: str | None, impression: str | None, target: str = "findings+impression") -> str:
    """The assistant's turn; empty when the report has nothing of the `target`: an absent section is never taught."""
    findings, impression = _given(findings), _given(impression)
    if target == "findings":
        return findings
    if target == "impression":
        return impression
    sections = {"Findings": findings, "Impression": impression}
    return "\n".join(f"{heading}: {text}" for heading, text in sections.items() if text)


def same_words(text: str) -> str:
    """A text without its case and its layout: texts that agree in this say the same thing in the same words."""
    return " ".join(text.lower().split())


def _given(section: str | None) -> str:
    if not isinstance(section, str):  # None or the NaN of an empty cell
        return ""
    text = section.strip()
    return "" if text.rstrip(".").lower() == NOT_GIVEN else text
