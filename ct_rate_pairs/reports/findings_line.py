"""
The findings line: one line before a report that states which of the 18 labels the scan has. A model that writes it
decides on the findings before it words them.

- `"names"`: `Abnormalities: Cardiomegaly; Pleural effusion.` or `Abnormalities: none.`, in Chinese
  `异常：心脏增大；胸腔积液。` or `异常：无。`.
- `"yes_no"`: all 18 labels in the official order, `Abnormalities: Medical material no; Cardiomegaly yes; ….`, in
  Chinese `异常：医疗材料否；心脏增大是；…。`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .labels import LABELS, NAMES
from .texts import text_of


FINDINGS_LINES = ("none", "names", "yes_no")

_WORDS = {
    "en": {"heading": "Abnormalities: ", "separator": "; ", "end": ".", "none": "none", "answers": (" no", " yes")},
    "zh": {"heading": "异常：", "separator": "；", "end": "。", "none": "无", "answers": ("否", "是")},
}


class Opened(NamedTuple):
    """
    A text, taken apart.

    Args:
        line (`str`, *optional*):
            The findings line, without the line break after it; `None` for a text without one.
        labels (`tuple[int, ...]`, *optional*):
            The 18 labels that the line states, 0 or 1; `None` if there is no line, or if it is malformed.
        report (`str`):
            The text after the line. A malformed line is no part of it either.
    """

    line: str | None
    labels: tuple[int, ...] | None
    report: str


def write_line(labels: Sequence[int], kind: str, language: str = "en") -> str:
    """
    The findings line of a scan.

    Args:
        labels (`Sequence[int]`):
            The 18 labels in the official order, 0 or 1.
        kind (`str`):
            `"names"` or `"yes_no"`.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`.
    """
    words, names = _WORDS[language], NAMES[language]
    if kind == "yes_no":
        entries = [names[label] + words["answers"][value] for label, value in zip(LABELS, labels, strict=True)]
    else:
        entries = [names[label] for label, value in zip(LABELS, labels, strict=True) if value] or [words["none"]]
    return words["heading"] + words["separator"].join(entries) + words["end"]


def open_text(text: str) -> Opened:
    """Takes the findings line off a text, whatever its kind and language are."""
    for language, words in _WORDS.items():
        if text.startswith(words["heading"]):
            line, _, report = text.partition("\n")
            return Opened(line, _read_line(line, language), report.lstrip())
    return Opened(None, None, text)


def report_of(turn: Mapping) -> str:
    """The report in a turn of the assistant, without a findings line; see [`~ct_rate_pairs.reports.texts.text_of`]."""
    return open_text(text_of(turn)).report


def _read_line(line: str, language: str) -> tuple[int, ...] | None:
    """The labels that a line states; `None` if it is not exactly as [`write_line`] writes one."""
    words, names = _WORDS[language], NAMES[language]
    entries = line.removeprefix(words["heading"]).removesuffix(words["end"]).split(words["separator"])
    yes = words["answers"][True]
    for kind, stated in (("names", set(entries)), ("yes_no", {entry.removesuffix(yes) for entry in entries})):
        labels = tuple(int(names[label] in stated) for label in LABELS)
        if line == write_line(labels, kind, language):
            return labels
    return None
