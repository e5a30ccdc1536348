"""On which side of the chest and in which lobes a report places a finding of the lungs or the pleura."""

import re
from functools import lru_cache
from typing import NamedTuple

from .labels import LABELS
from .rules import label_sentence, split_clauses, split_sentences


# Findings that have a side. "Left" in a sentence on the heart or the arteries is part of a name: the left ventricle.
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
# Beside these words a side belongs to another organ.
_SIDE = re.compile(
    r"\b(right|left|both|bilateral(?:ly)?)\b"
    r"(?! (?:\w+ )?(?:atri|ventric|main|coronar|heart|kidney|renal|adrenal|breast|axill|thyroid|hepat|subclav|jugular|"
    r"brachio|shoulder|ribs?\b|iliac|hil|lobes? of the (?:liver|thyroid)))"
)
_LEVELS = r"(?:upper|middle|lower)(?:(?:,| and|, and|-| or)? ?(?:upper|middle|lower))*"
_SIDE_FIRST = re.compile(
    rf"\b(?P<side>right|left|both|bilateral)(?: lungs?| hemithorax)?,? (?:the )?(?P<levels>{_LEVELS}) lobes?\b"
)
_LOBE_FIRST = re.compile(
    rf"\b(?P<levels>{_LEVELS}) lobes? (?:\w+ segments? )?(?:of|in) (?:the )?(?P<side>right|left|both)\b"
)
_LOBE = re.compile(r"\b(?:upper|middle|lower) lobes?\b")


class Place(NamedTuple):
    """Where a report places one finding; what it does not say, or not clearly, is left open."""

    side: str  # one of `SIDES`
    lobes: frozenset[str]  # of `LOBES`; empty where not all of them are said


class Said(NamedTuple):
    """What one clause says of the place of one finding."""

    label: int
    sides: frozenset[str] | None  # of "right" and "left"; `None` where it does not say all, or not of which finding
    lobes: frozenset[str] | None  # `None` where it names a side without a lobe, or a lobe without a side


def places(text: str) -> dict[int, Place]:
    """
    Read where a report places its findings.

    A clause that states two such findings and names both sides does not say which lies where, and leaves the place of
    both open.

    Args:
        text (`str`):
            Findings, impression or both.

    Returns:
        `dict[int, Place]`: the places by the index of the label, of the findings of `LATERAL` that have a side.
    """
    of_label: dict[int, list[Said]] = {}
    for sentence in split_sentences(text):
        for said in _read_sentence(sentence):
            of_label.setdefault(said.label, []).append(said)
    return {label: place for label, said in of_label.items() if (place := _join(said))}


def _join(said: list[Said]) -> Place | None:
    """The place that several clauses give one finding."""
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
    """Cached: most sentences come again."""
    sentence = " ".join(sentence.lower().split())
    if not _PLACED.search(sentence):
        # Where it names a part of the lung without its side, what other sentences say is not all.
        return tuple(Said(label, None, None) for label in _lateral(sentence)) if _PART.search(sentence) else ()
    stated = _lateral(sentence)
    clauses = [(clause, _lateral(clause)) for clause in split_clauses(sentence)] if stated else []
    return tuple(
        _read_clause(label, clause, in_clause)
        for label in stated
        # A finding that is stated across clauses has the whole sentence's places.
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
    """Which of `LOBES` a clause in lower case names; `None` when one has no side, or a side that has no such lobe."""
    found, spans = set(), []
    for mark in (*_SIDE_FIRST.finditer(clause), *_LOBE_FIRST.finditer(clause)):
        spans.append(mark.span())
        levels = re.findall("upper|middle|lower", mark["levels"])
        if mark["side"] == "left" and "middle" in levels:
            return None
        found |= {f"{side} {level}" for side in _each(mark["side"]) for level in levels}
    for mark in _LOBE.finditer(clause):
        if any(start <= mark.start() < end for start, end in spans):
            continue
        if not mark[0].startswith("middle"):
            return None
        found.add("right middle")  # only the right lung has one
    if "lingul" in clause:
        found.add("lingula")
    return frozenset(found) - {"left middle"}


def _side_of(lobe: str) -> str:
    return "left" if lobe == "lingula" else lobe.split(maxsplit=1)[0]


def _each(side: str) -> tuple[str, ...]:
    return (side,) if side in ("right", "left") else ("right", "left")
