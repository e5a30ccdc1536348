"""Reads answers to questions of `task="vqa"`: short ones in the words of the dataset, and whole sentences."""

import re
from collections.abc import Mapping

from ct_rate_pairs.reports.clauses import split_clauses
from ct_rate_pairs.reports.negations import negated_spans
from ct_rate_pairs.reports.places import named_lobes
from ct_rate_pairs.reports.sentence_spans import split_sentences
from ct_rate_pairs.tasks.vqa_wording import (
    CHOICES,
    FINDINGS,
    LOBE_NAMES,
    NAMES,
    NONE,
    QUESTION_TYPES,
    SIDE_NAMES,
    YES_NO,
)


# Words that a model may use in addition to the words of the dataset, and what they mean. "" means: none.
OTHER_WORDS = {
    "en": {
        "presence": {"not": "No", "absent": "No", "present": "Yes"},
        "side": {"bilateral": "Both", "bilaterally": "Both"},
        "location": {"none": ""},
        "abnormalities": {"no": "", "normal": ""},
        "grade": {"under 6 mm": "Below 6 mm", "<6 mm": "Below 6 mm", "6-8 mm": "6 to 8 mm", "over 8 mm": "Above 8 mm"},
        "count": {"single": "One", "solitary": "One", "multiple": "Several"},
        "severity": {"minimal": "Mild", "slight": "Mild", "marked": "Severe"},
        "change": {
            "increased": "Larger",
            "progressed": "Larger",
            "decreased": "Smaller",
            "regressed": "Smaller",
            "stable": "Unchanged",
            "no change": "Unchanged",
        },
    },
    "zh": {
        "presence": {
            "不是": "否",
            "没有": "否",
            "未见": "否",
            "未发现": "否",
            "不存在": "否",
            "无": "否",
            "有": "是",
            "存在": "是",
        },
        "side": {"右": "右侧", "左": "左侧", "双": "双侧", "两侧": "双侧"},
        "location": {"无": ""},
        "abnormalities": {"没有": "", "未见": "", "正常": ""},
        "count": {"一枚": "单发", "多枚": "多发", "多个": "多发"},
        "severity": {"轻微": "轻度", "少量": "轻度", "中等": "中度", "大量": "重度"},
        "change": {"增多": "增大", "减少": "缩小", "减小": "缩小", "稳定": "无变化", "未见变化": "无变化"},
    },
}
# Short forms of lobes that are rare in reports, and the form that reports use.
AS_REPORTED = (
    (r"\b(?:right (?:and|&) (?:the )?left|left (?:and|&) (?:the )?right)\b", "both"),
    (r"\b(right|left) (upper|middle|lower)(?= (?:and|&) (?:the )?(?:right|left))", r"\1 \2 lobe"),
)


def _words_of(language: str, question_type: str) -> dict[str, str]:
    """Maps every phrase that counts as an answer, in lower case, to the answer."""
    words = {
        "presence": {word: word for word in YES_NO[language]},
        "side": {word: word for word in SIDE_NAMES[language].values()},
        "location": {word: word for word in LOBE_NAMES[language].values()} | {NONE[language]: ""},
        "abnormalities": {
            re.sub("^an? ", "", FINDINGS[language][label]): name for label, name in NAMES[language].items()
        }
        | {name: name for name in NAMES[language].values()}
        | {NONE[language]: ""},
        **{kind: {word: word for word in choices} for kind, choices in CHOICES[language].items()},
    }[question_type]
    others = OTHER_WORDS[language].get(question_type, {})
    return {word.lower(): answer for word, answer in (words | others).items()}


def _pattern(language: str, words: Mapping[str, str]) -> re.Pattern:
    """A pattern that finds the phrases in a lower-case text."""
    # The longest phrases first: the name of one Chinese finding is part of another name.
    phrases = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"\b({phrases})s?\b" if language == "en" else f"({phrases})")


WORDS = {
    (language, kind): _words_of(language, kind) for language in YES_NO for kind in QUESTION_TYPES if kind != "size"
}
LENGTH = re.compile(r"(\d{1,4}(?:[.,]\d{1,2})?)\s?(cm|mm|厘米|毫米)?")
PATTERNS = {key: _pattern(key[0], words) for key, words in WORDS.items()}


def parse_answer(text: str, question_type: str, language: str = "en") -> frozenset[str] | None:
    """
    Reads an answer, given in a few words or in a sentence.

    Args:
        text (`str`):
            The answer. For `"presence"` and the choices, the first word with a meaning counts. For `"side"`, two
            different sides mean both. For the two lists, every name counts that is not denied. For `"size"`, the first
            number counts, in mm unless it is in cm.
        question_type (`str`):
            One of [`~ct_rate_pairs.tasks.vqa_wording.QUESTION_TYPES`].
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`, the language of the question.

    Returns:
        `frozenset[str]` or `None`: the answer in the words of the dataset: one word for `"presence"` and `"side"`, any
        number of names for the two lists. `None` if the answer cannot be read.
    """
    text = text.lower()
    if question_type == "size":
        length = LENGTH.search(text)
        factor = 10 if length and length[2] in ("cm", "厘米") else 1
        return length and frozenset({f"{float(length[1].replace(',', '.')) * factor:.0f} mm"})
    said = _said(text, question_type, language)
    if said and question_type in ("location", "abnormalities"):
        said = _said(without_denials(text, language), question_type, language) or [""]
    if not said:
        return None
    if question_type not in ("side", "location", "abnormalities"):
        return frozenset(said[:1])
    if question_type == "side":
        both = SIDE_NAMES[language]["both"]
        return frozenset(said) if len(set(said)) == 1 else frozenset([both])
    return frozenset(said) - {""}


def _said(text: str, question_type: str, language: str) -> list[str]:
    """The answers whose phrases occur in a lower-case text, in order. English lobes are also read as in reports."""
    words, pattern = WORDS[language, question_type], PATTERNS[language, question_type]
    said = [words[phrase] for phrase in pattern.findall(text)]
    if (question_type, language) == ("location", "en"):
        for short, reported in AS_REPORTED:
            text = re.sub(short, reported, text)
        said += [LOBE_NAMES["en"][lobe] for lobe in named_lobes(text) or ()]
    return said


def without_denials(text: str, language: str) -> str:
    """A lower-case text without what it denies, so that "no effusion, a nodule" names the nodule alone."""
    if language == "zh":
        return re.sub(r"(?:未见|未发现|没有|无)[^，。；\n]*", "", text)
    kept = []
    for clause in (clause for sentence in split_sentences(text) for clause in split_clauses(sentence)):
        spans = negated_spans(clause)
        denied = {place for span in spans for place in range(*span)}
        kept.append("".join(letter for place, letter in enumerate(clause) if place not in denied))
    return ". ".join(kept)
