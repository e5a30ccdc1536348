"""
The rule labeler: which of the 18 labels a report states. It reads each sentence alone, and negations by clause. This
file reads English, and hands sentences in Chinese letters to [`~ct_rate_pairs.reports.chinese_rules`].

A label is stated if one of its terms (`terms.TERMS`) stands outside the reach of all negations. A possible finding
("may be compatible with", "?") counts as stated, as in CT-RATE's own labels. An unchanged finding counts too.
"""

import re
from functools import lru_cache

from .chinese_rules import label_sentence as label_chinese_sentence
from .clauses import VERB, split_clauses
from .labels import LABELS
from .negations import DENIALS, negated_spans, outside
from .plain_sentences import FULL_WIDTH, REMAINS, mark_rest, write_plainly
from .readable import is_chinese
from .sentence_spans import split_sentences
from .terms import STEMS, TERMS


# "Indication: effusion" is a question and states nothing. In "Heart: enlarged", the heading is the subject.
INDICATION = re.compile(
    r"(?:(?:(?:past )?(?:clinical|medical|family) )?"
    r"(?:indication|history|information|question|anamnesis|request|referral)|"
    r"clinical (?:detail|data|background)|pmh|reason for (?:the )?\w+|technique|protocol|comparison)s?:"
)
HEADING = re.compile(r"^(?!(?:no|nothing) (?:new|acute|other|else|more|changed?|significant):)([a-z]+(?: [a-z]+)?): ")
# In "Lymph nodes: no adenopathy", the heading is no finding.
HEADING_OF_DENIAL = re.compile(
    r"^(?:[a-z]+ )?(?:nodes|nodules|effusions|devices|tubes|lines): (?=(?:no|none|not|without)\b)|"
    r"^(?:[a-z]+ )?(?:effusions?|fluid): (?=[^,:]*, no (?:residual|remaining|further)\b)"
)
# "Lymph nodes, none enlarged" is one item of a list.
ITEM_END = re.compile(r",(?! (?:not|none|non|normal|likely|probably|possibly|within|physiologic\w*)\b)| and | or ")
DENIAL = -1  # stands for a negation where others stand for a label
# Every stem with the index of its label, and for each label its terms as compiled (pattern, also, unless).
_STEMS = [(stem, index) for index, label in enumerate(LABELS) for stem in STEMS[label].split()]
_STEMS += [(stem, DENIAL) for stem in DENIALS.split()]
_TERMS = [[tuple(re.compile(part) if part else None for part in term) for term in TERMS[label]] for label in LABELS]


def surroundings(clause: str, mark: re.Match) -> str:
    """The words about the finding at `mark`: the clause or, in a list without a verb, the finding's own item."""
    if VERB.search(clause):
        return clause
    before = [end.end() for end in ITEM_END.finditer(clause, 0, mark.start())]
    return clause[before[-1] if before else 0 : mark.end()] + ITEM_END.split(clause[mark.end() :], maxsplit=1)[0]


@lru_cache(maxsize=1 << 16)
def hinted_by(word: str) -> frozenset[int]:
    """
    Indices of the labels that a sentence with this word may state, and `DENIAL` if it may deny something. Cached,
    because reports use few words.
    """
    word = f"^{word.strip('.,:()')}$"
    return frozenset(index for stem, index in _STEMS if stem in word)


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices of the labels that one sentence states. Cached, because most sentences occur many times."""
    if not sentence.isascii() and is_chinese(sentence):
        return label_chinese_sentence(sentence)
    words = (sentence if sentence.isascii() else sentence.translate(FULL_WIDTH)).lower().split()
    hinted = frozenset().union(*map(hinted_by, words))
    labels = hinted - {DENIAL}
    if not labels:
        return ()
    sentence = write_plainly(" ".join(words))
    if ":" in sentence:
        if INDICATION.match(sentence):
            return ()
        sentence = HEADING.sub(r"\1 ", HEADING_OF_DENIAL.sub("", sentence))
    found = [(index, *term) for index in labels for term in _TERMS[index] if term[0].search(sentence)]
    if not found:
        return ()
    may_deny = DENIAL in hinted or "(-)" in sentence
    if may_deny:
        sentence = mark_rest(sentence)
    stated = set()
    for clause in split_clauses(sentence):
        spans: list[tuple[int, int]] | None = None
        for index, pattern, also, unless in found:
            if index in stated or not (marks := list(pattern.finditer(clause))):
                continue
            if spans is None:
                spans = negated_spans(clause) if may_deny and REMAINS not in clause else []
            # A group in a pattern marks the finding itself, if the pattern begins with the organ.
            marks = [mark for mark in marks if outside(mark.start(mark.lastindex or 0), spans)]
            if not marks or (also and not any(outside(mark.start(), spans) for mark in also.finditer(clause))):
                continue
            if not unless or not all(unless.search(surroundings(clause, mark)) for mark in marks):
                stated.add(index)
    return tuple(sorted(stated))


def label_report(text: str) -> list[int]:
    """
    The 18 labels of one report, in the order of `LABELS`.

    Args:
        text (`str`):
            Findings, impression or both. An empty text states no label.

    Returns:
        `list[int]`: 18 zeros and ones.
    """
    labels = [0] * len(LABELS)
    for sentence in split_sentences(text):
        for index in label_sentence(sentence):
            labels[index] = 1
    return labels
