"""
Makes one statement of a report wrong, so that a model can be asked which statement it is.

Only the findings section is used. The impression repeats the findings, so it would contradict the wrong statement, and
the text alone would give the answer.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .chinese_rules import NO, NOT_SEEN
from .labels import LABELS
from .readable import is_chinese
from .rules import label_sentence
from .sentences import report_sentences


IMPRESSION = re.compile(r"\n(?=Impression: |诊断印象：)")
SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
# Words beside which a side is never swapped: "left" or "right" is part of a name, or the organ lies on one side only.
# With the side swapped, the sentence would be wrong for any scan.
ONE_SIDED = re.compile(
    r"middle lobe|lingul|ventric|atri(?:um|al)|aort|arter|coronar|\bmain\b|heart|cardi|vein|azyg|subclav|jugular|"
    r"liver|hepat|spleen|splen|gall|stomach|both|bilateral|midline",
    re.IGNORECASE,
)
MIN_SHARE = 0.05  # a kind of statement that fewer reports hold is not used

# (index of a label in LABELS, whether it is stated) -> sentences that state (or deny) this label and no other label.
Statements = dict[tuple[int, bool], list[str]]


class Flip(NamedTuple):
    """One way to make one sentence of a report wrong."""

    sentence: int  # index of the sentence in the report
    label: int  # index in LABELS
    kind: str  # "added", "removed" or "side"
    weight: float  # relative probability to be drawn

    @property
    def was_stated(self) -> bool:
        """Whether the original sentence states the finding."""
        return self.kind != "added"

    @property
    def is_stated(self) -> bool:
        """Whether the wrong sentence states the finding."""
        return self.kind != "removed"


class FlippedReport(NamedTuple):
    """A findings section with one wrong statement."""

    text: str
    statements: list[tuple[int, int]]  # (start, end) in the text of each option: the statements to choose from
    wrong: int  # index of the wrong statement in `statements`
    original: str  # the original of the wrong statement
    label: str  # the finding that the wrong statement is about
    kind: str  # "added": an absent finding is stated; "removed": a present finding is denied; "side": left <-> right

    @property
    def options(self) -> list[str]:
        """The texts of the statements."""
        return [self.text[start:end] for start, end in self.statements]


def findings_of(report: str) -> str:
    """A report without its impression. A report that is only an impression stays as it is."""
    return IMPRESSION.split(report)[0]


def affirm(sentence: str) -> str:
    """
    A sentence without its denials, so that the labeler finds the labels that the sentence denies. The result may be
    ungrammatical: it is for the labeler only.
    """
    if not sentence.isascii() and is_chinese(sentence):
        return NOT_SEEN.sub("", NO.sub("", sentence))
    sentence = re.sub(r"\b(?:no|not|any) ", "", sentence.lower())
    sentence = re.sub(r"\bwithout\b", "with", sentence)
    return re.sub(r"\b(?:normal|natural|preserved|within normal limits)\b", "increased", sentence)


@lru_cache(maxsize=1 << 16)
def labels_of(sentence: str) -> tuple[frozenset[int], frozenset[int]]:
    """The labels that a sentence states, and the labels that it denies, as indices in `LABELS`."""
    sentence = sentence.rstrip(".;!? ")
    stated = frozenset(label_sentence(sentence))
    return stated, frozenset(label_sentence(affirm(sentence))) - stated


def collect_statements(reports: Sequence[str]) -> Statements:
    """
    Collects the sentences that wrong statements are drawn from: sentences that state or deny exactly one label.

    So each wrong statement is a sentence that a radiologist wrote about another scan. It is grammatical, has plausible
    details, and has no special wording that would show that it is wrong. For the same reason, a kind of statement that
    few reports hold (less than `MIN_SHARE`) is left out.

    Args:
        reports (`Sequence[str]`):
            All reports of the split whose reports are made wrong. They must not come from another split: many
            sentences occur in one report only, so a sentence of another split would show that it is wrong.

    Returns:
        `dict[tuple[int, bool], list[str]]`: (index of a label in `LABELS`, whether the label is stated) -> sentences,
        sorted. A sentence that occurs several times is listed several times.
    """
    statements = defaultdict(list)
    for report in reports:
        text = findings_of(report)
        for sentence in report_sentences(text):
            stated, denied = labels_of(sentence.text)
            if len(stated) + len(denied) == 1 and sentence.text.endswith("."):
                statements[*(stated | denied), bool(stated)].append(sentence.text)
    # Sorted, because the later draw depends on the order, and the order of the reports must not matter.
    return {said: sorted(found) for said, found in statements.items() if len(found) >= MIN_SHARE * len(reports)}


def swap_side(sentence: str) -> str | None:
    """The sentence with left and right swapped; `None` if the swap would not describe another finding."""
    sides = {side.lower() for side in SIDE.findall(sentence)}
    if len(sides) != 1 or ONE_SIDED.search(sentence):
        return None
    swapped = SIDE.sub(lambda mark: OTHER_SIDE[mark[0]], sentence)
    return swapped if labels_of(swapped) == labels_of(sentence) else None


def possible_flips(sentences: Sequence[str], statements: Statements) -> dict[Flip, list[int]]:
    """
    All ways to make one sentence of a report wrong, each with the other sentences that are options beside it.

    The wrong sentence then states a finding or denies one. The other options are the sentences that do the same and
    could be made wrong themselves. A way without another option is left out.

    A sentence must be about exactly one label, and no other sentence may be about this label: it would contradict the
    wrong sentence, or make it true. The weight of a way is the odds, in `statements`, of the opposite statement
    against the original kind of statement, so that rare findings are not made wrong more often than common findings.
    """
    labels = [labels_of(sentence) for sentence in sentences]
    count = Counter(label for stated, denied in labels for label in stated | denied)
    flips = []
    for place, (stated, denied) in enumerate(labels):
        if len(stated) + len(denied) != 1:
            continue
        (label,) = stated | denied
        if count[label] > 1:
            continue
        same, opposite = (len(statements.get((label, present), ())) for present in (bool(stated), not stated))
        if same and opposite:
            flips.append(Flip(place, label, "removed" if stated else "added", opposite / same))
        if stated and swap_side(sentences[place]):
            flips.append(Flip(place, label, "side", 1.0))
    others = {flip: {o.sentence for o in flips if o.was_stated == flip.is_stated} - {flip.sentence} for flip in flips}
    return {flip: sorted(places) for flip, places in others.items() if places}


def flip_report(report: str, statements: Statements, rng: np.random.Generator) -> FlippedReport | None:
    """
    Makes one statement of a report wrong.

    The options are the wrong statement and other statements. All of them state a finding, or all of them deny one.
    Otherwise the text alone would give the answer: findings are rare, so most findings that a flipped report states
    would be errors. Where a report allows both, the two kinds are equally likely.

    Args:
        report (`str`):
            The true report. Its impression is left out.
        statements (`dict[tuple[int, bool], list[str]]`):
            The sentences that wrong statements are drawn from, see [`collect_statements`].
        rng (`np.random.Generator`):
            Random stream that chooses the statement, how it is made wrong, and its new words.

    Returns:
        [`FlippedReport`] or `None`: the flipped report; `None` if there are not two statements to choose from.
    """
    text = findings_of(report)
    sentences = report_sentences(text)
    others = possible_flips([sentence.text for sentence in sentences], statements)
    if not others:
        return None
    is_stated = rng.choice(sorted({flip.is_stated for flip in others}))
    flips = [flip for flip in others if flip.is_stated == is_stated]
    weights = np.array([flip.weight for flip in flips])
    flip = flips[rng.choice(len(flips), p=weights / weights.sum())]
    start, end, original, _ = sentences[flip.sentence]
    if flip.kind == "side":
        new = swap_side(original)
    else:
        new = str(rng.choice(statements[flip.label, flip.is_stated]))
    longer = len(new) - (end - start)
    options = sorted([*others[flip], flip.sentence])
    return FlippedReport(
        text=text[:start] + new + text[end:],
        statements=[
            (first + longer * (first > start), last + longer * (first >= start))
            for first, last, *_ in (sentences[option] for option in options)
        ],
        wrong=options.index(flip.sentence),
        original=original,
        label=LABELS[flip.label],
        kind=flip.kind,
    )
