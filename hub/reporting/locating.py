"""From a sentence to its place in a scan: the finding by the labeler, its place in words, and the mask head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ct_rate_pairs.masks.in_scan import write_mask
from ct_rate_pairs.reports.flips import labels_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import Place, names_place, places
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.reports.sentence_spans import split_sentences
from ct_rate_pairs.volumes.slice_plan import SlicePlan

from .masks import Masker, told_of_thresholds
from .regions import ChestFrame, weights_of


@dataclass(frozen=True)
class LocatedSentence:
    """
    Where a scan shows what a sentence states.

    Args:
        sentence (`str`):
            The sentence.
        places (`dict[str, Place or None]`):
            The findings that it states, as the rule labeler reads them, each with its place in words; `None` where the
            sentence names none that is understood.
        scores (`dict[str, float]`):
            For each of these findings, how sure the mask head is that it lies at this place, in [0, 1]. The mask
            begins at 0.5. It is no probability.
        shares (`np.ndarray` of shape `[S, H, W]`):
            For each pixel of the slices the share of its surroundings that lies in a finding of the sentence, float32,
            weakened outside of the place.
        shown (`np.ndarray` of shape `[S, H, W]`):
            The mask on the slices, bool. It may be empty.
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            Where the slices lie in the scan.
        told (`list[str]`):
            Warnings: of the scan, and of what the sentence says and the score does not tell.
    """

    sentence: str
    places: dict[str, Place | None]
    scores: dict[str, float]
    shares: np.ndarray = field(repr=False)
    shown: np.ndarray = field(repr=False)
    plan: SlicePlan = field(repr=False)
    told: list[str]

    @property
    def score(self) -> float:
        """The lowest of the scores: a sentence is true if all of its findings are there."""
        return min(self.scores.values())

    @property
    def slices(self) -> list[int]:
        """The slices that the mask lies on, counted from 1 at the top."""
        return (np.flatnonzero(self.shown.any(axis=(1, 2))) + 1).tolist()

    @property
    def point(self) -> tuple[int, int, int]:
        """The pixel with the highest share: slice, row and column, from 0."""
        return tuple(int(place) for place in np.unravel_index(self.shares.argmax(), self.shares.shape))

    @property
    def voxels(self) -> np.ndarray:
        """The mask on the grid of the scan in display order, bool `[Z, Y, X]`."""
        return self.plan.on_grid(self.shown)

    def save(self, path: str | Path) -> None:
        """
        Writes the mask as a NIfTI file: 1 inside, 0 outside. The file has the axes, the size and the matrix of the
        scan's own file. Planes that no slice shows are 0, because nothing is known of them.

        Args:
            path (`str` or `Path`):
                A `.nii.gz` file to write. Its folder must exist.

        Raises:
            `ValueError`: for a file with another ending.
        """
        if not str(path).endswith(".nii.gz"):
            raise ValueError(f"{path}: a mask is written as compressed NIfTI. Give a name that ends with .nii.gz.")
        write_mask(Path(path), self.shown, self.plan)


def read_sentence(sentence: str, masker: Masker) -> dict[str, Place | None]:
    """
    The findings that a sentence states and the mask head knows, each with its place in words. What else the sentence
    says is told by [`told_of_rest`].

    Raises:
        `ValueError`: if the sentence states no finding, or none that the head knows. A denied finding has no place.
    """
    found, stated = places(sentence), [index for index, here in enumerate(label_report(sentence)) if here]
    known = [index for index in stated if LABELS[index] in masker.channels]
    if not known:
        of_head = ", ".join(masker.channels)
        what = f"nothing that the mask head knows ({of_head})" if stated else "none of the 18 findings"
        raise ValueError(
            f"The sentence states {what}, so it has no place. Name a finding and, if you like, its side or lobe: "
            '"nodule in the left lower lobe".'
        )
    return {LABELS[index]: found.get(index) for index in known}


def told_of_rest(sentence: str, read: dict[str, Place | None]) -> list[str]:
    """
    What a sentence says and no score of [`locate_findings`] tells, in words: findings that the head does not know,
    denied findings, and places that were not understood, or not whole. So a reader takes no score for that of more.
    """
    unknown, denied, nowhere, side_only = set(), set(), set(), set()
    for one in split_sentences(sentence):
        stated, denied_here = (sorted(labels) for labels in labels_of(one))
        denied |= {LABELS[label] for label in denied_here}
        side, part = names_place(one)
        for label in (LABELS[index] for index in stated):
            if label not in read:
                unknown.add(label)
            elif read[label] is None and (side or part):
                nowhere.add(label)
            elif read[label] and not read[label].lobes and part:
                side_only.add(label)
    told = {
        "The mask head does not know {}, so mask and score leave this out.": unknown,
        "Mask and score leave out what the sentence denies: {}.": denied,
        "No place was read for {}, though the sentence names one. The whole chest counts, and each side has the same "
        "score.": nowhere,
        "Only the side was read for {}, though the sentence names a part of a lung.": side_only,
    }
    return [words.format(_listed(labels)) for words, labels in told.items() if labels]


def _listed(labels: set[str]) -> str:
    return ", ".join(label for label in LABELS if label in labels)


def locate_findings(
    sentence: str,
    read: dict[str, Place | None],
    shares: dict[str, np.ndarray],
    masker: Masker,
    chest: ChestFrame,
    plan: SlicePlan,
    told: Sequence[str] = (),
) -> LocatedSentence:
    """
    The places of the findings of a sentence.

    Args:
        sentence (`str`), read (`dict[str, Place or None]`):
            The sentence, and what [`read_sentence`] reads in it.
        shares (`dict[str, np.ndarray]`):
            From [`~ct_rate_pairs.hub.reporting.masks.Masker.shares`], for these findings.
        masker ([`~ct_rate_pairs.hub.reporting.masks.Masker`]):
            The mask head, with its thresholds.
        chest ([`~ct_rate_pairs.hub.reporting.regions.ChestFrame`]), plan:
            Where the chest lies in the slices, and the slices in the scan.
        told (`Sequence[str]`):
            Warnings of the scan.

    Returns:
        [`LocatedSentence`]: the places.
    """
    size = next(iter(shares.values())).shape[1:]
    placed = {label: shares[label] * weights_of(place, chest, size) for label, place in read.items()}
    scores = {label: score_of(float(own.max()), masker.threshold(label)) for label, own in placed.items()}
    masks = [own >= masker.threshold(label) for label, own in placed.items()]
    return LocatedSentence(
        sentence,
        places=read,
        scores=scores,
        shares=np.max(list(placed.values()), axis=0),
        shown=np.any(masks, axis=0),
        plan=plan,
        told=[*told, *told_of_rest(sentence, read), *told_of_thresholds(masker.unfitted(read))],
    )


def score_of(share: float, threshold: float) -> float:
    """
    A share on a scale on which the threshold of its finding is 0.5, so that findings can be compared: the share's odds
    over those of the threshold.
    """
    odds, least = share * (1 - threshold), threshold * (1 - share)
    return odds / (odds + least) if odds + least else 0.0
