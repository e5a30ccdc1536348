"""Reads on which side and in which lobes a report places the findings of the lungs and the pleura."""

import re
from functools import lru_cache
from typing import NamedTuple

from .chinese_places import names_place as chinese_names_place
from .chinese_places import read_place as read_chinese_place
from .chinese_rules import stated_findings
from .clauses import split_clauses
from .labels import LABELS
from .negations import negated_spans, outside
from .readable import is_chinese
from .rules import label_sentence
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

_SHORT = {"rul": "right upper", "rml": "right middle", "rll": "right lower", "lul": "left upper", "lll": "left lower"}
# Short and rare forms of places, and the forms that are read below
_PLAIN_FORMS = tuple(
    (re.compile(form), plain)
    for form, plain in (
        *((rf"\b{short}\b", f"{long} lobe") for short, long in _SHORT.items()),
        (r"\b(?:right (?:and|&) (?:the )?left|left (?:and|&) (?:the )?right)\b", "bilateral"),
        (r"\bbi-?(?=(?:basilar|basal|apical)\b)", "bilateral "),
        (r"(?<=lobes) bilaterally\b", " of both lungs"),
        # "Two nodules, both in the left lung" names one side.
        (r"\bboth(?= (?:in|on|at|of (?:them|which|these|those)|are|were|measur\w+)\b)", "two"),
        # "A shift of the mediastinum to the right" is no place of a finding.
        (r"\b(?:shift|deviat|displace)\w* (?:\w+ ){0,4}?to(?:wards?)? the (?:right|left)\b", "shift"),
    )
)
_PLACED = re.compile(r"\b(?:right|left|both|bilateral(?:ly)?|lingul\w*|middle lobes?)\b")
_PART = re.compile(r"\b(?:lobes?|segments?|apex|apical|apices|basal)\b")
# A side before one of these words belongs to another organ, or to an operation.
_SIDE = re.compile(
    r"\b(right|left|both|bilateral(?:ly)?)\b"
    r"(?![ -](?:\w+ )?(?:atri|ventric|main|coronar|heart|kidney|renal|adrenal|breast|mastectom|axill|thyroid|hepat|"
    r"subclav|jugular|carotid|brachio|shoulder|ribs?\b|humer|clavic|scapul|pectoral|iliac|hil|(?:hemi)?diaphragm|"
    r"paratrach|(?:bi)?lobectom|pneumonectom|lobes? of the (?:liver|thyroid)))"
)
# "More prominent on the right" does not say that the finding is on the right alone.
_MOST = re.compile(
    r"\b(?:more|most|especially|particularly|predominantly|mostly|mainly|prominent)(?: [\w-]+){0,3}? (?:on|in|at) "
    r"(?:the )?$"
)
_LEVELS = r"(?:upper|middle|lower)(?:(?:,| and|, and|-| or)? ?(?:upper|middle|lower)){0,5}"
_SIDE_FIRST = re.compile(
    rf"\b(?P<side>right|left|both|bilateral)(?: lungs?| hemithorax)?,?[ -](?:the )?(?P<levels>{_LEVELS}) lobes?\b"
    r"(?! bronch)"
)
# Also "the upper lobe anterior segment and lower lobe of the right lung"
_LOBE_FIRST = re.compile(
    rf"\b(?:(?P<others>{_LEVELS}) lobes? (?:(?!of |in |right|left|both)\w+ ){{0,3}}(?:and|or) (?:in )?(?:the )?)?"
    rf"(?P<levels>{_LEVELS}) lobes? (?:\w+ segments? )?(?:of|in) (?:the )?(?P<side>right|left|both|bilateral)\b"
)
_LOBE = re.compile(r"\b(?:upper|middle|lower) lobes?\b(?! bronch)")
_RIGHT_LINGULA = re.compile(r"\bright (?:lung )?(?:upper lobe )?(?:\w+ )?lingul")  # only the left lung has a lingula
# What may stand between two findings of a clause, or between two places
_LINK = re.compile(r"\s*,(?!(?<=\d,)\d)\s*(?:and\s)?|\s(?:and|with)\s")


class Place(NamedTuple):
    """The place of one finding, as far as a report says it clearly."""

    side: str  # one of `SIDES`
    lobes: frozenset[str]  # some of `LOBES`; empty if the report does not clearly name all of them


class Said(NamedTuple):
    """What one clause says about the place of one finding."""

    label: int  # index in `LABELS`
    sides: frozenset[str] | None  # "right", "left" or both; `None` if the clause does not clearly name all sides
    lobes: frozenset[str] | None  # some of `LOBES`; `None` if a side has no lobe, or a lobe has no side


class Item(NamedTuple):
    """A part of a clause: some findings, and the places that stand behind them up to the next finding."""

    text: str
    labels: frozenset[int]  # indices in `LABELS`; empty for a place that stands before all findings of the clause


def places(text: str) -> dict[int, Place]:
    """
    Reads where a report places its findings.

    If a clause states several findings, a place belongs to the findings before it: "an effusion on the right and a
    nodule in the left lung", "atelectasis and scars in both lungs". If a clause begins with a place and names no other
    side, this side is that of all its findings. Other clauses do not say which finding lies on which side. Their sides
    are unknown, and so are the places of these findings, unless the other clauses name both sides.

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


def names_place(sentence: str) -> tuple[bool, bool]:
    """
    Whether a sentence has a word for a side, and whether it has one for a part of a lung. [`places`] need not
    understand these words: they may belong to another organ, or to a finding that is not in `LATERAL`.
    """
    if not sentence.isascii() and is_chinese(sentence):
        return chinese_names_place(sentence)
    sentence = _plainly(sentence)
    return bool(_PLACED.search(sentence)), bool(_PART.search(sentence))


def _join(said: list[Said]) -> Place | None:
    """The place of one finding that all its clauses give together; `None` if it is unknown."""
    sides = frozenset().union(*(clause.sides or () for clause in said))
    # A clause with unknown sides can add none to both.
    if not sides or (len(sides) == 1 and any(clause.sides is None for clause in said)):
        return None
    clear = all(clause.lobes is not None for clause in said)
    lobes = frozenset().union(*(clause.lobes for clause in said)) if clear else frozenset()
    return Place("both" if len(sides) > 1 else next(iter(sides)), lobes)


@lru_cache(maxsize=1 << 16)
def _read_sentence(sentence: str) -> tuple[Said, ...]:
    """What the clauses of a sentence say. Cached, because most sentences occur many times."""
    if not sentence.isascii() and is_chinese(sentence):
        found = stated_findings(sentence)
        said = [Said(stated.label, *read_chinese_place(stated)) for stated in found if stated.label in LATERAL]
        return tuple(place for place in said if place.sides is None or place.sides)
    sentence = _plainly(sentence)
    if not _PLACED.search(sentence):
        # A part of the lung without its side: the places in other sentences are then not all places of the finding.
        return tuple(Said(label, None, None) for label in _lateral(sentence)) if _PART.search(sentence) else ()
    stated = _lateral(sentence)
    clauses = [(clause, _lateral(clause)) for clause in split_clauses(sentence)] if stated else []
    return tuple(
        said
        for label in stated
        # A finding that no single clause states has the places of the whole sentence.
        for clause in [clause for clause, in_clause in clauses if label in in_clause] or [sentence]
        for said in _read_clause(label, clause)
    )


def _plainly(sentence: str) -> str:
    """A sentence in lower case, with the plain forms of its places."""
    sentence = " ".join(sentence.lower().split())
    for form, plain in _PLAIN_FORMS:
        sentence = form.sub(plain, sentence)
    return sentence


def _lateral(text: str) -> list[int]:
    return [label for label in label_sentence(text) if label in LATERAL]


def _read_clause(label: int, clause: str) -> list[Said]:
    """What a clause says about the place of one of its findings."""
    whole, unclear = _read_place(label, clause), Said(label, None, None)
    stated = frozenset(label_sentence(clause))
    if len(stated) < 2 or not whole.sides:
        return [whole]
    if "respectively" in clause:
        return [unclear]
    items = _items(clause, stated)
    if not items[0].labels:
        place = _read_place(label, items[0].text)
        if place.sides != whole.sides or (len(whole.sides) > 1 and _names_one_side(clause[len(items[0].text) :])):
            return [unclear]
        return [place if place.lobes == whole.lobes else place._replace(lobes=None)]
    said = []
    for item in items:
        if label in item.labels:
            place = _read_place(label, item.text)
            if place.sides is not None and not place.sides:
                # The last finding may have no place of its own: "an effusion on the left and adjacent atelectasis".
                beside = len(whole.sides) == 1 and not _PLACED.search(item.text)
                place = Said(label, whole.sides, None) if beside else unclear
            elif place.sides and len(place.sides) > 1 and len(item.labels) > 1 and _names_one_side(item.text):
                place = unclear
            said.append(place)
    return said


def _items(clause: str, stated: frozenset[int]) -> list[Item]:
    """The findings of a clause with their places."""
    items: list[Item] = []
    start, labels, begin = 0, frozenset(), 0
    for mark in [*_LINK.finditer(clause), None]:
        end = mark.start() if mark else len(clause)
        more = stated & frozenset(label_sentence(clause[begin:end]))
        if more and _PLACED.search(clause, start, begin):  # a finding behind a place begins a new item
            items.append(Item(clause[start:begin], labels))
            start, labels = begin, frozenset()
        labels |= more
        begin = mark.end() if mark else end
    items.append(Item(clause[start:], labels))
    # A finding whose words are no finding without the words around them might have any of the places.
    return items if stated == frozenset().union(*(item.labels for item in items)) else [Item(clause, stated)]


def _read_place(label: int, text: str) -> Said:
    """The places that a text names, read as those of one finding."""
    marks = list(_SIDE.finditer(text))
    if _RIGHT_LINGULA.search(text) or (marks and all(_MOST.search(text, 0, mark.start()) for mark in marks)):
        return Said(label, None, None)
    if len({mark[1] for mark in marks}) > 1:
        denied = negated_spans(text)  # "an effusion on the left, none on the right"
        marks = [mark for mark in marks if outside(mark.start(), denied)] or marks
    lobes = named_lobes(text)
    sides = {side for mark in marks for side in _each(mark[1])} | {_side_of(lobe) for lobe in lobes or ()}
    if not sides and _PART.search(text):
        return Said(label, None, None)
    if lobes is not None and (
        {_side_of(lobe) for lobe in lobes} != sides
        or any(_MOST.search(text, 0, lobe.start()) for lobe in _LOBE.finditer(text))
    ):
        lobes = None
    return Said(label, frozenset(sides), lobes)


def _names_one_side(text: str) -> bool:
    return any(mark[1] in ("right", "left") for mark in _SIDE.finditer(text))


def named_lobes(clause: str) -> frozenset[str] | None:
    """
    The lobes that a lower-case clause names; `None` if a lobe has no side, or is a left middle lobe. A lobe without a
    side has the side named last: "in the right lung upper lobe and lower lobe".
    """
    found, read, lobe_first = set(), set(), list(_LOBE_FIRST.finditer(clause))
    for mark in (*_SIDE_FIRST.finditer(clause), *lobe_first):
        read.update(range(*mark.span()))
        levels = re.findall("upper|middle|lower", " ".join(filter(None, mark.group(*mark.re.groupindex.keys()))))
        if mark["side"] == "left" and "middle" in levels:
            return None
        found |= {f"{side} {level}" for side in _each(mark["side"]) for level in levels}
    last_lobe_first = max((mark.start() for mark in lobe_first), default=-1)
    sides = [(mark.start(), mark[1]) for mark in _SIDE.finditer(clause)]
    passed, before = 0, None  # sides before the lobe, and the last of them
    for mark in _LOBE.finditer(clause):
        while passed < len(sides) and sides[passed][0] < mark.start():
            before = sides[passed][1]
            passed += 1
        if mark.start() in read:
            continue
        level = mark[0].split()[0]
        if level == "middle" and not (passed == 1 and before == "left"):
            found.add("right middle")  # only the right lung has a middle lobe
        # Before "the lower lobe of the left lung", a side named earlier may be that of another place.
        elif level == "middle" or mark.start() < last_lobe_first or before not in ("right", "left"):
            return None
        else:
            found.add(f"{before} {level}")
    if "lingul" in clause:
        found.add("lingula")
    return frozenset(found) - {"left middle"}


def _side_of(lobe: str) -> str:
    return "left" if lobe == "lingula" else lobe.split(maxsplit=1)[0]


def _each(side: str) -> tuple[str, ...]:
    return (side,) if side in ("right", "left") else ("right", "left")
