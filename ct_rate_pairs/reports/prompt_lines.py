"""
The lines of a prompt ahead of its question: what is known of the patient and the scan before the scan is read, and in
training the findings as cues.

    Age: 67, Sex: M.
    Clinical information: Cough for two weeks.
    Contrast: none.
    Write the findings and the impression of this chest CT.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .history import read_contrast, read_surgery
from .readable import is_missing


# What a prompt can tell, in the order of its lines.
METADATA = ("age", "sex", "clinical_information", "technique", "contrast", "surgery", "device")
AGE_AND_SEX = METADATA[:2]
FINDINGS = "findings"  # the line of cues, which only training prompts have
# What is read from another column where no column has its name.
READ_FROM = {"contrast": "technique", "surgery": "clinical_information"}
_READ = {"contrast": read_contrast, "surgery": read_surgery}

_WORDS = {
    "en": {
        "age": "Age: {}",
        "sex": "Sex: {}",
        "clinical_information": "Clinical information: {}",
        "technique": "Technique: {}",
        "contrast": "Contrast: {}",
        "surgery": "Earlier surgery: {}",
        "device": "Device: {}",
        "separator": ", ",
        "end": ".",
    },
    "zh": {
        "age": "年龄：{} 岁",
        "sex": "性别：{}",
        "clinical_information": "临床信息：{}",
        "technique": "检查技术：{}",
        "contrast": "对比剂：{}",
        "surgery": "手术史：{}",
        "device": "设备：{}",
        "separator": "，",
        "end": "。",
    },
}
# Words for values; other values stay as they are.
_VALUES = {
    "en": {
        "contrast": {"arterial": "arterial phase", "venous": "venous phase", "late": "late phase"},
        "surgery": {"told": "mentioned", "not_told": "not mentioned"},
    },
    "zh": {
        "sex": {"M": "男", "F": "女"},
        "contrast": {"none": "未用", "given": "已用", "arterial": "动脉期", "venous": "静脉期", "late": "延迟期"},
        "surgery": {"told": "提及", "not_told": "未提及"},
    },
}
_ENDS = (".", "?", "!", "。", "？", "！")


def metadata_names(prompt_metadata: bool | Sequence[str]) -> tuple[str, ...]:
    """The names of `METADATA` that an option `prompt_metadata` asks for; `True` asks for age and sex."""
    if isinstance(prompt_metadata, bool):
        return AGE_AND_SEX if prompt_metadata else ()
    return tuple(prompt_metadata)


def plain_metadata(prompt_metadata: bool | Sequence[str]) -> bool | tuple[str, ...]:
    """
    An option `prompt_metadata` in one form, so that equal ones compare equal: names in the order of `METADATA`, `True`
    for age and sex alone, and `False` for none.

    Raises:
        `ValueError`: for anything but a `bool` and a sequence of names of `METADATA`.
    """
    if isinstance(prompt_metadata, bool):
        return prompt_metadata
    among = f"give True (age and sex), False, or a list of names among {', '.join(METADATA)}."
    if isinstance(prompt_metadata, str) or not isinstance(prompt_metadata, Sequence):
        raise ValueError(f"prompt_metadata={prompt_metadata!r}: {among}")
    if unknown := [name for name in prompt_metadata if name not in METADATA]:
        raise ValueError(f"prompt_metadata has {unknown[0]!r}: {among}")
    names = tuple(name for name in METADATA if name in prompt_metadata)
    return names == AGE_AND_SEX if names in ((), AGE_AND_SEX) else names


def metadata_lines(known: Mapping, names: Sequence[str], language: str = "en") -> dict[str, str]:
    """
    What a prompt tells of a patient.

    Args:
        known (`Mapping`):
            What is known, by the names of columns. A text that is missing, such as "Not given.", tells nothing.
        names (`Sequence[str]`):
            The names of `METADATA` that the prompt tells, in this order. `contrast` is read from `technique` where
            `known` has no contrast, and `surgery` from `clinical_information`.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`. Texts stay as they are.

    Returns:
        `dict[str, str]`: what is told, by its name. What is not known is not there.
    """
    told = {name: _value(known, name) for name in names}
    values = _VALUES[language]
    return {
        name: _WORDS[language][name].format(values.get(name, {}).get(value, value))
        for name, value in told.items()
        if value is not None
    }


def _value(known: Mapping, name: str) -> str | None:
    """A value as text on one line."""
    value = known.get(name)
    if name in AGE_AND_SEX:
        return None if value is None else str(value)
    if not is_missing(value):
        return " ".join(value.split())
    text = known.get(READ_FROM.get(name))
    return None if is_missing(text) else _READ[name](text)


def drop_lines(lines: Mapping[str, str], share: float, rng: np.random.Generator) -> dict[str, str]:
    """
    Leaves lines out at random: all of them with the chance `share`, and otherwise each with this chance. So a model
    learns to do without all of them, and with any of them.

    Which names are left out does not depend on which others there are.
    """
    names = (*METADATA, FINDINGS)
    all_of_them, *draws = rng.random(1 + len(names)).tolist()
    drawn = dict(zip(names, draws, strict=True))
    return {name: line for name, line in lines.items() if all_of_them >= share and drawn[name] >= share}


def join_lines(lines: Mapping[str, str], language: str = "en") -> str:
    """What a prompt tells before its question, as lines; age and sex share one. Empty if it tells nothing."""
    words = _WORDS[language]
    patient = words["separator"].join(lines[name] for name in AGE_AND_SEX if name in lines)
    others = [line for name, line in lines.items() if name not in AGE_AND_SEX]
    return "\n".join(line if line.endswith(_ENDS) else line + words["end"] for line in (patient, *others) if line)


def put_before(question: str, lines: Mapping[str, str], language: str = "en") -> str:
    """A prompt: the lines, and then the question."""
    return "\n".join(filter(None, (join_lines(lines, language), question)))


def write_turns(
    questions: Sequence[str], answers: Sequence[str], lines: Mapping[str, str], language: str = "en"
) -> list[dict[str, str]]:
    """
    The turns of a prompt: questions with their answers, and a last question without one. The lines stand ahead of the
    first question.
    """
    first, *others = questions
    turns = [("user", put_before(first, lines, language))]
    for answer, question in zip(answers, others, strict=True):
        turns += [("assistant", answer), ("user", question)]
    return [{"role": role, "content": text} for role, text in turns]
