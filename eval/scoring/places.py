"""Scores where reports place their findings: on which side, and in which lobes."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ct_rate_pairs.eval.metrics.bootstrap import divide, estimate
from ct_rate_pairs.eval.metrics.label_metrics import per_label
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL, Place, places
from ct_rate_pairs.reports.rules import label_report


COUNTS = ("stated_by_both", "sides", "lobes")


class PlacedFindings(NamedTuple):
    """The findings of the lungs and the pleura that a text states, and the known places among theirs."""

    stated: frozenset[int]  # indices in `LABELS`, of those in `LATERAL`
    places: dict[int, Place]


def score_places(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict:
    """
    Compares the places of those findings that a generated report and its reference report both state.

    Only the ten findings of the lungs and the pleura have places. [`~ct_rate_pairs.reports.places.places`] reads the
    places. The rule labeler reads what is stated, whichever labeler the other metrics use. The sentences of a text
    about one finding count together: a nodule on the right and a nodule on the left are nodules on both sides. If a
    text does not clearly say where a finding is, its place is unknown, and counts neither as right nor as wrong.

    Args:
        predictions (`Sequence[str]`):
            Generated reports, without findings lines.
        references (`Sequence[str]`):
            Reference reports, one per prediction.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`:

        - `side_accuracy`: share of the `sides` findings that have the same side (right, left or both) in both texts.
        - `lobe_accuracy`: share of the `lobes` findings that have exactly the same lobes in both texts. The lingula
          counts as the left upper lobe.
        - `stated_by_both`: number of findings that both texts state. `sides` of them have a known side in both texts,
          and `lobes` of them also known lobes.
        - `per_label`: maps the name of each of the ten findings to the same numbers.

        An accuracy is `None` if there is nothing to compare. With `ci` also `side_accuracy_ci`, `lobe_accuracy_ci` and
        `ci_level`.
    """
    statistics = place_statistics(read_places(predictions), read_places(references))
    sums = {name: values.sum(axis=0) for name, values in statistics.items()}  # [10] each
    return {
        **estimate(statistics, place_scores, volumes, ci),
        **{name: int(sums[name].sum()) for name in COUNTS},
        "per_label": per_label(
            [LABELS[label] for label in LATERAL],
            side_accuracy=divide(sums["sides_right"], sums["sides"]),
            lobe_accuracy=divide(sums["lobes_right"], sums["lobes"]),
            **{name: sums[name] for name in COUNTS},
        ),
    }


def score_common_places(
    predictions: Sequence[PlacedFindings], references: Sequence[PlacedFindings], training: Sequence[PlacedFindings]
) -> dict[str, float | None]:
    """
    What [`score_places`] gives if each generated report names the most common place of a finding, not its own place.

    Args:
        predictions (`Sequence[PlacedFindings]`), references (`Sequence[PlacedFindings]`):
            What [`read_places`] reads from generated reports and reference reports. The findings that count are those
            that count in [`score_places`].
        training (`Sequence[PlacedFindings]`):
            The same of the reports of the training split, which tell the most common side of each finding, and its
            most common lobes.

    Returns:
        `dict`: `side_accuracy_common` and `lobe_accuracy_common`, which need no look at the scan.
    """
    sides: dict[int, Counter] = {label: Counter() for label in LATERAL}
    lobes: dict[int, Counter] = {label: Counter() for label in LATERAL}
    for report in training:
        for label, place in report.places.items():
            sides[label][place.side] += 1
            if place.lobes:
                lobes[label][place.lobes] += 1

    def common(label: int, place: Place) -> Place:
        """The most common place, with lobes if `place` has lobes; a place that is never right if there is none."""
        side = max(sides[label], key=sides[label].get, default="")
        most = max(lobes[label], key=lobes[label].get, default=frozenset([""]))
        return Place(side, most if place.lobes else frozenset())

    guessed = [
        report._replace(places={label: common(label, place) for label, place in report.places.items()})
        for report in predictions
    ]
    scores = estimate(place_statistics(guessed, references), place_scores)
    return {f"{name}_common": value for name, value in scores.items()}


def misplaced(prediction: str, reference: str) -> frozenset[int]:
    """Indices in `LABELS` of the findings that two reports both place, but on other sides or in other lobes."""
    first, second = (text.places for text in read_places([prediction, reference]))
    return frozenset(
        label
        for label in first.keys() & second.keys()
        if first[label].side != second[label].side
        or (first[label].lobes and second[label].lobes and first[label].lobes != second[label].lobes)
    )


def read_places(texts: Sequence[str]) -> list[PlacedFindings]:
    """The findings of each text and their places, with the lingula as a part of the left upper lobe."""
    return [
        PlacedFindings(
            frozenset(label for label in LATERAL if stated[label]),
            {
                label: Place(side, frozenset("left upper" if lobe == "lingula" else lobe for lobe in lobes))
                for label, (side, lobes) in places(text).items()
            },
        )
        for text in texts
        for stated in [label_report(text)]
    ]


def place_statistics(
    predictions: Sequence[PlacedFindings], references: Sequence[PlacedFindings]
) -> dict[str, np.ndarray]:
    """
    Counts of each report. All numbers of [`score_places`] are functions of their sums over the reports.

    Returns:
        `dict[str, np.ndarray]`: arrays of 0 and 1, of shape `[N, 10]`, one column per finding of `LATERAL`:
        `stated_by_both`, `sides` (the side is known in both texts) and `sides_right` (it is the same), `lobes` and
        `lobes_right`.
    """
    names = (*COUNTS, "sides_right", "lobes_right")
    statistics = {name: np.zeros((len(references), len(LATERAL)), int) for name in names}
    for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        for column, label in enumerate(LATERAL):
            first, second = prediction.places.get(label), reference.places.get(label)
            statistics["stated_by_both"][row, column] = label in prediction.stated & reference.stated
            if first and second:
                statistics["sides"][row, column] = 1
                statistics["sides_right"][row, column] = first.side == second.side
                statistics["lobes"][row, column] = bool(first.lobes and second.lobes)
                statistics["lobes_right"][row, column] = bool(first.lobes) and first.lobes == second.lobes
    return statistics


def place_scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`side_accuracy` and `lobe_accuracy`, computed from the sums of [`place_statistics`]; leading axes are kept."""
    return {
        "side_accuracy": divide(sums["sides_right"].sum(axis=-1), sums["sides"].sum(axis=-1)),
        "lobe_accuracy": divide(sums["lobes_right"].sum(axis=-1), sums["lobes"].sum(axis=-1)),
    }
