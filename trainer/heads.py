"""What the heads that are trained beside a model have in common: how they join it, and how they are kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput


@dataclass
class OutputWithHeads(FusedCausalLMOutput):
    """Output of a model in training, with what its heads have made of the batch."""

    mask_logits: torch.Tensor | None = None  # of a `MaskHead`, [N, L, slices, CELLS, CELLS]
    label_logits: torch.Tensor | None = None  # of a `LabelHead`, [B, 18]


class Head(nn.Module):
    """
    A layer that reads what a part of a model makes of a batch. It is a part of the model, so it is trained, moved and
    sharded with the model. Its weights have a file of their own, beside those of the model, which stay those of its
    class: other programs load the model by its class, and some of them refuse weights that the class does not have.

    Args:
        names (`Sequence[str]`):
            Names of the findings that the head tells of.
    """

    key: str  # name of the module in the model
    file: str  # name of its file
    option: str  # of the training that adds it

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)
        self._features: torch.Tensor | None = None  # what the part of the model has made of the last batch

    def join(self, base: PreTrainedModel, part: nn.Module) -> None:
        """
        Joins a model, whose `part` the head reads. From then on, the forwards of a training return
        [`OutputWithHeads`]. The logits must be among the outputs, because DDP takes parameters that do not lead to an
        output for unused.
        """
        setattr(base, self.key, self.to(next(part.parameters()).device))
        part.register_forward_hook(self._keep)
        base.register_forward_hook(self._add_logits, with_kwargs=True)
        own = {f"{self.key}.{name}" for name in self.state_dict()}
        base._keys_to_ignore_on_save = own | set(base._keys_to_ignore_on_save or ())

    def read(self, outputs: Any) -> torch.Tensor:
        """What the head reads of the outputs of its part of the model, which the model may change later."""
        raise NotImplementedError

    def logits(self, features: torch.Tensor, kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The field of [`OutputWithHeads`] that the head fills. `kwargs` are the arguments of the forward."""
        raise NotImplementedError

    def _keep(self, part: nn.Module, inputs: tuple, outputs: Any) -> None:
        self._features = self.read(outputs)

    def _add_logits(self, model: nn.Module, inputs: tuple, kwargs: dict[str, Any], outputs: Any) -> Any:
        features, self._features = self._features, None
        if not isinstance(outputs, FusedCausalLMOutput):
            return outputs
        return OutputWithHeads(**outputs, **self.logits(features, kwargs))

    def save(self, folder: str | Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Writes the head to a folder. `weights` replace those of the head, which may be sharded."""
        weights = {name: value.contiguous().cpu() for name, value in (weights or self.state_dict()).items()}
        save_file(weights, Path(folder) / self.file, metadata={"format": "pt", "findings": json.dumps(self.names)})

    def load(self, folder: str | Path) -> None:
        """
        Loads the weights of a head that was trained for the same findings.

        Raises:
            `ValueError`: if the folder has no head, or one for other findings.
        """
        path = Path(folder) / self.file
        if not path.is_file():
            raise ValueError(f"{folder} has no {self.file}: it was trained without `{self.option}`.")
        if (names := names_of(path)) != self.names:
            raise ValueError(f"{path} predicts {', '.join(names)}, and this training {', '.join(self.names)}.")
        self.load_state_dict(load_file(path))


def base_of(model: nn.Module) -> PreTrainedModel:
    """The model, without its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def names_of(file: str | Path) -> tuple[str, ...]:
    """The findings that the head in a file tells of."""
    with safe_open(file, "pt") as opened:
        return tuple(json.loads((opened.metadata() or {}).get("findings", "[]")))


def read_head(head: Head, file: str | Path, model: PreTrainedModel) -> Head:
    """
    Reads the weights of a file into a head of the same findings, to predict with.

    Returns:
        [`Head`]: the head in evaluation mode, with the device and data type of the model. It is no part of the model.

    Raises:
        `ValueError`: if the file holds no head of this model.
    """
    weights = load_file(file)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    if {name: tuple(value.shape) for name, value in weights.items()} != shapes:
        kind = head.key.replace("_", " ")
        raise ValueError(f"{file} holds no {kind} of this model: copy it again from its training.")
    head.load_state_dict(weights)
    return head.to(model.device, model.dtype).eval()
