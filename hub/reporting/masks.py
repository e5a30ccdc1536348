"""Where the findings of a scan are, by the mask head of a model, and the files of these masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from ct_rate_pairs.eval.predictions.masks import DEFAULT_THRESHOLD, predict_cells, shares_of_cells
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.masks import MaskScores
from ct_rate_pairs.masks.in_scan import planes_in_file, write_mask
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.hub_files import find_file
from ct_rate_pairs.trainer.mask_head import FILE, MaskHead, read_mask_head
from ct_rate_pairs.volumes.slice_plan import SlicePlan

from .outlines import Line, outline_of


SCORES = "masks.json"  # of `recipes/masks_after_training.py`, with the thresholds
FOLDER = "masks"  # beside `report.json`


@dataclass(frozen=True)
class ScanMasks:
    """
    The masks of the findings of one scan. They are as coarse as the cells of the head: 7 x 7 pixels of a slice for
    Qwen2.5-VL.

    Args:
        plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
            Where the slices lie in the scan. It does not name the scan.
        shown (`dict[str, np.ndarray]`):
            For each label the voxels of its mask on the slices, bool `[S, H, W]`. No mask is empty.
        thresholds (`dict[str, float]`):
            For each finding of the head that these labels have, the share from which on a pixel belongs to the mask.
        unfitted (`list[str]`):
            The findings of the head, of these labels and of those without a mask, that take the default of 0.5.
        without (`list[str]`):
            The labels that the head knows, and whose share reaches its threshold nowhere.
        unknown (`list[str]`):
            The labels that the head does not know.
    """

    plan: SlicePlan
    shown: dict[str, np.ndarray]
    thresholds: dict[str, float]
    unfitted: list[str]
    without: list[str]
    unknown: list[str]

    def voxels(self, label: str) -> np.ndarray:
        """The mask of a label on the grid of the scan in display order, bool `[Z, Y, X]`."""
        return self.plan.on_grid(self.shown[label])

    def save(self, folder: str | Path) -> None:
        """
        Writes a NIfTI file per mask, such as `lung_nodule.nii.gz`: 1 inside, 0 outside. The files have the axes, the
        size and the matrix of the scan's own file. Planes that no slice shows are 0, because nothing is known of them.

        Args:
            folder (`str` or `Path`):
                Folder to write into. It is made if it does not exist.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        for label, shown in self.shown.items():
            write_mask(Path(folder, file_of(label)), shown, self.plan)

    def slices(self, label: str) -> list[int]:
        """The slices that the mask of a label is on, counted from 1; none for a label without a mask."""
        shown = self.shown.get(label)
        return [] if shown is None else (np.flatnonzero(shown.any(axis=(1, 2))) + 1).tolist()

    def outline(self, label: str, number: int) -> list[Line]:
        """The outline of the mask of a label on a slice, counted from 1, at the pixels of its stored plane."""
        return outline_of(self.plan.in_plane(self.shown[label][number - 1]))

    def to_dict(self) -> dict:
        """What `report.json` tells of the masks that are saved beside it."""
        axis, planes = planes_in_file(self.plan)
        return {
            "files": {label: f"{FOLDER}/{file_of(label)}" for label in self.shown},
            "thresholds": self.thresholds,
            "unfitted": self.unfitted,
            "seen_planes": {"axis": axis, "places": planes},
            "nowhere": self.without,
            "unknown": self.unknown,
        }


class Masker:
    """
    Predicts where findings are, with the mask head of a model.

    Args:
        head ([`~ct_rate_pairs.trainer.mask_head.MaskHead`]):
            The head. The names of its findings are labels, or are read by the rule labeler: ReXGroundingCT's
            "Atelectasis or consolidation" stands for two labels.
        fitted (`Mapping[str, float]`, *optional*):
            The fitted thresholds of its findings. The others take 0.5.
    """

    def __init__(self, head: MaskHead, fitted: Mapping[str, float] | None = None):
        self.head, self.fitted = head, dict(fitted or {})

    @cached_property
    def channels(self) -> dict[str, list[int]]:
        """For each label that the head knows, the places of its findings in the head."""
        named = [[name] if name in LABELS else _read(name) for name in self.head.names]
        found = {label: [place for place, labels in enumerate(named) if label in labels] for label in LABELS}
        return {label: places for label, places in found.items() if places}

    def thresholds(self, label: str) -> dict[str, float]:
        """The thresholds of the findings that a label has in the head."""
        names = [self.head.names[place] for place in self.channels[label]]
        return {name: self.fitted.get(name, DEFAULT_THRESHOLD) for name in names}

    def threshold(self, label: str) -> float:
        """The threshold of the shares of a label: the lowest of [`thresholds`]."""
        return min(self.thresholds(label).values())

    def unfitted(self, labels: Iterable[str]) -> list[str]:
        """The findings of the head, among those of some labels that it knows, that take the default."""
        names = dict.fromkeys(name for label in labels for name in self.thresholds(label))
        return [name for name in names if name not in self.fitted]

    def shares(
        self, model: PreTrainedModel, collator: PairCollator, row: dict, labels: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """
        For some labels that the head knows, the share of each pixel's surroundings that lies in the finding, float32
        of shape `[S, H, W]`, in [0, 1]. Of several findings of the head, the share that is highest in relation to its
        own threshold counts, scaled so that it reaches the lowest threshold where it reaches its own. Only the vision
        tower runs, once.
        """
        cells = predict_cells(model, self.head, collator, row)
        maps = {}
        for label in labels:  # one by one: all labels at the size of the slices would take much memory
            of_label = shares_of_cells(cells[:, self.channels[label]], collator, row)
            own = np.array(list(self.thresholds(label).values()), np.float32)
            maps[label] = (of_label * (own.min() / own)[:, None, None, None]).max(axis=0)
        return maps

    def masks(
        self, model: PreTrainedModel, collator: PairCollator, row: dict, plan: SlicePlan, labels: Iterable[str]
    ) -> ScanMasks:
        """
        The masks of some labels in one scan.

        Args:
            model ([`~transformers.PreTrainedModel`]):
                Model in evaluation mode, that the head was trained on.
            collator ([`~ct_rate_pairs.trainer.PairCollator`]):
                Turns rows into inputs of the model.
            row (`dict`):
                The scan, with `images`, `slice_mm` and `prompt`.
            plan ([`~ct_rate_pairs.volumes.slice_plan.SlicePlan`]):
                Where its slices lie.
            labels (`Iterable[str]`):
                The labels, such as those that a report states.

        Returns:
            [`ScanMasks`]: the masks.
        """
        labels = list(labels)
        known = [label for label in labels if label in self.channels]
        shares = self.shares(model, collator, row, known) if known else {}
        masks = {label: share >= self.threshold(label) for label, share in shares.items()}
        shown = {label: mask for label, mask in masks.items() if mask.any()}
        return ScanMasks(
            plan,
            shown,
            thresholds={name: own for label in shown for name, own in self.thresholds(label).items()},
            unfitted=self.unfitted(known),
            without=[label for label in known if label not in shown],
            unknown=[label for label in labels if label not in self.channels],
        )


def _read(name: str) -> list[str]:
    return [label for label, stated in zip(LABELS, label_report(name), strict=True) if stated]


def load_masker(name_or_path: str, revision: str | None, model: PreTrainedModel) -> Masker | None:
    """
    Reads the mask head of a model in a folder or on the Hub, and the thresholds that its training has fitted.

    Returns:
        [`Masker`] or `None`: `None` for a model without a mask head.

    Raises:
        `OSError`: if the Hub does not answer whether the model has a mask head.
        `ValueError`: if the file holds no head of this model, or a file of thresholds is not as it must be.
    """
    file = find_file(name_or_path, FILE, revision)
    if file is None:
        return None
    scores = find_file(name_or_path, SCORES, revision)
    found = read_json(scores, MaskScores)["model"]["findings"] if scores else {}
    fitted = {name: own["threshold"] for name, own in found.items() if own["threshold"] is not None}
    return Masker(read_mask_head(file, model), fitted)


def told_of_thresholds(unfitted: Sequence[str]) -> list[str]:
    """The warning of the findings of a head whose masks begin at the default, if there are any."""
    listed = ", ".join(unfitted)
    default = f"masks begin at a share of {DEFAULT_THRESHOLD}, which was not measured"
    return [f"No threshold could be fitted for {listed}: {default}."] if listed else []


def check_masker(masker: Masker | None, is_needed: bool = True) -> None:
    """Raises a `ValueError` if masks are needed, and a model has no mask head."""
    if is_needed and masker is None:
        raise ValueError(
            f"Masks need a model with a mask head ({FILE}), and this one has none. Train one: ct-rate-pairs train "
            "--masks FOLDER --mask_loss_weight 1."
        )


def file_of(label: str) -> str:
    """Name of the file of a label's mask, such as `lung_nodule.nii.gz`."""
    return f"{label.lower().replace(' ', '_')}.nii.gz"


def remove_masks(folder: Path) -> None:
    """Removes the masks of an earlier report from its folder."""
    for label in LABELS:
        (folder / FOLDER / file_of(label)).unlink(missing_ok=True)
