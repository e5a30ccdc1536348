"""Predicted masks against drawn ones, beside masks that need no scan."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.metrics.bootstrap import divide, known
from ct_rate_pairs.eval.metrics.dice import count_lesions
from ct_rate_pairs.eval.metrics.ranking import auroc
from ct_rate_pairs.eval.predictions.masks import DEFAULT_THRESHOLD, predict_masks
from ct_rate_pairs.eval.tables import format_value
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.mask_head import MaskHead


THRESHOLDS = np.linspace(0.05, 0.95, 19)
DEFAULT = int(np.abs(THRESHOLDS - DEFAULT_THRESHOLD).argmin())  # its place
KEYS = ("dice", "met", "pointed", "lesion_recall", "lesion_precision", "false_masks", "auroc")
PREDICTED = ("both", "predicted", "highest", "pointed")  # of `MaskCounts`
ATLAS = (64, 64)  # rows and columns of a slice of the atlas


@dataclass(frozen=True)
class MaskCounts:
    """
    What is counted of `N` volumes and `L` findings, at `T` thresholds.

    Args:
        both (`np.ndarray` of shape `[N, L, T]`), predicted (`np.ndarray` of shape `[N, L, T]`):
            Pixels of the predicted mask that lie in the drawn one, and all pixels of the predicted mask.
        drawn (`np.ndarray` of shape `[N, L]`):
            Pixels of the drawn mask.
        highest (`np.ndarray` of shape `[N, L]`):
            Highest prediction in the volume.
        pointed (`np.ndarray` of shape `[N, L]`):
            Whether the pixel of the highest prediction lies in the drawn mask.
        absent (`np.ndarray` of shape `[N, L]`):
            Whether the volume does not have the finding. A finding that lies between the slices is not absent, though
            its drawn mask on the slices is empty.
        lesions (`np.ndarray` of shape `[N, L, 4]`, *optional*):
            What [`~ct_rate_pairs.eval.metrics.dice.count_lesions`] counts at one threshold of each finding.
    """

    both: np.ndarray
    predicted: np.ndarray
    drawn: np.ndarray
    highest: np.ndarray
    pointed: np.ndarray
    absent: np.ndarray
    lesions: np.ndarray | None = None

    @property
    def met(self) -> np.ndarray:
        """Whether the predicted mask of a finding meets the drawn one, in any volume at any threshold, bool `[L]`."""
        return self.both.any(axis=(0, 2))


def drawn_masks(row: dict, names: Sequence[str]) -> np.ndarray:
    """The masks of a row by finding, bool `[L, S, H, W]`. Several masks of one finding are joined."""
    (width, height), number = row["images"][0].size, len(row["images"])
    drawn = np.zeros((len(names), number, height, width), bool)
    for finding, slices in zip(row["mask_findings"], row["masks"], strict=True):
        if finding["finding"] in names:
            drawn[names.index(finding["finding"])] |= np.stack([np.asarray(plane) for plane in slices])
    return drawn


def make_atlas(rows: Iterable[dict], names: Sequence[str], progress: bool = True) -> np.ndarray:
    """
    The mean mask of each finding over all volumes, `[L, S, 64, 64]`: where a finding is in general, told without a
    look at the scan. Slices are brought to one size.
    """
    total, number = None, 0
    for row in tqdm(rows, desc="Atlas", unit="scan", disable=not progress):
        if row["masks"] is not None:
            drawn = torch.from_numpy(drawn_masks(row, names)).float()
            mean = F.interpolate(drawn, size=ATLAS, mode="area").numpy()
            total, number = mean if total is None else total + mean, number + 1
    if total is None:
        raise ValueError("The masks of no training volume are known, so there is no atlas.")
    return total / number


def masks_of_atlas(atlas: np.ndarray, row: dict) -> np.ndarray:
    """The atlas at the size of a row's slices, `[L, S, H, W]`."""
    width, height = row["images"][0].size
    return F.interpolate(torch.from_numpy(atlas), size=(height, width), mode="bilinear").numpy()


def count_masks(
    predict: Callable[[dict], np.ndarray],
    rows: Iterable[dict],
    names: Sequence[str],
    progress: bool = True,
    chosen: np.ndarray | None = None,
) -> MaskCounts:
    """
    Counts the pixels of predicted and drawn masks, and with `chosen` also the lesions. Volumes whose masks are not
    known are left out.

    Args:
        predict (`Callable[[dict], np.ndarray]`):
            From a row to predictions in [0, 1], `[L, S, H, W]`.
        rows (`Iterable[dict]`):
            Rows with `masks`.
        names (`Sequence[str]`):
            Names of the `L` findings.
        chosen (`np.ndarray` of shape `[L]`, *optional*):
            Places of the thresholds at which lesions are counted, from [`fit_thresholds`].

    Returns:
        [`MaskCounts`]: the counts.

    Raises:
        `ValueError`: if the masks of no volume are known.
    """
    counts, lesions = [], []
    for row in tqdm(rows, desc="Masks", unit="scan", disable=not progress):
        if row["masks"] is None:
            continue
        drawn, maps = drawn_masks(row, names), predict(row)
        absent = [name not in {of["finding"] for of in row["mask_findings"]} for name in names]
        found = map(_of_finding, maps, drawn, absent)
        counts.append([np.stack(values) for values in zip(*found, strict=True)])
        if chosen is not None:
            masks = maps >= THRESHOLDS[chosen][:, None, None, None]
            # Between slices the model has seen nothing, so nothing joins what lies on two of them.
            lesions.append([count_lesions(*pair, planes_apart=True) for pair in zip(masks, drawn, strict=True)])
    if not counts:
        raise ValueError("The masks of none of these volumes are known: give masks of these volumes.")
    pixels = (np.stack(values) for values in zip(*counts, strict=True))
    return MaskCounts(*pixels, lesions=np.array(lesions) if lesions else None)


def _of_finding(maps: np.ndarray, drawn: np.ndarray, absent: bool) -> tuple[np.ndarray, ...]:
    """The counts of one finding in one volume, in the order of [`MaskCounts`]."""
    level = np.digitize(maps, THRESHOLDS)  # how many thresholds a pixel reaches
    highest = maps.argmax()
    return (
        _reaching(level[drawn]),
        _reaching(level),
        drawn.sum(),
        maps.flat[highest],
        drawn.flat[highest],
        absent,
    )


def _reaching(level: np.ndarray) -> np.ndarray:
    """How many pixels reach each threshold, `[T]`."""
    return np.bincount(level.reshape(-1), minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:]


def fit_thresholds(counts: MaskCounts) -> np.ndarray:
    """
    For each finding, the place in `THRESHOLDS` of the best Dice over all pixels of all volumes, `[L]`: so a mask in a
    volume without the finding counts against a threshold, too. Where no mask meets a drawn one, all thresholds are
    equally bad: such a finding gets the default of 0.5, and not the lowest, which would draw a mask nearly anywhere.
    """
    both, sizes = counts.both.sum(axis=0), counts.predicted.sum(axis=0) + counts.drawn.sum(axis=0)[:, None]
    return np.where(counts.met, (2 * both / np.maximum(sizes, 1)).argmax(axis=1), DEFAULT)


def score_masks(counts: MaskCounts, chosen: np.ndarray, fitted: np.ndarray, names: Sequence[str]) -> dict:
    """
    The scores of predicted masks.

    Args:
        counts ([`MaskCounts`]):
            From [`count_masks`], with the lesions.
        chosen (`np.ndarray` of shape `[L]`):
            Places of the thresholds, from [`fit_thresholds`] on other volumes.
        fitted (`np.ndarray` of shape `[L]`):
            Whether these other volumes told a threshold: `met` of their counts.
        names (`Sequence[str]`):
            Names of the findings.

    Returns:
        `dict`: for each finding, and as means over the findings that occur:

        - `dice`: mean Dice over the volumes that have the finding on their slices.
        - `met`: share of these volumes in which the predicted mask touches the drawn one.
        - `pointed`: share of them in which the highest prediction lies in the drawn mask (the pointing game).
        - `lesion_recall`, `lesion_precision`: see [`~ct_rate_pairs.eval.metrics.dice.mask_scores`]. Each slice has
          lesions of its own.
        - `false_masks`: share of the volumes without the finding that get a mask.
        - `auroc`: of the highest prediction, for whether a volume has the finding. Volumes in which the finding lies
          between the slices count neither here nor in `false_masks`.
        - `support`: volumes that have the finding.
        - `threshold`: fitted on other volumes; `None` where they told none, and 0.5 was taken.
    """
    place = np.arange(len(names))
    both, predicted = counts.both[:, place, chosen], counts.predicted[:, place, chosen]  # [N, L]
    has = counts.drawn > 0
    dice = 2 * both / np.maximum(predicted + counts.drawn, 1)

    def mean(values: np.ndarray, of: np.ndarray) -> float | None:
        return known(values[of].mean()) if of.any() else None

    lesions, found, shown, right = np.moveaxis(counts.lesions.sum(axis=0), -1, 0)  # [L] each
    findings = {}
    for label, name in enumerate(names):
        own = has[:, label]
        shown_or_absent = own | counts.absent[:, label]
        findings[name] = {
            "dice": mean(dice[:, label], own),
            "met": mean(both[:, label] > 0, own),
            "pointed": mean(counts.pointed[:, label], own),
            "lesion_recall": known(divide(found[label], lesions[label])),
            "lesion_precision": known(divide(right[label], shown[label])),
            "false_masks": mean(predicted[:, label] > 0, counts.absent[:, label]),
            "auroc": known(auroc(counts.highest[shown_or_absent, label], own[shown_or_absent].astype(int))),
            "support": int(own.sum()),
            "threshold": round(float(THRESHOLDS[chosen[label]]), 2) if fitted[label] else None,
        }
    occurring = [values for values in findings.values() if values["support"]]
    means = {key: [values[key] for values in occurring if values[key] is not None] for key in KEYS}
    return {key: float(np.mean(values)) if values else None for key, values in means.items()} | {"findings": findings}


@torch.no_grad()
def evaluate_masks(
    model: PreTrainedModel,
    head: MaskHead,
    collator: PairCollator,
    train: Iterable[dict],
    validation: Iterable[dict],
    test: Iterable[dict],
    progress: bool = True,
) -> dict:
    """
    Measures the masks that a model predicts, beside two ways that need no scan: no mask at all, and an atlas, which is
    the mean mask of the training volumes. Thresholds are fitted on other volumes than those that are measured.

    Args:
        model ([`~transformers.PreTrainedModel`]), head ([`~ct_rate_pairs.trainer.mask_head.MaskHead`]):
            The model in evaluation mode, and its mask head.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        train (`Iterable[dict]`), validation (`Iterable[dict]`), test (`Iterable[dict]`):
            Rows with masks: for the atlas, for the thresholds, and to measure. The last two are read twice.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show progress bars.

    Returns:
        `dict`: the scores of `"model"`, `"atlas"` and `"empty"`, see [`score_masks`], and `n`, the number of volumes.
    """
    names, results = head.names, {}
    ways = {
        "model": partial(predict_masks, model, head, collator),
        "atlas": partial(masks_of_atlas, make_atlas(train, names, progress)),
    }
    for way, predict in ways.items():
        seen = count_masks(predict, validation, names, progress)
        chosen = fit_thresholds(seen)
        counts = count_masks(predict, test, names, progress, chosen)
        results[way] = score_masks(counts, chosen, seen.met, names)
    lesions = counts.lesions * np.array([1, 0, 0, 0])  # those that are drawn
    nothing = replace(counts, **{name: np.zeros_like(getattr(counts, name)) for name in PREDICTED}, lesions=lesions)
    return results | {"empty": score_masks(nothing, chosen, seen.met, names), "n": len(counts.drawn)}


def format_masks(results: Mapping[str, Any]) -> str:
    """A table for the terminal: the scores of the model and of the two ways that need no scan, then each finding's."""
    heading = f"{'':<36}{'scans':>6}" + "".join(f"{key.replace('_', ' '):>17}" for key in KEYS)
    lines = [heading, "-" * len(heading)]
    lines += [_line(way, results["n"], results[way]) for way in ("model", "atlas", "empty")]
    findings = results["model"]["findings"]
    lines += [_line(f"  {name}", values["support"], values) for name, values in findings.items() if values["support"]]
    lines.append("masks: thresholds from validation; rows of findings are those of the model")
    if unfitted := [name for name, values in findings.items() if values["threshold"] is None]:
        unmet = f"masks: no mask met the finding on validation, so {DEFAULT_THRESHOLD} is taken"
        lines.append(f"{unmet}: {', '.join(unfitted)}")
    return "\n".join(lines)


def _line(name: str, number: int, scores: Mapping[str, float | None]) -> str:
    return f"{name:<36}{number:>6}" + "".join(f"{format_value(scores[key]):>17}" for key in KEYS)
