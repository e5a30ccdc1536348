"""
A light head on the vision tower that predicts where each finding is.

The head reads the merged patches of the vision tower, the same features that the language model reads. So the loss of
the head makes these features tell of places. The language model does not read the head.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .heads import Head, base_of, names_of, read_head
from .vision_features import ENCODED


FILE = "mask_head.safetensors"
CELLS = 4  # along each side of a merged patch
RARE = -4.0  # logit of a cell before the training: findings fill a small part of a chest


class MaskHead(Head):
    """
    One linear layer. For each merged patch it predicts, for each finding, which share of each cell of the patch lies
    in the finding. A merged patch of Qwen2.5-VL covers 28 x 28 pixels of two slices, so its cells have 7 x 7 pixels
    of one slice; those of Qwen3-VL and Qwen3.5 cover 32 x 32 pixels, with cells of 8 x 8.

    Args:
        hidden_size (`int`):
            Width of the merged patches.
        names (`Sequence[str]`):
            Names of the `L` findings.
        slices (`int`):
            Slices that a merged patch covers.
        dtype (`torch.dtype`, *optional*):
            Data type of the weights.
    """

    key, file, option = "mask_head", FILE, "mask_loss_weight"

    def __init__(self, hidden_size: int, names: Sequence[str], slices: int, dtype: torch.dtype | None = None):
        super().__init__(names)
        self.shape = (len(names), slices, CELLS, CELLS)
        self.project = nn.Linear(hidden_size, len(names) * slices * CELLS**2, dtype=dtype)
        nn.init.zeros_(self.project.weight)
        nn.init.constant_(self.project.bias, RARE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features (`torch.Tensor` of shape `[N, hidden_size]`):
                Merged patches of any number of volumes.

        Returns:
            `torch.Tensor` of shape `[N, L, slices, CELLS, CELLS]`: logits of the shares.
        """
        return self.project(features).view(len(features), *self.shape)

    def read(self, outputs: Any) -> torch.Tensor:
        """The merged patches of all volumes, `[N, hidden_size]`."""
        return outputs.pooler_output

    def logits(self, features: torch.Tensor, kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The logits of all volumes of a batch. Where forwards share features, the tower ran before this forward."""
        for encoded in (kwargs.get(ENCODED) or {}).values():
            features = torch.cat(tuple(encoded.pooler_output))
        return {"mask_logits": self(features)}


def attach_mask_head(model: nn.Module, names: Sequence[str]) -> MaskHead:
    """
    Puts a [`MaskHead`] on the vision tower of a model.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Qwen2.5-VL, Qwen3-VL or Qwen3.5: its vision tower merges patches along height, width and depth.
        names (`Sequence[str]`):
            Names of the findings.

    Returns:
        [`MaskHead`]: the head, which predicts that no finding is anywhere.

    Raises:
        `ValueError`: if the vision tower of the model does not merge patches of videos, or if its config does not tell
            the width of the merged patches (Qwen2-VL).
    """
    base = base_of(model)
    vision = base.config.vision_config
    sizes = ("temporal_patch_size", "spatial_merge_size", "out_hidden_size")
    if missing := [name for name in sizes if getattr(vision, name, None) is None]:
        raise ValueError(
            "A mask head needs a vision tower that merges patches of a video, as that of Qwen2.5-VL does. That of "
            f"{type(base).__name__} has no {' and no '.join(missing)}: set `mask_loss_weight=0`."
        )
    tower = base.get_encoder("image")
    dtype = next(weight.dtype for weight in tower.parameters() if weight.is_floating_point())
    head = MaskHead(vision.out_hidden_size, names, vision.temporal_patch_size, dtype)
    head.join(base, tower)
    return head


def read_mask_head(file: str | Path, model: nn.Module) -> MaskHead:
    """
    Reads a head, to predict masks with.

    Args:
        file (`str` or `Path`):
            The file `mask_head.safetensors` of a trained model.
        model ([`~transformers.PreTrainedModel`]):
            The model, whose device and data type the head gets.

    Returns:
        [`MaskHead`]: the head in evaluation mode. It is no part of the model.

    Raises:
        `ValueError`: if the file holds no head of this model.
    """
    vision = model.config.vision_config
    head = MaskHead(vision.out_hidden_size, names_of(file), vision.temporal_patch_size)
    return read_head(head, file, model)


def mask_loss(logits: torch.Tensor, shares: torch.Tensor, patches: Sequence[int]) -> torch.Tensor:
    r"""
    Cross-entropy and Dice loss of predicted masks, as nnU-Net adds them (Isensee et al., 2021, Nature Methods 18).

    The cross-entropy is the mean over all cells whose share is known. The Dice loss
    \\(1 - (2 \sum p s + 1) / (\sum p + \sum s + 1)\\) is taken over the cells of a volume, for each finding that the
    volume has; the mean is taken over these. A finding that a volume does not have has no overlap, so only the
    cross-entropy speaks of it.

    Args:
        logits (`torch.Tensor` of shape `[N, L, slices, CELLS, CELLS]`):
            From [`MaskHead`].
        shares (`torch.Tensor` of the same shape):
            Share of each cell that lies in the finding, in [0, 1]; NaN where it is not known.
        patches (`Sequence[int]`):
            Merged patches of each volume; they add up to `N`.

    Returns:
        `torch.Tensor`: the loss, `[]`; 0 if nothing is known.
    """
    logits, known = logits.float(), ~shares.isnan()
    shares = shares.float().nan_to_num()
    entropy = F.binary_cross_entropy_with_logits(logits, shares, reduction="none") * known
    entropy = entropy.sum() / known.sum().clamp(min=1)
    sums = torch.stack([logits.sigmoid() * shares, logits.sigmoid() * known, shares], dim=-1).sum(dim=(2, 3, 4))
    both, predicted, true = torch.stack([of_volume.sum(dim=0) for of_volume in sums.split(list(patches))]).unbind(-1)
    dice = 1 - (2 * both + 1) / (predicted + true + 1)  # [volumes, L]
    has = true > 0
    return entropy + (dice * has).sum() / has.sum().clamp(min=1)
