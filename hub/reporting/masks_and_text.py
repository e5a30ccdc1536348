"""Where the masks of a scan and the text of its report disagree."""

import numpy as np

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import Place, places

from .masks import ScanMasks, told_of_thresholds
from .regions import ChestFrame, weights_of


NEARLY_ALL = 0.9  # share of a mask that lies on the other side


def told_of_masks(masks: ScanMasks, report: str, chest: ChestFrame) -> list[str]:
    """
    What a reader is to know of the masks of a report: findings that have none, findings without a fitted threshold,
    and findings that the text places on one side and the mask head on the other. Such a finding may be right in one
    of the two, or in none.

    Args:
        masks ([`~ct_rate_pairs.hub.reporting.masks.ScanMasks`]):
            The masks of the stated findings.
        report (`str`):
            The text of the report.
        chest ([`~ct_rate_pairs.hub.reporting.regions.ChestFrame`]):
            Where the chest lies in the slices.

    Returns:
        `list[str]`: the warnings.
    """
    listed = ", ".join(masks.without)
    told = [f"The mask head shows no place for what the report states: {listed}."] if listed else []
    told += told_of_thresholds(masks.unfitted)
    placed = {LABELS[label]: place.side for label, place in places(report).items()}
    for label, shown in masks.shown.items():
        if (side := placed.get(label)) not in ("right", "left"):
            continue
        other = {"right": "left", "left": "right"}[side]
        on_other = weights_of(Place(other, frozenset()), chest, shown.shape[1:])[shown]
        if np.mean(on_other) >= NEARLY_ALL:
            told.append(f"{label}: the text says {side}, and the mask head shows it on the {other}. Look at the scan.")
    return told
