"""
Where the clauses of an English sentence begin and end, so that a denial reaches no further than its own clause. This
file is also shipped beside the `evaluate` scripts.
"""

import re

from .negations import NO, denies
from .plain_sentences import EARLIER
from .sentence_spans import RECURRED


GONE = "gone|resolved|disappeared|vanished|regressed|cleared"
VERB = re.compile(
    rf"\b(?:is|are|was|were|has|have|had|not|can|cannot|could|persists?|remains?|{GONE}|(?:de|in)creased$)\b"
)
SUBJECTLESS = re.compile(
    rf"(?:(?:is|are|was|were|has|have|not|which|that|{GONE}|(?:all|both|each) of (?:which|them|these))\b|"
    r"none (?:of (?:which|them|these) )?(?:(?:is|are|was|were) )?(?:\w+ly )?"
    r"(?:enlarged|patholog|exceed|larger|greater))"
)
PLACE = re.compile(r" (?:in|of) ")
PRONOUN = re.compile(r"(?:it|they) (?:is|are|was|were|has|have|had|could)\b")
BREAK = re.compile(
    r"(?P<strong>,?\s(?:(?:but(?! none | not (?:\w+ly )?enlarged)|however|although|though|while|whereas|yet)\s"
    r"|(?:(?<=\([-+]\)\s)|(?<=\([-+]\),\s))(?:and\s)?"  # after a sign
    r"|(?=[2-9]\)\s(?!and |or )))"  # before a number in a list
    r"|:\s)"
    r"|\s*,(?!(?<=\d,)\d)\s*(?:(?:and|or)\s)?|\s(?:and|or)\s"
)
# Beginnings of a new statement after a denial and a comma, as in "no effusion, a nodule in the lingula". A list under
# one negation is different: it continues with nouns without an article, or has an "or" before its verb.
STATEMENT = re.compile(
    r"(?:an?|the|there|this|these|with|\d+|one|two|three|several|multiple|numerous|few|some|trace|minimal|mild|slight|"
    r"small|moderate|known|stable|unchanged|persistent|residual|new|now|only|just|merely|simply|positive for)\b"
    r"(?!(?:(?! (?:is|are|was|were) ).)* n?or )|[^,]*\(\+\)|"
    # "No masses, centrilobular emphysema": which, where or how much of it, unless it "was not detected" or has an "or"
    r"(?:bi\w*(?:lateral|basilar|basal|apical)|(?:bi)?basilar|basal|apical|dependent|right|left|upper|lower|"
    r"(?:right|left)-sided|(?:centri|pan|peri)lobular|paraseptal|(?:sub)?segmental|lobar|linear|band-?like|plate-?like|"
    r"discoid|passive|compressive|scattered|diffuse|widespread|extensive|patchy|peripheral|confluent|severe|marked|"
    r"advanced|subtle|faint|tiny|large|huge|massive|calcified|calcific|dense|heavy|coarse|round|irregular|healed|chronic|old|degenerative|enlarged)\b"
    r"(?!.* n?or |[^,]* (?:is|are|was|were)\b)|"
    rf"(?!.* n?or )[^,]+ (?:enlarged|stable|unchanged|persists?|remains?|larger|smaller|in place|in situ|{RECURRED})$"
)
# "No x, y is seen" and "no w or x, y is seen": if y belonged to the list, it would have an "or" before it, so y is
# present. But CT-RATE's "no x, y was detected" denies both.
LIST_OF_DENIAL = re.compile(r"(?:there (?:is|are) )?(?:no|without|neither)\b")
END_OF_ITEM = re.compile(r",\s*(?:and )?$")
OR = re.compile(r"\bn?or\b")
SECOND_IS_SEEN = re.compile(r"[^,]*\b(?:is|are) (?:seen|noted|present|visible|evident)\b")


def is_denied_list(begun: str) -> bool:
    """Whether a clause up to a comma is "no x," or "no w or x,", to which the next item cannot belong."""
    head, comma = LIST_OF_DENIAL.match(begun), END_OF_ITEM.search(begun)
    if not (head and comma):
        return False
    *earlier, last = begun[head.end() : comma.start()].split(",")
    return not earlier or OR.search(last) is not None


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
            or (comma and SECOND_IS_SEEN.match(piece) and is_denied_list(sentence[clause[0][0] : start]))
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
