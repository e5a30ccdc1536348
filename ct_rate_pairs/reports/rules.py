"""
The rule labeler: which of the 18 labels a report states. It reads each sentence alone, and negations by clause.

A label is stated if one of its terms (`terms.TERMS`) stands outside the reach of all negations. A possible finding
("may be compatible with", "?") counts as stated, as in CT-RATE's own labels. An unchanged finding counts too.
"""

import re
from functools import lru_cache

from .labels import LABELS
from .terms import STEMS, TERMS


# The pattern starts with a single character class, because `re` searches for that quickly.
SENTENCE_END = re.compile(
    r"[.;!?\r\n\"“”•·](?:(?<=[.;!])[.;!]*(?:\s+|$)|(?<=\.)(?=[A-Z][a-z])|(?<=\?)\s+(?=[A-Z])"
    r"|(?<=[\r\n\"“”•·]))"
)

# "Indication: effusion" is a question and states nothing. In "Heart: enlarged", the heading is the subject.
INDICATION = re.compile(
    r"(?:(?:clinical )?(?:indication|history|information|question)|reason for (?:the )?\w+|technique|comparison)s?:"
)
HEADING = re.compile(r"^([a-z]+(?: [a-z]+)?): (?!(?:no|none|absent|negative|not \w+)$)")

GONE = "resolved|disappeared|vanished|regressed|cleared"
VERB = re.compile(rf"\b(?:is|are|was|were|has|have|had|not|can|cannot|could|persists?|remains?|{GONE})\b")
SUBJECTLESS = re.compile(rf"(?:is|are|was|were|has|have|which|that|{GONE})\b")
PLACE = re.compile(r" (?:in|of) ")
ITEM_END = re.compile(r",| and | or ")
PRONOUN = re.compile(r"(?:it|they) (?:is|are|was|were|has|have|had|could)\b")
BREAK = re.compile(
    r"(?P<strong>,?\s(?:but|however|although|though|while|whereas|yet)\s|:\s(?!(?:no|none|absent|negative|not \w+)$))"
    r"|\s*,(?!(?<=\d,)\d)\s*(?:(?:and|or)\s)?|\s(?:and|or)\s"
)
# Beginnings of a new statement after a denial and a comma, as in "no effusion, a nodule in the lingula". A list under
# one negation is different: it continues with nouns without an article, or has an "or" before its verb.
STATEMENT = re.compile(
    r"(?:an?|the|there|with|\d+|one|two|three|several|multiple|numerous|few|some|trace|minimal|mild|slight|small|moderate|"
    r"known|stable|unchanged|persistent|residual)\b(?!(?:(?! (?:is|are|was|were) ).)* n?or )"
)
# "No x, y is seen" and "no w or x, y is seen": if y belonged to the list, it would have an "or" before it, so y is
# present. But CT-RATE's "no x, y was detected" denies both.
DENIED_LIST = re.compile(r"(?:there (?:is|are) )?(?:no|without|neither)\b(?:[^,]*|.*\b(?:n?or)\b[^,]*),\s*(?:and )?")
SECOND_IS_SEEN = re.compile(r"[^,]*\b(?:is|are) (?:seen|noted|present|visible|evident)\b")

SEEN = (
    r"observed|detected|seen|present|found|identified|noted|distinguished|visuali[sz]ed|available|encountered|evident|"
    r"demonstrated|noticed|selected|determined|revealed|watched|depicted|shown|monitored|in question|included|visible|"
    r"apparent|appreciated|recogni[sz]ed|documented|reported|exist|a feature"
)
EARLIER = r"(?:previous|prior|old|earlier|former|preceding)"
# Words after "unlikely" that show that it denies the words before it.
BESIDE = r" (?:in|on|at|given|due|based|because|considering)\b"
# Negations that reach forward, to the end of their clause. "Section no: 5" is a number.
NO = re.compile(
    rf"\b(?:unlikely(?!{BESIDE})|"
    r"(?<!section )(?<!series )(?<!image )no|without|absence of|free of|free from|neither|nor|lack of|devoid of|"
    r"negative for|(?:resolution|clearing|clearance|disappearance|removal|(?:total|complete) regression) of|"
    r"rather than|instead of|as opposed to|"
    r"low (?:likelihood|probability|suspicion) (?:of|for)|absent (?:in|on|at)|nothing to suggest|"
    r"(?:evaluate|evaluation|assess|assessment) for|rule out|r/o|to exclude|"
    r"not (?:show|have|contain|demonstrate|reveal|include|exhibit|suggest|indicate|support|favou?r)|"
    r"not (?:\w+ ){0,2}(?:(?:consistent|compatible|in keeping) with|(?:suggestive|indicative|in favou?r) of)|"
    r"(?:not |un)(?:accompanied by|associated with))\b"
)
# Negations that reach no further than the word that they deny: in "the nodule is not enlarged", the nodule is present.
# The pattern begins with plain letters, because `re` searches for these quickly.
NOT = re.compile(
    r"not (?<=\bnot )"
    r"(?:(?!only)\w+ly |be |been |appear |seem |look |to |found |measured |very |an? |any ){0,4}(?!only)\w+"
)
# Negations that reach over their whole clause. Those in the group `before` only reach over the words before them
# ("malignancy is unlikely in this nodule"). One `\b` stands before all words, because each `\b` costs time.
NOT_SEEN = re.compile(
    r"\b(?:"
    rf"(?:not|never|no longer) (?:been |be |clearly |significantly |obviously |definitely )?(?:{SEEN})\b"
    rf"(?! (?:{EARLIER}ly|before\b|(?:in|on|at) (?:the |his |her |their )?{EARLIER}))"
    r"|(?:resolved|disappeared|vanished|completely regressed)\b"
    rf"|absent\b(?! (?:in|on|at) (?:the )?{EARLIER})"
    r"|(?:is|are|was|were|been|appears?|looks?) (?:completely |quite )?(?:in |of |within )?(?:a |the )?"
    r"(?:removed|ruled out|excluded|normal|natural|preserved|unremarkable)\b"
    rf"|(?P<before>(?:unlikely|improbable)(?=$|{BESIDE})|(?:is|are|was|were|seems?|considered|thought) less likely|"
    r"(?<=(?:as|ve|ad|ly) )cleared\b|not (?:\w+ly )?(?:favou?red|likely|suspected|considered)\b)"
    r")"
    rf"| - no \w+(?: \w+)? (?:is|are|was|were) (?:{SEEN})\b"  # "effusion - no thickening was detected" denies both
    r"|: (?:no|none|absent|negative)$"
    r"|\b(?:total|complete) (?:regression|resolution|disappearance|clearing)(?! of)\b"
    # About the earlier scan only, unlike "there are nodules, also seen in the previous examination".
    rf"|^(?:in|on) (?:the |his |her )?{EARLIER} [^,]*, there (?:is|are|was|were)\b(?=[^,]*$)"
    rf"|^there (?:is|are|was|were)\b(?=(?:(?! (?:that|which|also|not|{SEEN})\b)[^,])*"
    rf" (?:in|on) (?:the |his |her )?{EARLIER} \w+(?: of the patient)?(?: \(.*\))?$)"
    r"|\bregressed (?:completely|totally)\b|\b(?:is|are|was|were) not$|\(-\)"
)
# These look like negations, but the finding is present: it is unchanged, shrinking, or not distinguished from another.
NOT_A_NEGATION = re.compile(
    r"\b(?:"
    r"(?:no|without|not (?:show|demonstrate|reveal)) (?:(?:any|an?|obvious|clear|other|pathological|iv|oral|"
    r"intravenous|significant|remarkable|statistically|marked|major|interval|size|dimensional|volume) ){0,3}"
    r"(?:changes?|differences?|progression|regression|contrast)"
    r"|no (?:\w+ )?(?:increase|decrease|reduction)s?(?: \w+){0,3} (?:sizes?|numbers?|dimensions?)"
    r"|lack of (?:\w+ )?(?:contrast|material)"
    r"|not (?:\w+ )?distinguished from"
    r"|(?:can)?not (?:be |been )?(?:\w+ )?(?:excluded?|ruled? out|resolved|disappeared|removed|cleared)"
    r"|(?:partial(?:ly)?|partly|almost|near(?:ly)?|incomplete(?:ly)?|large(?:ly)?|mostly|significant|marked|some)"
    r"(?:[- ](?:complete(?:ly)?|total|interval))? "
    r"(?:resolved|disappeared|regressed|removed|cleared|resolution|regression|clearing|clearance|disappearance)"
    r")\b"
)
EXCEPTION = re.compile(
    r"\b(?:other than|except(?: for)?|apart from|aside from|besides|with (?:persistent|residual))\b"
    r"(?! (?:this|these|that|those|the above))"
)


def split_sentences(text: str) -> list[str]:
    """
    The sentences of a report, without their end marks. Quotation marks and bullets also end a sentence, because
    CT-RATE uses them in lists.
    """
    return [sentence.strip() for sentence in SENTENCE_END.split(text) if len(sentence) > 2]


def denies(piece: str) -> bool:
    """Whether a piece of a sentence contains a negation."""
    return bool(NO.search(piece) or NOT_SEEN.search(piece))


def goes_on(piece: str, sentence: str) -> bool:
    """Whether a piece has the subject of the one before: ", was seen" or, in a comparison, ", it was not seen"."""
    return bool(SUBJECTLESS.match(piece) or (PRONOUN.match(piece) and re.search(EARLIER, sentence)))


def split_clauses(sentence: str) -> list[str]:
    """
    Splits a lower-case sentence into clauses.

    A comma, "and" or "or" ends a clause only if both sides have their own verb: "a, b and c were not observed" is one
    clause, "a is open and b was not detected" is two. "But" and similar words always end a clause. A comma also ends a
    clause before "no" or "without", and between a denial and a new statement.
    """
    # Pieces are (start, end) in the sentence. A clause is the text from its first piece to its last piece.
    clauses, clause, waiting, start, strong, comma, has_verb = [], [], [], 0, False, False, False
    for mark in [*BREAK.finditer(sentence), None]:
        end = mark.start() if mark else len(sentence)
        piece = sentence[start:end]
        piece_has_verb = bool(VERB.search(piece))
        if (
            strong
            or (clause and NO.match(piece))
            or (comma and STATEMENT.match(sentence, start) and denies(sentence[clause[0][0] : start]))
            or (comma and SECOND_IS_SEEN.match(piece) and DENIED_LIST.fullmatch(sentence, clause[0][0], start))
        ):
            clauses.append(clause + waiting)
            clause, waiting, has_verb = [(start, end)], [], piece_has_verb
        elif not has_verb or (not waiting and goes_on(piece, sentence)):
            clause.append((start, end))
            has_verb = has_verb or piece_has_verb
        elif piece_has_verb:
            # In "x is seen, y and z were not", y waits for its verb. A piece that names a place is complete without.
            complete = [i + 1 for i, (left, right) in enumerate(waiting) if PLACE.search(sentence, left, right)]
            cut = complete[-1] if complete else 0
            clauses.append(clause + waiting[:cut])
            clause, waiting = [*waiting[cut:], (start, end)], []
        else:
            waiting.append((start, end))
        if mark:
            start, strong, comma = mark.end(), mark["strong"] is not None, "," in mark[0]
    clauses.append(clause + waiting)
    return [text for clause in clauses if (text := sentence[clause[0][0] : clause[-1][1]].strip(" ,"))]


def outside(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a position in the clause lies in none of the spans."""
    return not any(start <= place < end for start, end in spans)


def negated_spans(clause: str) -> list[tuple[int, int]]:
    """The spans `(start, end)` of a lower-case clause in which findings are denied."""
    forward, word, whole = (list(pattern.finditer(clause)) for pattern in (NO, NOT, NOT_SEEN))
    if not (forward or word or whole):
        return []
    known = [mark.span() for mark in NOT_A_NEGATION.finditer(clause)]
    free = [mark.start() for mark in EXCEPTION.finditer(clause)]
    # "Apart from a nodule, the lungs are normal": the exception ends at the comma.
    first, last = clause.find(",") + 1 if 0 in free else 0, len(clause)
    reaches = [
        *((mark, mark.start(), last) for mark in forward),
        *((mark, *mark.span()) for mark in word),
        *((mark, first, mark.start() if mark["before"] else last) for mark in whole),
    ]
    return [
        (start, min([end, *(place for place in free if place > start)]))
        for mark, start, end in reaches
        if outside(mark.start(), known)
    ]


def surroundings(clause: str, mark: re.Match) -> str:
    """The words about the finding at `mark`: the clause or, in a list without a verb, the finding's own item."""
    if VERB.search(clause):
        return clause
    before = [end.end() for end in ITEM_END.finditer(clause, 0, mark.start())]
    return clause[before[-1] if before else 0 : mark.end()] + ITEM_END.split(clause[mark.end() :], maxsplit=1)[0]


# Every stem with the index of its label, and for each label its terms as compiled (pattern, also, unless).
_STEMS = [(stem, index) for index, label in enumerate(LABELS) for stem in STEMS[label].split()]
_TERMS = [[tuple(re.compile(part) if part else None for part in term) for term in TERMS[label]] for label in LABELS]


@lru_cache(maxsize=1 << 16)
def hinted_by(word: str) -> frozenset[int]:
    """Indices of the labels that a sentence with this word may state. Cached, because reports use few words."""
    return frozenset(index for stem, index in _STEMS if stem in word)


@lru_cache(maxsize=1 << 16)
def label_sentence(sentence: str) -> tuple[int, ...]:
    """Indices of the labels that one sentence states. Cached, because most sentences occur many times."""
    words = sentence.lower().split()
    hinted = frozenset().union(*map(hinted_by, words))
    if not hinted:
        return ()
    sentence = " ".join(words)
    if ":" in sentence:
        if INDICATION.match(sentence):
            return ()
        sentence = HEADING.sub(r"\1 ", sentence)
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
