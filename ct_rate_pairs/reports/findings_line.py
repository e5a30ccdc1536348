"""
The findings line: one line before a report that states which of the 18 labels the scan has. A model that writes it
decides on the findings before it words them.

- `"names"`: `Abnormalities: Cardiomegaly; Pleural effusion.` or `Abnormalities: none.`, in Chinese
  `异常：心脏增大；胸腔积液。` or `异常：无。`.
- `"yes_no"`: all 18 labels in the official order, `Abnormalities: Medical material no; Cardiomegaly yes; ….`, in
  Chinese `异常：医疗材料否；心脏增大是；…。`.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from .labels import LABELS, NAMES
from .texts import text_of


FINDINGS_LINES = ("none", "names", "yes_no")

_WORDS = {
    "en": {"heading": "Abnormalities: ", "separator": "; ", "end": ".", "none": "none", "answers": (" no", " yes")},
    "zh": {"heading": "异常：", "separator": "；", "end": "。", "none": "无", "answers": ("否", "是")},
}


END = len(LABELS)  # the entry that ends a line of names, among the indices of the labels


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


def labels_named(names: Sequence[str]) -> tuple[int, ...]:
    """
    The 18 labels: 1 for those in `names`, 0 for the others.

    Raises:
        `ValueError`: for a text in the place of a list, and for a name that is no label. The message has similar
            names.
    """
    if isinstance(names, str):
        raise ValueError(f"findings={names!r} is one text: give a list of labels, such as ['Cardiomegaly'].")
    for name in names:
        if name not in LABELS:
            near = get_close_matches(str(name), LABELS)
            told = f"is {' or '.join(near)} meant?" if near else f"they are {', '.join(LABELS)}"
            raise ValueError(f"findings: {name!r} is none of the 18 labels ({told}).")
    return tuple(int(label in names) for label in LABELS)


def open_text(text: str) -> Opened:
    """Takes the findings line off a text, whatever its kind and language are."""
    for language, words in _WORDS.items():
        if text.startswith(words["heading"]):
            line, _, report = text.partition("\n")
            read = _read_line(line, language)
            return Opened(line, read and read[0], report.lstrip())
    return Opened(None, None, text)


def form_of(line: str) -> tuple[str, str] | None:
    """Kind and language of a findings line; `None` if it is malformed."""
    read = next((_read_line(line, words) for words in _WORDS if line.startswith(_WORDS[words]["heading"])), None)
    return read[1:] if read else None


def stating_entries(line: str) -> dict[int, tuple[int, int]]:
    """
    Where a findings line states labels: the index in `LABELS` of each label that the line states -> the first
    character of its entry, and the character after it. Empty for a malformed line.
    """
    if not (form := form_of(line)):
        return {}
    kind, language = form
    words, names = _WORDS[language], NAMES[language]
    stated, start = {}, len(words["heading"])
    for entry in line[start:].removesuffix(words["end"]).split(words["separator"]):
        name = entry.removesuffix(words["answers"][True]) if kind == "yes_no" else entry
        if label := next((label for label in LABELS if names[label] == name), None):
            stated[LABELS.index(label)] = start, start + len(entry)
        start += len(entry) + len(words["separator"])
    return stated


def decisions(labels: Sequence[int], kind: str, language: str = "en") -> list[dict[int, str]]:
    """
    The decisions that a line is made of, in the order in which it is written, with the line that each choice leads to.

    Args:
        labels (`Sequence[int]`):
            The 18 labels that the line states, 0 or 1.
        kind (`str`), language (`str`, *optional*, defaults to `"en"`):
            As in [`write_line`].

    Returns:
        `list[dict[int, str]]`: one entry per decision. For `"yes_no"`, the 18 labels in the official order, each with
        the lines in which it has the value 0 or 1, and the other labels are as stated. For `"names"`, one entry per
        boundary, before the first name and after each: the lines that end with the next name, by its index in
        `LABELS`, or end without one, by `END`. Lines are in the official order, so only later labels may follow.
    """
    if kind == "yes_no":
        with_value = [[(*labels[:i], value, *labels[i + 1 :]) for value in (0, 1)] for i in range(len(LABELS))]
        return [dict(enumerate(write_line(each, kind, language) for each in pair)) for pair in with_value]
    found, stated = [], [index for index, value in enumerate(labels) if value]
    for count in range(len(stated) + 1):
        before = stated[:count]
        later = range(before[-1] + 1 if before else 0, len(LABELS))
        sets = {END: before} | {index: [*before, index] for index in later}
        vectors = {entry: [int(index in named) for index in range(len(LABELS))] for entry, named in sets.items()}
        found.append({entry: write_line(vector, kind, language) for entry, vector in vectors.items()})
    return found


def report_of(turn: Mapping) -> str:
    """The report in a turn of the assistant, without a findings line; see [`~ct_rate_pairs.reports.texts.text_of`]."""
    return open_text(text_of(turn)).report


def _read_line(line: str, language: str) -> tuple[tuple[int, ...], str, str] | None:
    """Labels, kind and language of a line; `None` if it is not exactly as [`write_line`] writes one."""
    words, names = _WORDS[language], NAMES[language]
    entries = line.removeprefix(words["heading"]).removesuffix(words["end"]).split(words["separator"])
    yes = words["answers"][True]
    for kind, stated in (("names", set(entries)), ("yes_no", {entry.removesuffix(yes) for entry in entries})):
        labels = tuple(int(names[label] in stated) for label in LABELS)
        if line == write_line(labels, kind, language):
            return labels, kind, language
    return None
