"""
Reports with one statement turned into its opposite, against their volume: which one is wrong?

The findings section alone is used: the impression repeats it, and would contradict the error by text alone.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .labels import LABELS
from .rules import label_sentence
from .sentences import report_sentences


IMPRESSION = re.compile(r"\n(?=Impression: )")
SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)
OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
# What has a side of its own, or lies on one side only: swapped, its name would be wrong and the scan not needed.
ONE_SIDED = re.compile(
    r"middle lobe|lingul|ventric|atri(?:um|al)|aort|arter|coronar|\bmain\b|heart|cardi|vein|azyg|subclav|jugular|"
    r"liver|hepat|spleen|splen|gall|stomach|both|bilateral|midline",
    re.IGNORECASE,
)
MIN_SHARE = 0.05

# Sentences that state one label alone, and those that deny it alone: (index in LABELS, present) to sentences.
Statements = dict[tuple[int, bool], list[str]]


class Flip(NamedTuple):
    """A way to make one sentence wrong."""

    sentence: int  # index of the sentence
    label: int  # index in LABELS
    kind: str  # "added", "removed" or "side"
    weight: float  # how readily it is drawn

    @property
    def was_stated(self) -> bool:
        """Whether the sentence states its finding before it is made wrong."""
        return self.kind != "added"

    @property
    def is_stated(self) -> bool:
        """And after it."""
        return self.kind != "removed"


class FlippedReport(NamedTuple):
    """Findings with one wrong statement."""

    text: str
    statements: list[tuple[int, int]]  # where in the text the options lie: statements that might be the wrong one
    wrong: int  # which of them it is
    original: str  # what the wrong one said before
    label: str
    kind: str  # "added": an absent finding is stated; "removed": a present one is denied; "side": left <-> right

    @property
    def options(self) -> list[str]:
        """The words of the statements."""
        return [self.text[start:end] for start, end in self.statements]


def findings_of(report: str) -> str:
    """A report without its impression; of an impression alone, all of it."""
    return IMPRESSION.split(report)[0]


def affirm(sentence: str) -> str:
    """
    A sentence without its denials, to be read by the labeler: it then states what the sentence denies. For no other
    eyes, as it need not be grammatical.
    """
    sentence = re.sub(r"\b(?:no|not|any) ", "", sentence.lower())
    sentence = re.sub(r"\bwithout\b", "with", sentence)
    return re.sub(r"\b(?:normal|natural|preserved|within normal limits)\b", "increased", sentence)


@lru_cache(maxsize=1 << 16)
def labels_of(sentence: str) -> tuple[frozenset[int], frozenset[int]]:
    """The labels that a sentence states, and those that it denies, as indices in `LABELS`."""
    sentence = sentence.rstrip(".;!? ")
    stated = frozenset(label_sentence(sentence))
    return stated, frozenset(label_sentence(affirm(sentence))) - stated


def collect_statements(reports: Sequence[str]) -> Statements:
    """
    The sentences of reports that state or deny one label and speak of no other one, repeats included.

    They are what a wrong statement is drawn from. So it is a sentence that a radiologist wrote of another scan:
    grammatical, with plausible details, and in no wording of its own that would give it away. What is said in few
    reports (`MIN_SHARE`) is left out for the same reason.

    Args:
        reports (`Sequence[str]`):
            Reports of the split whose reports are made wrong. Of another split, its sentences would tell the wrong
            statements from the right ones, many of which occur in one report only.

    Returns:
        `dict[tuple[int, bool], list[str]]`: the index of a label in `LABELS`, and whether it is stated, to sentences.
    """
    statements = defaultdict(list)
    for report in reports:
        text = findings_of(report)
        for sentence in report_sentences(text):
            stated, denied = labels_of(sentence.text)
            if len(stated) + len(denied) == 1 and sentence.text.endswith("."):
                statements[*(stated | denied), bool(stated)].append(sentence.text)
    # In an order that does not depend on that of the reports, as the draw does.
    return {said: sorted(found) for said, found in statements.items() if len(found) >= MIN_SHARE * len(reports)}


def swap_side(sentence: str) -> str | None:
    """The sentence with left for right or right for left; `None` where that would not be a different finding."""
    sides = {side.lower() for side in SIDE.findall(sentence)}
    if len(sides) != 1 or ONE_SIDED.search(sentence):
        return None
    swapped = SIDE.sub(lambda mark: OTHER_SIDE[mark[0]], sentence)
    return swapped if labels_of(swapped) == labels_of(sentence) else None


def possible_flips(sentences: Sequence[str], statements: Statements) -> dict[Flip, list[int]]:
    """
    All ways to make one of a report's sentences wrong, each with the sentences that could be the error in its stead:
    they, too, state a finding, or deny one, as it then does. A way without any is left out.

    A sentence must speak of one label, and be the only one that does: a second one would contradict the error, or
    make it true. Presence is flipped as readily as the opposite is common beside the sentence itself, by the odds in
    `statements`: so a rare finding is not an error more often than a common one.
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

    The options, of which one is wrong, all state findings, or all deny them. Otherwise text alone would tell: findings
    are rare, so of the findings stated in flipped reports most would be errors. Half of the errors are stated, half
    are denied.

    Args:
        report (`str`):
            True report; its impression is left out.
        statements (`dict`):
            What wrong statements are drawn from, see [`collect_statements`].
        rng (`np.random.Generator`):
            Chooses the statement, how it is made wrong, and its new words.

    Returns:
        [`FlippedReport`], or `None` where there would be no second option.
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
