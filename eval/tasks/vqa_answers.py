"""What an answer to a question of `task="vqa"` says: short, as the dataset words it, or in a sentence."""

import re
from collections.abc import Mapping

from ct_rate_pairs.reports.places import named_lobes
from ct_rate_pairs.reports.rules import negated_spans, outside, split_clauses, split_sentences
from ct_rate_pairs.tasks.vqa_wording import FINDINGS, LOBE_NAMES, NAMES, NONE, QUESTION_TYPES, SIDE_NAMES, YES_NO


# What a model may say -> what it says, beside the words of the dataset's own answers. "" is an answer, too: none.
OTHER_WORDS = {
    "en": {
        "presence": {"not": "No", "absent": "No", "present": "Yes"},
        "side": {"bilateral": "Both", "bilaterally": "Both"},
        "location": {"none": ""},
        "abnormalities": {"no": "", "normal": ""},
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
    },
}
# Short forms of lobes that are rare in reports, and how a report says them.
AS_REPORTED = (
    (r"\b(?:right (?:and|&) (?:the )?left|left (?:and|&) (?:the )?right)\b", "both"),
    (r"\b(right|left) (upper|middle|lower)(?= (?:and|&) (?:the )?(?:right|left))", r"\1 \2 lobe"),
)


def _words_of(language: str, question_type: str) -> dict[str, str]:
    """Every phrase that counts as an answer, in lower case, and which answer it is."""
    words = {
        "presence": {word: word for word in YES_NO[language]},
        "side": {word: word for word in SIDE_NAMES[language].values()},
        "location": {word: word for word in LOBE_NAMES[language].values()} | {NONE[language]: ""},
        "abnormalities": {
            re.sub("^an? ", "", FINDINGS[language][label]): name for label, name in NAMES[language].items()
        }
        | {name: name for name in NAMES[language].values()}
        | {NONE[language]: ""},
    }[question_type]
    return {word.lower(): answer for word, answer in (words | OTHER_WORDS[language][question_type]).items()}


def _pattern(language: str, words: Mapping[str, str]) -> re.Pattern:
    # The longest first: one Chinese finding is a part of another's name.
    phrases = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"\b({phrases})s?\b" if language == "en" else f"({phrases})")


WORDS = {(language, kind): _words_of(language, kind) for language in YES_NO for kind in QUESTION_TYPES}
PATTERNS = {key: _pattern(key[0], words) for key, words in WORDS.items()}


def parse_answer(text: str, question_type: str, language: str = "en") -> frozenset[str] | None:
    """
    Reads an answer, short or in a sentence.

    Args:
        text (`str`):
            The answer. Of a presence the first word that tells counts; two sides are both; of a list every name
            counts that is not denied.
        question_type (`str`):
            `"presence"`, `"side"`, `"location"` or `"abnormalities"`.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`, the language of the question.

    Returns:
        `frozenset[str]` or `None`: what it says, in the dataset's words: one word of a presence or a side, any number
        of a list. `None` for an answer that says nothing of it.
    """
    text = text.lower()
    said = _said(text, question_type, language)
    if said and question_type in ("location", "abnormalities"):
        said = _said(without_denials(text, language), question_type, language) or [""]
    if not said:
        return None
    if question_type == "presence":
        return frozenset(said[:1])
    if question_type == "side":
        both = SIDE_NAMES[language]["both"]
        return frozenset(said) if len(set(said)) == 1 else frozenset([both])
    return frozenset(said) - {""}


def _said(text: str, question_type: str, language: str) -> list[str]:
    """The answers whose words a lower-case text has, in its order; English lobes are read as in reports."""
    words, pattern = WORDS[language, question_type], PATTERNS[language, question_type]
    said = [words[phrase] for phrase in pattern.findall(text)]
    if (question_type, language) == ("location", "en"):
        for short, reported in AS_REPORTED:
            text = re.sub(short, reported, text)
        said += [LOBE_NAMES["en"][lobe] for lobe in named_lobes(text) or ()]
    return said


def without_denials(text: str, language: str) -> str:
    """A lower-case text less what it says is absent, so that "no effusion, a nodule" names the nodule alone."""
    if language == "zh":
        return re.sub(r"(?:未见|未发现|没有|无)[^，。；\n]*", "", text)
    kept = []
    for clause in (clause for sentence in split_sentences(text) for clause in split_clauses(sentence)):
        spans = negated_spans(clause)
        kept.append("".join(letter for place, letter in enumerate(clause) if outside(place, spans)))
    return ". ".join(kept)
