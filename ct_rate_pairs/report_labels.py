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
    r"(?P<strong>,?\s(?:but|however|although|though|while|whereas|yet)\s|:\s(?!(?:no|none|absent|negative)$))"
    r"|\s*,\s*(?:(?:and|or)\s)?|\s(?:and|or)\s"
)

SEEN = (
    r"observed|detected|seen|present|found|identified|noted|distinguished|visuali[sz]ed|available|encountered|evident|"
    r"demonstrated|noticed|selected|determined|revealed|watched|depicted|shown|monitored|in question|included|visible|"
    r"apparent|appreciated|recogni[sz]ed|documented|reported|exist"
)
EARLIER = r"(?:previous|prior|old|earlier|former|preceding)"
# These reach forward, to the end of their clause.
NO = re.compile(
    r"\b(?:no|without|absence of|free of|free from|neither|nor|lack of|negative for|devoid of|"
    r"(?:do|does|did) not (?:show|have|contain|demonstrate|reveal|include|exhibit))\b"
)
# These reach over their whole clause. One `\b` before all words, as each costs time.
NOT_SEEN = re.compile(
    r"\b(?:"
    rf"(?:not|never|no longer) (?:been |be |clearly |significantly |obviously |definitely )?(?:{SEEN})\b"
    rf"(?! (?:{EARLIER}ly|before\b|(?:in|on|at) (?:the |his |her |their )?{EARLIER}))"
    r"|(?:resolved|disappeared|vanished|absent|completely regressed)\b"
    r"|(?:is|are|was|were|been|appears?|looks?) (?:completely |quite )?(?:in |of |within )?(?:a |the )?"
    r"(?:removed|ruled out|excluded|normal|natural|preserved|unremarkable)\b"
    r")"
    rf"| - no \w+(?: \w+)? (?:is|are|was|were) (?:{SEEN})\b"  # "effusion - no thickening was detected": neither
    r"|: (?:no|none|absent|negative)$"
)
# These speak of a finding that is there: unchanged, on its way out, or not told apart from another.
NOT_A_NEGATION = re.compile(
    r"\b(?:"
    r"(?:no|without|not (?:show|demonstrate|reveal)) (?:(?:any|an?|obvious|clear|other|pathological|iv|oral|"
    r"intravenous|significant|remarkable|statistically|marked|major|interval|size|dimensional|volume) ){0,3}"
    r"(?:changes?|differences?|progression|regression|contrast)"
    r"|no (?:\w+ )?(?:increase|decrease|reduction)s?(?: \w+){0,3} (?:sizes?|numbers?|dimensions?)"
    r"|lack of (?:\w+ )?(?:contrast|material)"
    r"|not (?:\w+ )?distinguished from|not (?:be |been )?(?:\w+ )?(?:excluded|ruled out|resolved|disappeared|removed)"
    r"|(?:partially|partly|almost|nearly|incompletely|largely|mostly) (?:completely )?"
    r"(?:resolved|disappeared|regressed|removed)"
    r")\b"
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
    clauses, clause, waiting, start, strong, has_verb = [], [], [], 0, False, False
    for mark in [*BREAK.finditer(sentence), None]:
        piece = sentence[start : mark.start() if mark else len(sentence)]
        start = mark.end() if mark else start
        piece_has_verb = bool(VERB.search(piece))
        if strong or (clause and NO.match(piece)):
            clauses.append(clause + waiting)
            clause, waiting, has_verb = [piece], [], piece_has_verb
        elif not has_verb or (not waiting and SUBJECTLESS.match(piece)):
            clause.append(piece)
            has_verb = has_verb or piece_has_verb
        elif piece_has_verb:
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
    forward, whole = list(NO.finditer(clause)), list(NOT_SEEN.finditer(clause))
    if not forward and not whole:
        return []
    known = [mark.span() for mark in NOT_A_NEGATION.finditer(clause)]
    free = [mark.start() for mark in EXCEPTION.finditer(clause)]
    # "Apart from a nodule, the lungs are normal": what is excepted ends with the comma.
    whole_start = clause.find(",") + 1 if 0 in free else 0
    # Where a mark of negation begins, and where its reach does.
    marks = [(mark.start(), mark.start()) for mark in forward] + [(mark.start(), whole_start) for mark in whole]
    return [
        (reach, min((place for place in free if place > reach), default=len(clause)))
        for mark, reach in marks
        if not any(start <= mark < end for start, end in known)
    ]


def surroundings(clause: str, start: int, end: int) -> str:
    """What speaks of the finding at `clause[start:end]`: the clause or, in a list without a verb, its own item."""
    if VERB.search(clause):
        return clause
    return clause[clause.rfind(",", 0, start) + 1 : end] + clause[end:].partition(",")[0]


# Every stem with the index of its label, and the compiled (pattern, also, unless) of each label's terms.
_STEMS = [(stem, index) for index, label in enumerate(LABELS) for stem in STEMS[label].split()]
_TERMS = [[tuple(re.compile(part) if part else None for part in term) for term in TERMS[label]] for label in LABELS]


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices in `LABELS` of the findings that one sentence states as present. Cached: most sentences come again."""
    sentence = " ".join(sentence.lower().split())
    hinted = {index for stem, index in _STEMS if stem in sentence}
    found = [(index, *term) for index in hinted for term in _TERMS[index] if term[0].search(sentence)]
    if not found:
        return ()
    stated = set()
    for clause in split_clauses(sentence):
        spans = None
        for index, pattern, also, unless in found:
            if index in stated or not (marks := list(pattern.finditer(clause))):
                continue
            spans = negated_spans(clause) if spans is None else spans
            marks = [mark for mark in marks if not any(start <= mark.start() < end for start, end in spans)]
            if not marks or (also and not also.search(sentence)):
                continue
            if not unless or not all(unless.search(surroundings(clause, *mark.span())) for mark in marks):
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
