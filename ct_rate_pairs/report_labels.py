"""
The rule labeler: the 18 labels that a report states, read sentence by sentence with negation by clause.

A finding counts where one of its terms (`report_terms.TERMS`) stands outside the reach of a negation. A possible
finding ("may be compatible with", "?") counts, as CT-RATE's own labels have it; an unchanged one counts too.
"""

import re
from functools import lru_cache

from .labels import LABELS
from .report_terms import STEMS, TERMS


# It starts with one character class, which `re` searches for fast.
SENTENCE_END = re.compile(
    r"[.;!?\r\n\"“”•·](?:(?<=[.;!])[.;!]*(?:\s+|$)|(?<=\.)(?=[A-Z][a-z])|(?<=\?)\s+(?=[A-Z])"
    r"|(?<=[\r\n\"“”•·]))"
)

VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|not|can|cannot|could)\b")
SUBJECTLESS = re.compile(r"(?:is|are|was|were|has|have|which|that)\b")
BREAK = re.compile(
    r"(?P<strong>,?\s(?:but|however|although|though|while|whereas|yet)\s|:\s)|\s*,\s*(?:(?:and|or)\s)?|\s(?:and|or)\s"
)

SEEN = (
    r"observed|detected|seen|present|found|identified|noted|distinguished|visuali[sz]ed|available|encountered|evident|"
    r"demonstrated|noticed|selected|determined|revealed|watched|depicted|shown|monitored|in question|included"
)
NO = re.compile(r"\b(?:no|without|absence of|free of|free from|neither|nor|lack of|negative for|devoid of)\b")
NOT_SEEN = re.compile(
    rf"\b(?:not|never|no longer) (?:been |be |clearly |significantly |obviously |definitely )?(?:{SEEN})\b"
    r"(?! (?:in|on|at) (?:the |his |her |their )?(?:previous|prior|old|earlier|former))"
    rf"| - no \w+(?: \w+)? (?:is|are|was|were) (?:{SEEN})\b"  # "effusion - no thickening was detected": neither
    r"|\b(?:resolved|disappeared|vanished|absent|completely regressed)\b"
    r"|\b(?:is|are|was|were|appears?|appear|look|looks) (?:in |of |within )?(?:a |the )?(?:completely |quite )?"
    r"(?:normal|natural|preserved|unremarkable)\b"
)
# These speak of a finding that is there: unchanged, or not told apart from another.
NOT_A_NEGATION = re.compile(
    r"\b(?:no|without)(?: \w+){0,3} (?:changes?|differences?|progression|regression|contrast)\b"
    r"|\bno (?:\w+ )?(?:increase|decrease|reduction)s?(?: \w+){0,3} (?:sizes?|numbers?|dimensions?)\b"
    r"|\black of (?:\w+ )?(?:contrast|material)\b"
)
EXCEPTION = re.compile(
    r"\b(?:other than|except(?: for)?|apart from|aside from|besides)\b(?! (?:this|these|that|those|the above))"
)


def split_sentences(text: str) -> list[str]:
    """A report's sentences without their end marks. Quotation marks and bullets, CT-RATE's list marks, end one too."""
    return [sentence.strip() for sentence in SENTENCE_END.split(text) if len(sentence) > 2]


def split_clauses(sentence: str) -> list[str]:
    """
    Clauses of one lower-case sentence. A comma, "and" or "or" ends a clause only where both sides have a verb of their
    own: in "a, b and c were not observed" the three stay together, in "a is open and b was not detected" they part.
    "But" and its like always end one, and so does a "no" or "without" after a comma.
    """
    clauses, clause, waiting, start, strong = [], [], [], 0, False
    for mark in [*BREAK.finditer(sentence), None]:
        piece = sentence[start : mark.start() if mark else len(sentence)]
        start = mark.end() if mark else start
        if strong or (clause and NO.match(piece)):
            clauses.append(clause + waiting)
            clause, waiting = [piece], []
        elif not any(map(VERB.search, clause)) or (not waiting and SUBJECTLESS.match(piece)):
            clause.append(piece)
        elif VERB.search(piece):
            # "x is seen, y and z were not": y waits for its verb. A piece with a place of its own is complete.
            complete = [i + 1 for i, part in enumerate(waiting) if " in " in part or " of " in part]
            cut = complete[-1] if complete else 0
            clauses.append(clause + waiting[:cut])
            clause, waiting = [*waiting[cut:], piece], []
        else:
            waiting.append(piece)
        strong = mark is not None and mark["strong"] is not None
    clauses.append(clause + waiting)
    return [", ".join(filter(None, clause)) for clause in clauses if any(clause)]


def negated_spans(clause: str) -> list[tuple[int, int]]:
    """Stretches `(start, end)` of a lower-case clause in which a finding is said to be absent."""
    known = [mark.span() for mark in NOT_A_NEGATION.finditer(clause)]
    free = [mark.start() for mark in EXCEPTION.finditer(clause)]
    spans = []
    for mark in NO.finditer(clause):
        if not any(start <= mark.start() < end for start, end in known):
            end = min((place for place in free if place > mark.start()), default=len(clause))
            spans.append((mark.start(), end))
    if NOT_SEEN.search(clause):
        spans.append((0, min(free, default=len(clause))))
    return spans


# Label index, stems and compiled (pattern, also, unless) of each of its terms.
_TABLE = [
    (
        index,
        STEMS[label].split(),
        [tuple(re.compile(part) if part else None for part in term) for term in TERMS[label]],
    )
    for index, label in enumerate(LABELS)
]


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices in `LABELS` of the findings that one sentence states as present. Cached: most sentences come again."""
    sentence = " ".join(sentence.lower().split())
    found = []
    for index, stems, terms in _TABLE:
        for stem in stems:
            if stem in sentence:
                found.extend((index, *term) for term in terms if term[0].search(sentence))
                break
    if not found:
        return ()
    stated = set()
    for clause in split_clauses(sentence):
        spans = None
        for index, pattern, also, unless in found:
            if index in stated or not (marks := list(pattern.finditer(clause))):
                continue
            if (also and not also.search(sentence)) or (unless and unless.search(clause)):
                continue
            spans = negated_spans(clause) if spans is None else spans
            if any(not any(start <= mark.start() < end for start, end in spans) for mark in marks):
                stated.add(index)
    return tuple(sorted(stated))


def label_report(text: str) -> list[int]:
    """
    The 18 labels of one report, in the order of `LABELS`.

    Args:
        text (`str`):
            Findings, impression or both. An empty text states nothing.

    Returns:
        `list[int]`: 18 zeros and ones.
    """
    labels = [0] * len(LABELS)
    for sentence in split_sentences(text):
        for index in label_sentence(sentence):
            labels[index] = 1
    return labels
