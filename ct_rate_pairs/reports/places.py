"""Reads on which side and in which lobes a report places the findings of the lungs and the pleura."""

import re
from functools import lru_cache
from typing import NamedTuple

from .labels import LABELS
from .rules import label_sentence, split_clauses
from .sentence_spans import split_sentences


# Indices of the findings that have a side. The heart and the arteries are not among them: in a sentence about them,
# "left" is part of a name, such as the left ventricle.
LATERAL = tuple(
    LABELS.index(label)
    for label in (
        *("Emphysema", "Atelectasis", "Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion"),
        *("Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening"),
    )
)
SIDES = ("right", "left", "both")
LOBES = ("right upper", "right middle", "right lower", "left upper", "lingula", "left lower")

_PLACED = re.compile(r"\b(?:right|left|both|bilateral(?:ly)?|lingul\w*|middle lobes?)\b")
_PART = re.compile(r"\b(?:lobes?|segments?|apex|apical|apices|basal)\b")
# A side before one of these words belongs to another organ.
_SIDE = re.compile(
    r"\b(right|left|both|bilateral(?:ly)?)\b"
    r"(?! (?:\w+ )?(?:atri|ventric|main|coronar|heart|kidney|renal|adrenal|breast|axill|thyroid|hepat|subclav|jugular|"
    r"brachio|shoulder|ribs?\b|iliac|hil|lobes? of the (?:liver|thyroid)))"
)
_LEVELS = r"(?:upper|middle|lower)(?:(?:,| and|, and|-| or)? ?(?:upper|middle|lower)){0,5}"
_SIDE_FIRST = re.compile(
    rf"\b(?P<side>right|left|both|bilateral)(?: lungs?| hemithorax)?,? (?:the )?(?P<levels>{_LEVELS}) lobes?\b"
)
_LOBE_FIRST = re.compile(
    rf"\b(?P<levels>{_LEVELS}) lobes? (?:\w+ segments? )?(?:of|in) (?:the )?(?P<side>right|left|both)\b"
)
_LOBE = re.compile(r"\b(?:upper|middle|lower) lobes?\b")


class Place(NamedTuple):
    """The place of one finding, as far as a report says it clearly."""

    side: str  # one of `SIDES`
    lobes: frozenset[str]  # some of `LOBES`; empty if the report does not clearly name all of them


class Said(NamedTuple):
    """What one clause says about the place of one finding."""

    label: int  # index in `LABELS`
    sides: frozenset[str] | None  # "right", "left" or both; `None` if the clause does not clearly name all sides
    lobes: frozenset[str] | None  # some of `LOBES`; `None` if a side has no lobe, or a lobe has no side


def places(text: str) -> dict[int, Place]:
    """
    Reads where a report places its findings.

    A clause that states two findings and names both sides does not say which finding lies on which side. The places of
    both findings are then unknown.

    Args:
        text (`str`):
            Findings, impression or both.

    Returns:
        `dict[int, Place]`: index of a finding in `LABELS` -> its place, for the findings of `LATERAL` with a known
        side.
    """
    of_label: dict[int, list[Said]] = {}
    for sentence in split_sentences(text):
        for said in _read_sentence(sentence):
            of_label.setdefault(said.label, []).append(said)
    return {label: place for label, said in of_label.items() if (place := _join(said))}


def _join(said: list[Said]) -> Place | None:
    """The place of one finding that all its clauses give together; `None` if it is unknown."""
    if any(clause.sides is None for clause in said):
        return None
    sides = frozenset().union(*(clause.sides for clause in said))
    if not sides:
        return None
    clear = all(clause.lobes is not None for clause in said)
    lobes = frozenset().union(*(clause.lobes for clause in said)) if clear else frozenset()
    return Place("both" if len(sides) > 1 else next(iter(sides)), lobes)


@lru_cache(maxsize=1 << 16)
def _read_sentence(sentence: str) -> tuple[Said, ...]:
    """What the clauses of a sentence say. Cached, because most sentences occur many times."""
    sentence = " ".join(sentence.lower().split())
    if not _PLACED.search(sentence):
        # A part of the lung without its side: the places in other sentences are then not all places of the finding.
        return tuple(Said(label, None, None) for label in _lateral(sentence)) if _PART.search(sentence) else ()
    stated = _lateral(sentence)
    clauses = [(clause, _lateral(clause)) for clause in split_clauses(sentence)] if stated else []
    return tuple(
        _read_clause(label, clause, in_clause)
        for label in stated
        # A finding that no single clause states has the places of the whole sentence.
        for clause, in_clause in [c for c in clauses if label in c[1]] or [(sentence, stated)]
    )


def _read_clause(label: int, clause: str, in_clause: list[int]) -> Said:
    lobes = named_lobes(clause)
    sides = {side for mark in _SIDE.finditer(clause) for side in _each(mark[1])} | {
        _side_of(lobe) for lobe in lobes or ()
    }
    if len(in_clause) > 1 and len(sides) > 1:
        return Said(label, None, None)
    if lobes is not None and {_side_of(lobe) for lobe in lobes} != sides:
        lobes = None
    return Said(label, frozenset(sides), lobes)


def _lateral(text: str) -> list[int]:
    return [label for label in label_sentence(text) if label in LATERAL]


def named_lobes(clause: str) -> frozenset[str] | None:
    """The lobes that a lower-case clause names; `None` if a lobe has no side, or is a left middle lobe."""
    found, read = set(), set()
    for mark in (*_SIDE_FIRST.finditer(clause), *_LOBE_FIRST.finditer(clause)):
        read.update(range(*mark.span()))
        levels = re.findall("upper|middle|lower", mark["levels"])
        if mark["side"] == "left" and "middle" in levels:
            return None
        found |= {f"{side} {level}" for side in _each(mark["side"]) for level in levels}
    for mark in _LOBE.finditer(clause):
        if mark.start() in read:
            continue
        if not mark[0].startswith("middle"):
            return None
        found.add("right middle")  # only the right lung has a middle lobe
    if "lingul" in clause:
        found.add("lingula")
    return frozenset(found) - {"left middle"}


def _side_of(lobe: str) -> str:
    return "left" if lobe == "lingula" else lobe.split(maxsplit=1)[0]


def _each(side: str) -> tuple[str, ...]:
    return (side,) if side in ("right", "left") else ("right", "left")
