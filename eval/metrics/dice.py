"""
Predicted masks of findings against drawn ones: Dice, and how many of the lesions are found.

This file is also shipped beside the `evaluate` script, so it imports numpy and scipy alone. MONAI's `compute_dice`
gives the same Dice (`benchmarks/bench_dice.py` compares them). It is not used, because its import takes more time and
memory than all of this package, and MONAI has no measure that counts lesions which a mask meets.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .bootstrap import divide, estimate, known


TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a corner are of one lesion
IN_PLANE = TOUCHING & np.array([0, 1, 0], bool)[:, None, None]
COUNTS = ("lesions", "found", "predicted", "right")
NUMBERS = ("dice", "lesion_recall", "lesion_precision", "lesion_f1", "false_masks")


def count_lesions(
    prediction: np.ndarray, reference: np.ndarray, planes_apart: bool = False
) -> tuple[int, int, int, int]:
    """
    Counts lesions, which are connected parts of a mask. A lesion is found if the other mask has at least one of its
    voxels.

    Args:
        prediction (`np.ndarray`), reference (`np.ndarray`):
            Masks, bool `[Z, Y, X]`.
        planes_apart (`bool`, *optional*, defaults to `False`):
            Whether there are gaps between the planes. Nobody knows then whether what lies on two planes is connected
            between them, so the parts of each plane are lesions of their own.

    Returns:
        `tuple[int, int, int, int]`: lesions of the reference, those of them that the prediction meets, lesions of the
        prediction, and those of them that the reference meets.
    """
    counts = []
    for own, other in ((reference, prediction), (prediction, reference)):
        parts, number = ndimage.label(own, IN_PLANE if planes_apart else TOUCHING)
        counts += [number, len(np.unique(parts[own & other]))]
    return tuple(counts)


def mask_scores(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    *,
    planes_apart: bool = False,
    findings: Sequence[str] | None = None,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict:
    """
    Scores predicted masks. A pair is the mask of one finding in one volume, on the slices or on the voxels of the
    volume. Where only some planes were looked at, give these planes alone, and `planes_apart`.

    Args:
        predictions (`Sequence[np.ndarray]`), references (`Sequence[np.ndarray]`):
            `N` pairs of masks, `[Z, Y, X]`, of 0 and 1. The two of a pair have one shape. An empty mask says that the
            finding is not there.
        planes_apart (`bool`, *optional*, defaults to `False`):
            Whether there are gaps between the planes, see [`count_lesions`].
        findings (`Sequence[str]`, *optional*):
            The finding of each pair.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap intervals by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`:

        - `dice`: mean Dice over the pairs whose reference is not empty. An empty prediction has 0 there.
        - `lesion_recall`: share of the lesions of all references that the prediction meets, and `lesions`, how many
          there are; `lesion_precision`: share of the lesions of all predictions that the reference meets;
          `lesion_f1`: their harmonic mean.
        - `false_masks`: share of the pairs with an empty reference whose prediction is not empty.
        - `support`: pairs whose reference is not empty, and `pairs`, all of them.
        - with `findings`, `per_finding`: maps each name to the same numbers.

        A number is `None` where nothing counts for it. With `ci` also `dice_ci` and so on.

    Raises:
        `ValueError`: if there are no pairs, if the numbers of masks and names differ, or if a mask has not three axes,
            another shape than its counterpart, or other values than 0 and 1. The message names the row.
    """
    if not len(predictions) or len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references: give one prediction per reference."
        )
    if findings is not None and len(findings) != len(references):
        raise ValueError(f"{len(findings)} `findings` for {len(references)} masks: give one name per mask.")
    statistics = _statistics(predictions, references, planes_apart)
    scores = estimate(statistics, _scores, volumes, ci) | _sizes(statistics)
    if findings is not None:
        names = np.asarray(findings)
        scores["per_finding"] = {name: _of_finding(statistics, names == name) for name in sorted(set(findings))}
    return scores


def _statistics(predictions: Sequence, references: Sequence, planes_apart: bool) -> dict[str, np.ndarray]:
    """What is counted of each pair, `[N]`."""
    rows = []
    for row, pair in enumerate(zip(predictions, references, strict=True)):
        prediction, reference = (_as_mask(mask, row) for mask in pair)
        if prediction.shape != reference.shape:
            raise ValueError(
                f"Row {row}: the prediction has the shape {prediction.shape}, and the reference {reference.shape}. "
                "Give both on one grid."
            )
        both, sizes = (prediction & reference).sum(), prediction.sum() + reference.sum()
        has = bool(reference.any())
        rows.append(
            {
                "has": has,
                "dice": 2 * both / sizes if has else 0.0,
                "lacks": not has,
                "false": not has and bool(prediction.any()),
                **dict(zip(COUNTS, count_lesions(prediction, reference, planes_apart), strict=True)),
            }
        )
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def pack_mask(mask: np.ndarray, row: int = 0) -> bytes:
    """
    A mask `[Z, Y, X]` as bits, for the table in which `evaluate` keeps inputs.

    Raises:
        `ValueError`: as [`mask_scores`]. The message names the `row`.
    """
    array = _as_mask(mask, row)
    return np.array(array.shape, "<i8").tobytes() + np.packbits(array).tobytes()


def unpack_mask(packed: bytes) -> np.ndarray:
    """The mask that [`pack_mask`] has packed, bool."""
    shape = np.frombuffer(packed, "<i8", count=3)
    bits = np.unpackbits(np.frombuffer(packed, np.uint8, offset=24), count=int(shape.prod()))
    return bits.astype(bool).reshape(shape)


def _as_mask(mask: object, row: int) -> np.ndarray:
    array = np.asarray(mask)
    if array.ndim != 3:
        raise ValueError(f"Row {row}: a mask has {array.ndim} axes, and must have three (z, y, x).")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"Row {row}: a mask has other values than 0 and 1. Choose a threshold, or one label.")
    return array.astype(bool)


def _scores(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    recall, precision = divide(sums["found"], sums["lesions"]), divide(sums["right"], sums["predicted"])
    return {
        "dice": divide(sums["dice"], sums["has"]),
        "lesion_recall": recall,
        "lesion_precision": precision,
        "lesion_f1": divide(2 * recall * precision, recall + precision, empty=0.0),
        "false_masks": divide(sums["false"], sums["lacks"]),
    }


def _sizes(statistics: dict[str, np.ndarray]) -> dict[str, int]:
    return {
        "lesions": int(statistics["lesions"].sum()),
        "support": int(statistics["has"].sum()),
        "pairs": len(statistics["has"]),
    }


def _of_finding(statistics: dict[str, np.ndarray], own: np.ndarray) -> dict:
    chosen = {name: values[own] for name, values in statistics.items()}
    sums = {name: values.sum(axis=0) for name, values in chosen.items()}
    return {name: known(value) for name, value in _scores(sums).items()} | _sizes(chosen)
