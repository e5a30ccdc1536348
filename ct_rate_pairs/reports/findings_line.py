"""
The findings line: one line before a report that states which of the 18 labels the scan has. A model that writes it
decides on the findings before it words them.

- `"names"`: `Abnormalities: Cardiomegaly; Pleural effusion.` or `Abnormalities: none.`, in Chinese
  `异常：心脏增大；胸腔积液。` or `异常：无。`.
- `"yes_no"`: all 18 labels in the official order, `Abnormalities: Medical material no; Cardiomegaly yes; ….`, in
  Chinese `异常：医疗材料否；心脏增大是；…。`.
- `"sides"`: the same, but the ten findings of the lungs and the pleura are answered with their side instead of yes:
  `Abnormalities and sides: …; Lung nodule right; Pleural effusion both; ….`, in Chinese
  `异常及侧别：…；肺结节右；胸腔积液双；…。`. The answer is yes if the report does not clearly tell the side.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from .labels import LABELS, NAMES
from .places import LATERAL, SIDES
from .texts import text_of


FINDINGS_LINES = ("none", "names", "yes_no", "sides")
END = len(LABELS)  # the entry that ends a line of names, among the indices of the labels

_WORDS = {
    "en": {
        "heading": {"names": "Abnormalities: ", "yes_no": "Abnormalities: ", "sides": "Abnormalities and sides: "},
        "separator": "; ",
        "end": ".",
        "none": "none",
        "answers": {0: " no", 1: " yes", "right": " right", "left": " left", "both": " both"},
    },
    "zh": {
        "heading": {"names": "异常：", "yes_no": "异常：", "sides": "异常及侧别："},
        "separator": "；",
        "end": "。",
        "none": "无",
        "answers": {0: "否", 1: "是", "right": "右", "left": "左", "both": "双"},
    },
}


class Opened(NamedTuple):
    """
    A text, taken apart.

    Args:
        line (`str`, *optional*):
            The findings line, or what stands in its place, without the line break after it; `None` for a text without
            one.
        labels (`tuple[int, ...]`, *optional*):
            The 18 labels that the line states, 0 or 1; `None` if there is no line, or if it is malformed.
        report (`str`):
            The text after the line.
    """

    line: str | None
    labels: tuple[int, ...] | None
    report: str


class Named(NamedTuple):
    """Findings that a reader has named: the 18 labels, 0 or 1, and the sides of those whose side is named, too."""

    labels: tuple[int, ...]
    sides: dict[int, str]


class _Line(NamedTuple):
    """What a sound findings line states, and its form."""

    labels: tuple[int, ...]
    sides: dict[int, str]
    kind: str
    language: str


def write_line(labels: Sequence[int], kind: str, language: str = "en", sides: Mapping[int, str] | None = None) -> str:
    """
    The findings line of a scan.

    Args:
        labels (`Sequence[int]`):
            The 18 labels in the official order, 0 or 1.
        kind (`str`):
            `"names"`, `"yes_no"` or `"sides"`.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`.
        sides (`Mapping[int, str]`, *optional*):
            For `"sides"`: the known sides of findings, by their index in `LABELS`: `"right"`, `"left"` or `"both"`.
            That of a label which the scan does not have is not read.
    """
    words, names = _WORDS[language], NAMES[language]
    known = {i: side for i, side in (sides or {}).items() if kind == "sides" and i in LATERAL and labels[i]}
    if kind == "names":
        entries = [names[label] for label, value in zip(LABELS, labels, strict=True) if value] or [words["none"]]
    else:
        answers = [words["answers"][known.get(i, value)] for i, value in enumerate(labels)]
        entries = [names[label] + answer for label, answer in zip(LABELS, answers, strict=True)]
    return words["heading"][kind] + words["separator"].join(entries) + words["end"]


def findings_named(names: Sequence[str]) -> Named:
    """
    The 18 labels: 1 for those in `names`, 0 for the others. A name may end with a side, as `"Lung nodule right"`, and
    may be in upper or lower case.

    Raises:
        `ValueError`: for a text in the place of a list, for a name that is no label, and for the side of a finding
            that has none. The message has similar names.
    """
    if isinstance(names, str):
        raise ValueError(f"findings={names!r} is one text: give a list of labels, such as ['Cardiomegaly'].")
    found = [0] * len(LABELS)
    sides = {}
    for name in map(str, names):
        label, _, side = name.capitalize().rpartition(" ")  # as labels are written
        if side not in SIDES:
            label, side = name.capitalize(), ""
        if label not in LABELS:
            near = get_close_matches(label, LABELS)
            told = f"is {' or '.join(near)} meant?" if near else f"they are {', '.join(LABELS)}"
            raise ValueError(f"findings: {name!r} is none of the 18 labels ({told}).")
        index = LABELS.index(label)
        found[index] = 1
        if side and index not in LATERAL:
            raise ValueError(
                f"findings: {name!r} has a side, which only findings of the lungs and the pleura have. Leave it out."
            )
        if side:
            sides[index] = side
    return Named(tuple(found), sides)


def open_text(text: str, with_line: bool = False) -> Opened:
    """
    Takes the findings line off a text, whatever its kind and language are.

    Args:
        text (`str`):
            The text.
        with_line (`bool`, *optional*, defaults to `False`):
            Whether a model wrote the text that was trained to open its reports with a findings line. Such a text loses
            its first line, whatever it is: a damaged line must not be scored as text. By default, only a sound line is
            taken off, because a report by anybody else may also open with `Abnormalities:`.
    """
    line, _, report = text.partition("\n")
    read = _read_line(line)
    if not line or not (with_line or read):
        return Opened(None, None, text)
    return Opened(line, read and read.labels, report.lstrip())


def form_of(line: str) -> tuple[str, str] | None:
    """Kind and language of a findings line; `None` if it is malformed."""
    read = _read_line(line)
    return (read.kind, read.language) if read else None


def sides_of(line: str) -> dict[int, str]:
    """The sides that a findings line states, by the indices of their labels; empty for a line without sides."""
    read = _read_line(line)
    return read.sides if read else {}


def stating_entries(line: str) -> dict[int, tuple[int, int]]:
    """
    Where a findings line states labels: the index in `LABELS` of each label that the line states -> the first
    character of its entry, and the character after it. Empty for a malformed line.
    """
    if not (read := _read_line(line)):
        return {}
    words, names = _WORDS[read.language], NAMES[read.language]
    entries, start = {}, len(words["heading"][read.kind])
    for entry in line[start:].removesuffix(words["end"]).split(words["separator"]):
        entries[entry] = start, start + len(entry)
        start += len(entry) + len(words["separator"])
    answers = {i: "" if read.kind == "names" else words["answers"][read.sides.get(i, 1)] for i in range(len(LABELS))}
    return {i: entries[names[label] + answers[i]] for i, label in enumerate(LABELS) if read.labels[i]}


def decisions(
    labels: Sequence[int], kind: str, language: str = "en", sides: Mapping[int, str] | None = None
) -> list[dict[int | str, str]]:
    """
    The decisions that a line is made of, in the order in which it is written, with the line that each choice leads to.

    Args:
        labels (`Sequence[int]`):
            The 18 labels that the line states, 0 or 1.
        kind (`str`), language (`str`, *optional*, defaults to `"en"`), sides (`Mapping[int, str]`, *optional*):
            As in [`write_line`].

    Returns:
        `list[dict[int | str, str]]`: one entry per decision. For `"yes_no"` and `"sides"`, the 18 labels in the
        official order, each with the lines in which it has the value 0 or 1, or for `"sides"` also a side (`"right"`,
        `"left"` or `"both"`), and the other labels are as stated. For `"names"`, one entry per boundary, before the
        first name and after each: the lines that end with the next name, by its index in `LABELS`, or end without one,
        by `END`. Lines are in the official order, so only later labels may follow.
    """
    if kind != "names":
        sides = sides or {}
        without = [{other: side for other, side in sides.items() if other != i} for i in range(len(LABELS))]
        with_value = [[(*labels[:i], value, *labels[i + 1 :]) for value in (0, 1)] for i in range(len(LABELS))]
        found = [
            dict(enumerate(write_line(each, kind, language, known) for each in pair))
            for pair, known in zip(with_value, without, strict=True)
        ]
        for i in LATERAL if kind == "sides" else ():
            found[i] |= {side: write_line(with_value[i][1], kind, language, without[i] | {i: side}) for side in SIDES}
        return found
    found, stated = [], [index for index, value in enumerate(labels) if value]
    for count in range(len(stated) + 1):
        before = stated[:count]
        later = range(before[-1] + 1 if before else 0, len(LABELS))
        sets = {END: before} | {index: [*before, index] for index in later}
        vectors = {entry: [int(index in named) for index in range(len(LABELS))] for entry, named in sets.items()}
        found.append({entry: write_line(vector, kind, language) for entry, vector in vectors.items()})
    return found


def report_of(turn: Mapping) -> str:
    """The report in a turn of a row, without a findings line; see [`~ct_rate_pairs.reports.texts.text_of`]."""
    return open_text(text_of(turn)).report


def _read_line(line: str) -> _Line | None:
    """What a line states; `None` if it is not exactly as [`write_line`] writes one."""
    for language, words in _WORDS.items():
        names = NAMES[language]
        for kind, heading in words["heading"].items():
            if not line.startswith(heading):
                continue
            entries = set(line.removeprefix(heading).removesuffix(words["end"]).split(words["separator"]))
            answers = {0: ""} if kind == "names" else {value: words["answers"][value] for value in (1, *SIDES)}
            stated = {
                i: value
                for i, label in enumerate(LABELS)
                for value, answer in answers.items()
                if names[label] + answer in entries
            }
            labels = tuple(int(i in stated) for i in range(len(LABELS)))
            sides = {i: value for i, value in stated.items() if value in SIDES}
            if line == write_line(labels, kind, language, sides):
                return _Line(labels, sides, kind, language)
    return None
