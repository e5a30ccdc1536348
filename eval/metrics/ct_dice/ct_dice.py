"""Masks of findings against drawn ones: Dice, and lesions that are found."""

import datasets
import evaluate

from .bootstrap import estimate
from .dice import mask_scores, pack_mask, unpack_mask
from .own_copy import check_own_copy


check_own_copy(__file__)

# From the Hub, `evaluate` fetches only those files that this script itself imports. So the script imports all of them,
# one per line.
__all__ = ["CTDice", "estimate"]

_DESCRIPTION = """
Dice of the masks of findings, and lesion-wise detection: the share of the drawn lesions that the predicted mask meets,
and the share of the predicted lesions that a drawn one meets. A lesion is a connected part of a mask (26 neighbours).
An empty mask has a Dice of 0 and no lesion found: compare with it, and with the mean mask of training volumes.
"""

_INPUTS = """
Args:
    predictions: masks, one per finding and volume, arrays `[z, y, x]` of 0 and 1. An empty mask says that the finding
        is not there.
    references: the drawn masks, one per prediction, each of the same shape. Where a model has seen some planes of a
        volume alone, give these planes of both.
    planes_apart: whether there are gaps between the planes (optional). The parts of each plane are then lesions of
        their own.
    findings: the name of the finding of each mask (optional).
    volumes: CT-RATE's volume names, one per mask; they name the patients to resample (optional).
    ci: level of the bootstrap intervals by patient, such as 0.95 (optional).
Returns:
    `dice`, the mean over the masks whose reference is not empty; `lesion_recall`, `lesion_precision` and `lesion_f1`;
    `false_masks`, the share of the masks with an empty reference that are not empty; `lesions`, `support` (references
    that are not empty) and `pairs`. A number is None where nothing counts for it. With `findings` also `per_finding`,
    with `ci` also `dice_ci` and so on.
"""


class CTDice(evaluate.Metric):
    """Passes masks to [`mask_scores`]."""

    def _info(self):
        """The description of the metric and the features of its inputs: masks are kept as bits, see [`pack_mask`]."""
        mask = datasets.Value("binary")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": mask, "references": mask}),
        )

    def add_batch(self, *, predictions=None, references=None, **others):
        """Adds masks to the metric."""
        packed = [[pack_mask(mask, row) for row, mask in enumerate(masks)] for masks in (predictions, references)]
        super().add_batch(predictions=packed[0], references=packed[1], **others)

    def add(self, *, prediction=None, reference=None, **others):
        """Adds one mask to the metric."""
        super().add(prediction=pack_mask(prediction), reference=pack_mask(reference), **others)

    def _compute(self, predictions, references, **options):
        """The metric of a set of masks, see `_INPUTS`."""
        return mask_scores(*([unpack_mask(mask) for mask in masks] for masks in (predictions, references)), **options)
