"""The prompts, and the completions made from the sections of a report."""

from collections.abc import Mapping

from .readable import is_chinese, is_missing


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

_HEADINGS = {"en": ("Findings: ", "Impression: "), "zh": ("影像所见：", "诊断印象：")}


def write_prompt(target: str = "findings+impression", language: str = "en") -> str:
    """The request for the part `target` of a report."""
    return PROMPTS[language][target]


def write_completion(findings: str | None, impression: str | None, target: str = "findings+impression") -> str:
    """
    The assistant's turn. It is empty if the report has nothing of the `target`: a missing section is not taught. The
    heading of a section has the language of the section.
    """
    findings, impression = _given(findings), _given(impression)
    if target == "findings":
        return findings
    if target == "impression":
        return impression
    sections = enumerate((findings, impression))
    return "\n".join(_HEADINGS["zh" if is_chinese(text) else "en"][place] + text for place, text in sections if text)


def text_of(turn: Mapping) -> str:
    """
    The text of a turn of a dialogue, whose content is a string, or a list of parts as TRL and transformers take it.
    The texts of several parts are joined, as a chat template joins them.

    Raises:
        `ValueError`: for a part that is no text, and for content that is neither.
    """
    content = turn["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(
            f"The content of a turn of the {turn['role']} is {'empty' if content == [] else type(content).__name__}: "
            'give a string, or a list of parts {"type": "text", "text": "..."}.'
        )
    for part in content:
        if part["type"] != "text":
            raise ValueError(
                f"The content of a turn of the {turn['role']} has a part of the type {part['type']!r}. The slices are "
                "put before the text from the column `images`: leave all parts out that are no text."
            )
        if not isinstance(part.get("text"), str):
            raise ValueError(f"A part of a turn of the {turn['role']} is of the type 'text', but has no text.")
    return "".join(part["text"] for part in content)


def same_words(text: str) -> str:
    """A text in lower case with single spaces, so that texts with the same words give the same string."""
    return " ".join(text.lower().split())


def _given(section: str | None) -> str:
    return "" if is_missing(section) else section.strip()
