"""
A light head on the vision tower that predicts where each finding is.

The head reads the merged patches of the vision tower, the same features that the language model reads. So the loss of
the head makes these features tell of places. The language model does not read the head.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from trl.trainer.utils import FusedCausalLMOutput

from .vision_features import ENCODED


FILE = "mask_head.safetensors"  # beside the weights of the model, which stay those of its class
CELLS = 4  # along each side of a merged patch
RARE = -4.0  # logit of a cell before the training: findings fill a small part of a chest


@dataclass
class OutputWithMasks(FusedCausalLMOutput):
    """Output of a model in training, with the logits of its [`MaskHead`], `[N, L, slices, CELLS, CELLS]`."""

    mask_logits: torch.Tensor | None = None


class MaskHead(nn.Module):
    """
    One linear layer. For each merged patch it predicts, for each finding, which share of each cell of the patch lies
    in the finding. A merged patch of Qwen2.5-VL covers 28 x 28 pixels of two slices, so its cells have 7 x 7 pixels
    of one slice.

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

    def __init__(self, hidden_size: int, names: Sequence[str], slices: int, dtype: torch.dtype | None = None):
        super().__init__()
        self.names = tuple(names)
        self.shape = (len(self.names), slices, CELLS, CELLS)
        self.project = nn.Linear(hidden_size, len(self.names) * slices * CELLS**2, dtype=dtype)
        nn.init.zeros_(self.project.weight)
        nn.init.constant_(self.project.bias, RARE)
        self._features: torch.Tensor | None = None  # of the tower's last pass

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features (`torch.Tensor` of shape `[N, hidden_size]`):
                Merged patches of any number of volumes.

        Returns:
            `torch.Tensor` of shape `[N, L, slices, CELLS, CELLS]`: logits of the shares.
        """
        return self.project(features).view(len(features), *self.shape)

    def keep(self, tower: nn.Module, inputs: tuple, outputs: Any) -> None:
        """Hook of the tower: keeps what it has returned for the forward that has called it."""
        self._features = outputs.pooler_output

    def add_logits(self, model: nn.Module, inputs: tuple, kwargs: dict[str, Any], outputs: Any) -> Any:
        """
        Hook of the model: adds the logits to its outputs in training. They must be among the outputs, because DDP
        takes parameters that do not lead to an output for unused.
        """
        features, self._features = self._features, None
        if not isinstance(outputs, FusedCausalLMOutput):
            return outputs
        for encoded in (kwargs.get(ENCODED) or {}).values():  # the tower ran before this forward
            features = torch.cat(tuple(encoded.pooler_output))
        return OutputWithMasks(**outputs, mask_logits=self(features))

    def save(self, folder: str | Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Writes the head to a folder. `weights` replace those of the head, which may be sharded."""
        weights = {name: value.contiguous().cpu() for name, value in (weights or self.state_dict()).items()}
        save_file(weights, Path(folder) / FILE, metadata={"format": "pt", "findings": json.dumps(self.names)})


def attach_mask_head(model: nn.Module, names: Sequence[str]) -> MaskHead:
    """
    Puts a [`MaskHead`] on the vision tower of a model. From then on, the forwards of a training return
    [`OutputWithMasks`]. The head is a part of the model, so it is trained, moved and sharded with the model. It is
    not among the files of `save_pretrained`.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            A model of the Qwen-VL family: its vision tower merges patches along height, width and depth.
        names (`Sequence[str]`):
            Names of the findings.

    Returns:
        [`MaskHead`]: the head, which predicts that no finding is anywhere.

    Raises:
        `ValueError`: if the vision tower of the model does not merge patches of videos.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    vision = base.config.vision_config
    sizes = ("temporal_patch_size", "spatial_merge_size", "out_hidden_size")
    if missing := [name for name in sizes if getattr(vision, name, None) is None]:
        raise ValueError(
            f"A mask head needs a vision tower that merges patches of a video, as Qwen-VL's does. That of "
            f"{type(base).__name__} has no {' and no '.join(missing)}: set `mask_loss_weight=0`."
        )
    tower = base.get_encoder("image")
    dtype = next(weight.dtype for weight in tower.parameters() if weight.is_floating_point())
    head = MaskHead(vision.out_hidden_size, names, vision.temporal_patch_size, dtype)
    base.mask_head = head.to(next(tower.parameters()).device)
    tower.register_forward_hook(head.keep)
    base.register_forward_hook(head.add_logits, with_kwargs=True)
    # Other programs load the model by its class, and some of them refuse weights that the class does not have.
    own = {f"mask_head.{name}" for name in head.state_dict()}
    base._keys_to_ignore_on_save = own | set(base._keys_to_ignore_on_save or ())
    return head


def load_mask_head(head: MaskHead, folder: str | Path) -> None:
    """
    Loads the weights of a head into a head that was made for the same findings.

    Raises:
        `ValueError`: if the folder has no head, or one for other findings.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {FILE}: it was trained without `mask_loss_weight`.")
    if (names := _findings_of(path)) != head.names:
        raise ValueError(f"{path} predicts {', '.join(names)}: give the `masks` and `mask_names` of its training.")
    head.load_state_dict(load_file(path))


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
    weights, vision = load_file(file), model.config.vision_config
    head = MaskHead(vision.out_hidden_size, _findings_of(file), vision.temporal_patch_size)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    if {name: tuple(value.shape) for name, value in weights.items()} != shapes:
        raise ValueError(f"{file} holds no mask head of this model: copy it again from its training.")
    head.load_state_dict(weights)
    return head.to(model.device, model.dtype).eval()


def _findings_of(file: str | Path) -> tuple[str, ...]:
    with safe_open(file, "pt") as opened:
        return tuple(json.loads((opened.metadata() or {}).get("findings", "[]")))


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
