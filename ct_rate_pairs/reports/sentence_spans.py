"""
Where the sentences of a text begin and end. The time that this takes grows with the length of the text, and no faster,
whatever the text holds. This file is also shipped beside the `evaluate` scripts.
"""

import re
from collections.abc import Iterator

from .readable import check_length


# Letters. The longest of the 18,359 sentences of 800 real reports has 755. The rules of the labeler look back and
# forth within a sentence, so that their time grows faster than the sentence. The time for a whole text does not,
# because a longer sentence is read as several sentences.
LONGEST_SENTENCE = 1000

# "A small amount remains", "a new one is present today": what is there is named before.
_SMALL = r"(?:(?:very|new|small|tiny|minimal|little|larger?|moderate|certain|single|residual|smaller|further) ){0,2}"
_SOME = r"(?:ones?|two|three|four|five|several|some|many|multiple|few)"
_SINCE = r"(?:since|now|again|later|then|subsequently)"
RECURRED = (
    r"(?:recur(?:red|s)|re-?accumulate[ds]|return(?:ed|s)(?! to)|re-?appear(?:ed|s)|re-?occur(?:red|s)|relapse[ds]|"
    r"re-?form(?:ed|s)|re-?develop(?:ed|s)|c[ao]mes? back)"
)
REST_REMAINS = (
    r"(?:(?:but|and|however|although|though|yet|while|whereas),? )?(?:"
    rf"(?:now )?(?:(?:it|they|both|which|that) )?(?:(?:has|have) )?(?:{_SINCE} )?{RECURRED}\b|"
    rf"(?:now )?(?:it is|they are|is|are) (?:{_SINCE} )?back\b(?! to)|"
    r"(?:(?:(?:in|on|at) the (?:[\w-]+ ){1,4}?)?there (?:is|are)|the (?:[\w-]+ ){1,4}?(?:has|have|shows?|contains?)) "
    rf"(?:(?:now|still|an?) )?{_SOME}"
    r"(?=\s*(?:$|[,.;])| (?:in|on|at|near|along)\b)|"
    rf"(?:still |only )?(?:an? |some |the )?{_SMALL}"
    rf"(?:(?:{_SOME}|amounts?|residuals?|residue|remnants?|remainder|rest|focus|bit|little|component|portion) "
    r"(?:still |now ){0,2}(?:remains?|persists?|(?:is|are) (?!not\b|no\b)(?:\w+ )?"
    r"(?:present|seen|noted|visible|evident|left|observed|detected|identified|found|remaining))"
    r"|fluid (?:still )?(?:remains?|persists?|is left))\b)"
)
# The pattern starts with a single character class, because `re` searches for that quickly. Of several end marks in
# a row, the first one ends the sentence, or none does.
SENTENCE_END = re.compile(
    r"[.;!?\r\n\"“”•·；。！？](?:(?<=[.;!])(?<![.;!]{2})[.;!]*+(?:\s++|$)"
    rf"(?!(?:(?<=; )|(?=A |One |Some |Only |Two |Three |Several |There |On |In |At |It |They ))(?i:{REST_REMAINS}))|"
    r"(?<=\.)(?=[A-Z][a-z])|(?<=\?)\s+(?=[A-Z])"
    r"(?!(?:No|None|Yes|Absent|Present|N|Y)\s*(?:[.;,]|$))"
    r"|(?<=[\r\n\"“”•·；。！？]))"
)


def split_sentences(text: str) -> list[str]:
    """
    The sentences of a report, without their end marks.

    Quotation marks and bullets also end a sentence, because CT-RATE uses them in lists. A sentence of more than
    `LONGEST_SENTENCE` letters is cut between words.

    Raises:
        `ValueError`: for a text that is too long for a report, see [`~ct_rate_pairs.reports.readable.check_length`].
    """
    check_length(text)
    sentences = SENTENCE_END.split(text)
    if max(map(len, sentences)) > LONGEST_SENTENCE:
        sentences = [part for sentence in sentences for part in cut_long(sentence)]
    # A Chinese finding may have two letters: 实变
    return [sentence.strip() for sentence in sentences if len(sentence) > (2 if sentence.isascii() else 1)]


def sentence_spans(text: str, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """
    The same sentences as in [`split_sentences`] by their places in the text: where each begins, where it ends (before
    its end mark), and where the next begins. What stands before `start` is left out.
    """
    check_length(text)
    for end, following in [*(mark.span() for mark in SENTENCE_END.finditer(text, start)), (len(text), len(text))]:
        *parts, _ = cut_long(text[start:end])
        for part in parts:
            yield start, start + len(part), start + len(part)
            start += len(part)
        yield start, end, following
        start = following


def cut_long(sentence: str) -> list[str]:
    """A sentence in parts of at most `LONGEST_SENTENCE` letters, cut before blanks where there are any."""
    parts = []
    while len(sentence) > LONGEST_SENTENCE:
        blank = sentence.rfind(" ", 1, LONGEST_SENTENCE)
        cut = LONGEST_SENTENCE if blank < 0 else blank
        parts.append(sentence[:cut])
        sentence = sentence[cut:]
    return [*parts, sentence]
