"""
The rule labeler for Chinese: which of the 18 labels a Chinese sentence states.

[`~ct_rate_pairs.reports.rules.label_sentence`] calls it for a sentence in Chinese letters. As in English, a possible
finding ("考虑", "不除外", "？") and an unchanged one count. What is denied, gone, or of an earlier scan only does not.
This file is also shipped beside the `evaluate` scripts.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from .chinese_terms import ORGANS, TERMS
from .labels import LABELS


# A sentence behind one of these headings is not about this scan, or is only a question.
HEADING = re.compile(
    r"\s*(?:\d+[.、．]\s*)?(?:临床(?:诊断|信息|资料|表现|印象)?|(?:现|既往)?病史|主诉|检查(?:目的|方法|技术|部位)|申请(?:目的|单)?|"
    r"扫描(?:方法|技术|参数)|技术|方法|对比(?:检查)?|既往史)[:：]"
)
CLAUSE_END = re.compile(r"[，,；;]|(?<=[^\d.])(?=\d+[、．])")
_CHANGE = r"(?:明显|显著|明确|任何)*(?:变化|改变|进展|好转|吸收|缩小|减少|增多|动态|强化|移位|除外|排除|完全)"
# Negations that reach forward to the end of their clause
NO = re.compile(
    rf"(?:未[见发显及探触出查检提伴有观示]|没有?(?!完全)|并?无(?![名法论创])|不(?:伴|存在|考虑|支持|符合|提示)|否认|缺乏|"
    rf"(?<!不)(?<!能)(?<!未)(?<!待)(?<!法)(?<!可)(?<!已)(?<!被)(?:排除|除外))(?!到?{_CHANGE})"
)
# Where the reach of a forward negation ends: "未见实变，但见结节", "无积液、可见少许索条"
REACH_END = re.compile(
    r"但|而(?!且)|仅|(?<![未没所罕])可?见|可及|(?<![未不无])伴|余[^，,]{0,4}(?:见|示)|、(?=[^、]{0,8}(?:少[量许]|轻[度微]|大量|中等?量|多发))"
)
# Negations that reach back over their clause
_GONE = r"(?:消失|吸收|消散|复张|拔[除出管]|取[出下]|去除|移除|撤[除出]|切除)"
NOT_SEEN = re.compile(
    rf"(?:[未无没](?:再|见|有|发现|再见|见到)?(?:明显|明确|确切)?(?:显示|发现|出现|见到|见|再见)?[。.]?$|未再[显见出])|"
    rf"(?<!未)(?<!部分)(?<!大部)(?<!基本)(?<!较前)(?<!未完全)(?:已|均|完全|全部|现)(?:经|均|完全|全部|被|予)*{_GONE}|"
    rf"(?<![未分部前显本全])消[失散]|[(（]\s*[-－—–]\s*[)）]|[:：]?\s*阴性|[:：]\s*(?:无|否|未见|没有|阴性|[-－])\s*$|"
    r"不明显|不显著|可能性(?:较|极|很)?(?:小|低|不大)|可(?:以)?(?:排除|除外)|已(?:被)?(?:排除|除外)|"
    r"(?:病)?史(?!$)|病史|积分(?:为|[:：])?\s*0(?!\.?\d)"
)
STILL = re.compile(r"仍|残[留余存]|残端|部分|未完全")
EARLIER = re.compile(
    r"(?:前次|上次|前片|旧片|老片|既往(?:检查|片|CT)|原(?=[^，,]{0,12}[见示]))(?![^，,]{0,6}(?:对比|比较|相比|比))"
    r"[^，,]{0,12}?(?<![未无])(?:[见示有]|提示)"
)
NOW = re.compile(r"(?:现|本次|此次|今|仍|较前|目前|复查)(?![^，,]{0,6}(?:未|无|消失|吸收))")
# "除右肺结节外，余未见异常" states the nodule.
EXCEPT = re.compile(r"除(?![外去])([^，,]{1,40}?)(?:以外|之外|外)")
# What may stand between two organs of one finding: "双侧胸腔及心包少量积液"
_JOIN = re.compile(r"[、/及和与以并或伴双侧左右两各支其分壁内腔的区管前后缘间中上下部]*")
_SIDE_BEFORE = re.compile(r"(?:[双两左右]侧?)?$")
_PLACED_IN = re.compile(r"[^，,]{0,4}(?:位于|见于|在)[^，,]{0,2}")  # "钙化位于左前降支"
_ORGAN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in ORGANS.items()))
_TERMS = [
    (index, re.compile(term.pattern), frozenset(term.organs.split()), re.compile(term.unless) if term.unless else None)
    for index, label in enumerate(LABELS)
    for term in TERMS[label]
]


class Stated(NamedTuple):
    """A finding that a sentence states."""

    label: int  # index in `LABELS`
    clause: str  # the clause, after the organs that it shares with the clause before
    place: int  # position of the finding in the clause


class _Clause(NamedTuple):
    text: str
    organs: list[tuple[int, int, str]]  # (start, end, name in `ORGANS`)


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices in `LABELS` of the labels that one Chinese sentence states. Cached, as sentences occur many times."""
    return tuple(sorted({stated.label for stated in stated_findings(sentence)}))


@lru_cache(maxsize=1 << 16)
def stated_findings(sentence: str) -> tuple[Stated, ...]:
    """The findings that one Chinese sentence states, each at each of its places."""
    if HEADING.match(sentence):
        return ()
    found = []
    clauses = list(_clauses(EXCEPT.sub(r"见\1，", sentence)))
    later_now = [bool(NOW.search(clause.text)) for clause in clauses]
    for number, clause in enumerate(clauses):
        marks = [
            (index, mark.start())
            for index, pattern, organs, unless in _TERMS
            if not (unless and unless.search(sentence))
            for mark in pattern.finditer(clause.text)
            if not organs or organs & _organs_of(clause, mark.start())
        ]
        if not marks:
            continue
        spans = denied_spans(clause.text)
        following = clauses[number + 1].text if number + 1 < len(clauses) else ""
        # "右侧胸腔积液，本次未见": a clause that only denies is about the clause before it.
        gone = following and not _ORGAN.search(following) and _only_denies(following)
        if EARLIER.search(clause.text) and not any(later_now[number:]):
            gone = True
        found += [
            Stated(index, clause.text, place)
            for index, place in marks
            if not gone and not any(start <= place < end for start, end in spans)
        ]
    return tuple(found)


def denied_spans(clause: str) -> list[tuple[int, int]]:
    """The spans `(start, end)` of a Chinese clause in which findings are denied."""
    spans = []
    for mark in NO.finditer(clause):
        end = REACH_END.search(clause, mark.end())
        spans.append((mark.start(), end.start() if end else len(clause)))
    if (mark := NOT_SEEN.search(clause)) and not STILL.search(clause):
        spans.append((0, mark.end()))
    return spans


def _only_denies(clause: str) -> bool:
    if any(pattern.search(clause) for _, pattern, _, _ in _TERMS) or STILL.search(clause):
        return False
    return bool(NOT_SEEN.search(clause))


def _clauses(sentence: str) -> Iterator[_Clause]:
    """The clauses of a sentence. A clause without an organ takes those of the clause before it."""
    carried = ""
    for text in filter(str.strip, CLAUSE_END.split(sentence)):
        organs = _organs(text)
        if organs:
            # With the sides before them: "双侧胸腔及心包"
            carried = "、".join(_SIDE_BEFORE.search(text, 0, start)[0] + text[start:end] for start, end, _ in organs)
            yield _Clause(text, organs)
        else:
            whole = f"{carried}：{text}" if carried else text
            yield _Clause(whole, _organs(whole))


def _organs(text: str) -> list[tuple[int, int, str]]:
    return [(mark.start(), mark.end(), mark.lastgroup) for mark in _ORGAN.finditer(text)]


def _organs_of(clause: _Clause, place: int) -> set[str]:
    """The organs of the finding at `place`: those named last before it, several if only joining words part them."""
    before = [organ for organ in clause.organs if organ[1] <= place]
    if not before:
        after = next((organ for organ in clause.organs if organ[0] > place), None)
        return {after[2]} if after and _PLACED_IN.fullmatch(clause.text, place, after[0]) else {"none"}
    names = {before[-1][2]}
    for first, second in zip(before[-2::-1], before[:0:-1], strict=True):
        if not _JOIN.fullmatch(clause.text, first[1], second[0]):
            break
        names.add(first[2])
    return names
