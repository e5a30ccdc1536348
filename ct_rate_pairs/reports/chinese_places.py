"""
On which side and in which lobe a Chinese sentence places a finding. [`~ct_rate_pairs.reports.places.places`] calls it
for sentences in Chinese letters.
"""

import re

from .chinese_rules import Stated


_LEVELS = {"上": "upper", "中": "middle", "下": "lower"}
_SIDES = {"左": ("left",), "右": ("right",), "双": ("right", "left"), "两": ("right", "left")}
# "右肺上叶", "右上肺", "双肺下叶", "右肺上、中叶", "上叶" behind a side, "左肺舌段", "双侧", "右肺"
_PLACE = re.compile(
    r"(?P<side>[左右双两])?侧?肺?(?P<levels>[上中下](?:[、及和与]?[上中下]){0,2})(?:肺(?!门)|叶)(?P<tongue>舌[段叶])?|"
    r"左?侧?肺?(?P<lingula>舌[段叶])|(?P<alone>[左右双两])(?:侧|肺(?!门)|(?=胸))"
)
_JOIN = re.compile(r"[、，及和与以并或]{0,2}(?:[尖前后内外基底背段亚侧]*段?)?[、及和与以并或]{0,2}")


def read_place(stated: Stated) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """
    The sides and the lobes of a stated finding, as the words before it name them: "right", "left" or both; names of
    [`~ct_rate_pairs.reports.places.LOBES`]. The places of one finding follow each other with joining words between.

    Returns:
        `tuple`: the sides, empty if none is named; the lobes, `None` if a side has no lobe.
    """
    marks = list(_PLACE.finditer(stated.clause, 0, stated.place))
    if not marks:
        return frozenset(), None
    own = [marks[-1]]
    for mark in marks[-2::-1]:
        if not _JOIN.fullmatch(stated.clause, mark.end(), own[0].start()):
            break
        own.insert(0, mark)
    sides: set[str] = set()
    lobes: set[str] = set()
    before: tuple[str, ...] = ()  # the sides of the place before
    whole = False  # whether a side is named without a lobe
    for mark, following in zip(own, [*own[1:], None], strict=True):
        named = _SIDES.get(mark["side"] or mark["alone"] or "")
        if mark["lingula"] or mark["tongue"]:
            lobes.add("lingula")
            sides.add("left")
        elif mark["levels"]:
            named = named or before
            if not named and mark["levels"] != "中":
                return None, None  # a lobe without a side
            levels = [_LEVELS[letter] for letter in mark["levels"] if letter in _LEVELS]
            # Only the right lung has a middle lobe.
            of_mark = {f"{side} {level}" for side in named or ("right",) for level in levels} - {"left middle"}
            lobes |= of_mark
            sides |= {lobe.split()[0] for lobe in of_mark}
        else:
            sides |= set(named)
            whole = whole or not (following and following["levels"] and not following["side"])
        before = named or before
    return frozenset(sides), None if whole or not lobes else frozenset(lobes)


def names_place(sentence: str) -> tuple[bool, bool]:
    """Whether a sentence has a word for a side, and whether it has one for a part of a lung."""
    marks = list(_PLACE.finditer(sentence))
    sides = any(mark["side"] or mark["alone"] or mark["lingula"] for mark in marks)
    return sides, any(mark["levels"] or mark["lingula"] for mark in marks)
