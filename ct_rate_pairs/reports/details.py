"""
What a report says of a finding beyond its place: the size and number of nodules, how severe a finding is, and how it
has changed. Each detail comes with the sentence that tells it. English and Chinese are read.
"""

import math
import re
from typing import NamedTuple

from .clauses import split_clauses
from .flips import findings_of
from .labels import LABELS
from .negations import negated_spans, outside
from .readable import is_chinese
from .rules import label_sentence
from .sentence_spans import split_sentences


NODULE = LABELS.index("Lung nodule")
NUMBER = r"\d+(?:[.,]\d+)?"
SIZE = re.compile(
    # "smaller than 5 mm"
    r"(?P<below>(?:(?:less|smaller|lower) than|under|below|<|小于|不足|不到)\s*)?"
    # "4", "12x9", "12 x 9 x 8", "2-3", "2.3 and 3"
    rf"(?<![\d.,/])(?P<numbers>{NUMBER}(?:\s*(?:[mc]m)?\s*(?:[x×*–~～-]|\band\b|\bto\b)\s*{NUMBER}){{0,7}})"
    r"[\s-]?(?P<unit>mm|cm|毫米|厘米|(?:mill?i|centi)met(?:er|re)s?)(?![a-z\d²³])"
    # Not the size of the nodule on an earlier scan, and not its distance from something.
    r"(?!(?:\s+(?:in\s+)?(?:diameter|size))?\s+(?:(?:in|on|at)\s+)?(?:(?:the|his|her)\s+)?(?:previous|prior|earlier|old\b))"
    r"(?!(?:处|以外|远))"
    r"(?!\s+(?:away|from|distant|distance|distal|proximal|deep|above|below)\b)",
    re.IGNORECASE,
)

COUNTS = ("one", "several")
GRADES = ("below 6 mm", "6 to 8 mm", "above 8 mm")
SEVERITIES = ("mild", "moderate", "severe")
CHANGES = ("new", "larger", "smaller", "unchanged")

_SEVERAL = re.compile(
    r"\bnodules\b|\b(?:two|three|four|five|multiple|several|few|numerous|many|[2-9]|\d\d+) (?!(?:mm|cm|x|×)\b)"
    r"(?:\w+ ){0,4}nodul|"
    r"多发|多个|多枚|数[个枚]|若干|散在|[两二三四五六]枚|[2-9]枚|弥漫"
)
_ONE = re.compile(r"\b(?:an?|one|single|solitary)\b (?:[\w.-]+ ){0,8}?nodul(?:e\b|ar)|[一1]枚|一个|单发|孤立|一结节")
# Fleischner's sizes are those of solid nodules, and calcified nodules are benign.
_NOT_SOLID = re.compile(
    r"ground[- ]?glass|frosted|sub-?solid|part(?:ly|ial)?[- ]solid|non-?solid|ggn|calcif|玻璃|亚实性|钙化|混合"
)
# Findings that reports call mild or severe. The size of nodules and lymph nodes is told in mm.
_OF_DEGREE = frozenset(range(len(LABELS))) - {
    LABELS.index(label)
    for label in ("Medical material", "Lymphadenopathy", "Lung nodule", "Mosaic attenuation pattern", "Consolidation")
}
_SEVERITY = {
    "mild": re.compile(r"\b(?:mild(?:ly)?|minimal(?:ly)?|slight(?:ly)?|small|trace|minor)\b|轻[度微]|少[量许]|微量"),
    "moderate": re.compile(r"\bmoderate(?:ly)?\b|中度|中等|中量"),
    "severe": re.compile(r"\b(?:severe(?:ly)?|massive|large|marked(?:ly)?|extensive|advanced)\b|重度|大量|严重"),
}
_MORE = r"(?:increase|progress|enlargement|growth|worsening)"
_LESS = r"(?:decrease|regress|reduction|shrinkage|improvement)"
_SIZED = r"(?:in|of) (?:the |its |their )?(?:sizes?|numbers?|amounts?|dimensions?|extents?|volumes?|diameters?)"
_CHANGE = {
    "new": re.compile(r"\bnew(?:ly)?\b|新[发增]|新出现|新见"),
    "larger": re.compile(
        rf"\b(?:(?:has|have) (?:\w+ly )?(?:increased|progressed|grown|enlarged|worsened)|increased {_SIZED}|"
        rf"interval {_MORE}\w*|larger (?:than|compared)|progression of)|较前[^，,]{{0,4}}(?:增[大多加宽]|进展|加重)"
    ),
    "smaller": re.compile(
        rf"\b(?:(?:has|have) (?:\w+ly )?(?:decreased|regressed|shrunk|improved)|decreased {_SIZED}|partial(?:ly)? (?:"
        rf"regress|resol)\w*|interval {_LESS}\w*|smaller (?:than|compared)|regression of)|"
        r"较前[^，,]{0,4}(?:缩小|减[少小轻]|部分吸收|吸收|好转)"
    ),
    "unchanged": re.compile(
        r"\b(?:unchanged|stable|not (?:\w+ly )?changed|"
        r"(?:no|without) (?:(?:significant|interval|obvious|marked) ){0,2}change)|"
        r"(?:未见|无|没有)[^，,]{0,4}(?:变化|改变)|较前[^，,]{0,4}(?:相仿|相似|相同|变化不)|稳定"
    ),
}


class Detail(NamedTuple):
    """A detail of a finding, and the sentence that tells it."""

    value: float | str
    proof: str
    is_bound: bool = False  # whether a size is only an upper bound: "smaller than 5 mm"


def nodule_size(report: str) -> float | None:
    """
    The largest diameter of a lung nodule that a report states.

    Only sentences that state a lung nodule are searched (`ct_rate_pairs.reports.rules`), for numbers with a unit, as
    in "a 4 mm nodule", "measuring 12x9 mm" or "1.5 cm". "Smaller than 5 mm" counts as a size just below 5 mm. Sizes on
    an earlier scan and distances do not count.

    Args:
        report (`str`):
            Findings, impression or both.

    Returns:
        `float` or `None`: the diameter in mm; `None` if no sentence states both a lung nodule and a size.
    """
    found = largest_nodule(report)
    return found and found.value


def largest_nodule(report: str) -> Detail | None:
    """The largest diameter of a lung nodule in mm, as [`nodule_size`] reads it, with its sentence."""
    sizes = []
    for sentence in split_sentences(report):
        if NODULE not in label_sentence(sentence):
            continue
        for found in SIZE.finditer(sentence):
            largest = max(float(number.replace(",", ".")) for number in re.findall(NUMBER, found["numbers"]))
            size = 10 * largest if found["unit"].lower().startswith(("c", "厘")) else largest
            below = found["below"] is not None
            sizes.append(Detail(math.nextafter(size, 0) if below else size, sentence, below))
    return max(sizes, key=lambda size: size.value, default=None)


def nodule_count(report: str) -> Detail | None:
    """
    Whether a report states `"one"` lung nodule or `"several"`; `None` if it does not say. The impression repeats the
    findings, so it counts only where it is the whole report.
    """
    said = [sentence for sentence in split_sentences(findings_of(report)) if NODULE in label_sentence(sentence)]
    several = [sentence for sentence in said if _SEVERAL.search(sentence.lower())]
    single = [sentence for sentence in said if _ONE.search(sentence.lower())]
    if several:
        return Detail("several", several[0])
    if len(single) > 1:
        return Detail("several", ". ".join(single))
    # A sentence that does not tell a number might be about another nodule.
    return Detail("one", single[0]) if single and len(said) == 1 else None


def nodule_grade(report: str) -> Detail | None:
    """
    The size class of the largest lung nodule by which the Fleischner Society's guidelines of 2017 decide on the
    follow-up of solid nodules: below 6 mm, 6 to 8 mm, or above 8 mm, with the diameter rounded to whole mm as they ask
    (MacMahon et al., "Guidelines for Management of Incidental Pulmonary Nodules Detected on CT Images", Radiology 284,
    2017, 228-243, https://doi.org/10.1148/radiol.2017161659).

    `None` without a size, where the size is an upper bound of several classes ("smaller than 8 mm"), and where a
    sentence about a nodule names ground glass, a subsolid part or calcium: other rules hold for such nodules. The
    class is no advice: follow-up depends on the patient too, and the guidelines are neither for patients with cancer
    nor for those below 35 years.
    """
    largest = largest_nodule(report)
    said = [sentence for sentence in split_sentences(report) if NODULE in label_sentence(sentence)]
    if largest is None or any(_NOT_SOLID.search(sentence.lower()) for sentence in said):
        return None
    whole = math.floor(largest.value + 0.5)
    if largest.is_bound and whole >= 6:
        return None
    return Detail(GRADES[0] if whole < 6 else GRADES[1] if whole <= 8 else GRADES[2], largest.proof)


def severities(report: str) -> dict[int, Detail]:
    """Index in `LABELS` of a finding -> how severe it is, one of `SEVERITIES`, where the report clearly says it."""
    return {label: told for label, told in _told(report, _SEVERITY).items() if label in _OF_DEGREE}


def changes(report: str) -> dict[int, Detail]:
    """Index in `LABELS` of a finding -> how it has changed, one of `CHANGES`, where the report clearly says it."""
    return _told(report, _CHANGE)


def _told(report: str, kinds: dict[str, re.Pattern]) -> dict[int, Detail]:
    """
    What sentences say of the only finding that they state. A finding of which two things are said is left out.
    """
    told: dict[int, list[Detail]] = {}
    for sentence in split_sentences(report):
        stated = label_sentence(sentence)
        if len(stated) == 1:
            said = [kind for kind, pattern in kinds.items() if _says(sentence.lower(), kind, pattern)]
            told.setdefault(stated[0], []).extend(Detail(kind, sentence) for kind in said)
    return {label: said[0] for label, said in told.items() if len({detail.value for detail in said}) == 1}


def _says(sentence: str, kind: str, pattern: re.Pattern) -> bool:
    if kind == "unchanged" or is_chinese(sentence):  # "no change" is no denial of the word
        return bool(pattern.search(sentence))
    for clause in split_clauses(sentence):
        denied = negated_spans(clause)
        if any(outside(mark.start(), denied) for mark in pattern.finditer(clause)):
            return True
    return False
