"""
A label head: one linear layer from what a model holds at the end of its prompt to the 18 labels of the scan.

The hidden state is that of the last layer, after the final norm, at the last token of the prompt: the token from which
the model predicts the first token of its report. So the loss of the head makes this state tell of the findings before
the first word is written. The text does not read the head.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from ct_rate_pairs.reports.labels import LABELS

from .heads import Head, base_of, read_head
from .hub_files import find_file


FILE = "label_head.safetensors"
TARGETS = "label_targets"  # key of a batch with the labels of its rows, float32 [B, 18]; NaN for a row without labels


class LabelHead(Head):
    """
    One linear layer, whose weights are 0 at first.

    Args:
        hidden_size (`int`):
            Width of the language model.
        dtype (`torch.dtype`, *optional*):
            Data type of the weights.
    """

    key, file, option = "label_head", FILE, "label_loss_weight"

    def __init__(self, hidden_size: int, dtype: torch.dtype | None = None):
        super().__init__(LABELS)
        self.project = nn.utils.skip_init(nn.Linear, hidden_size, len(LABELS), dtype=dtype)  # draws no random numbers
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden (`torch.Tensor` of shape `[B, hidden_size]`):
                Hidden states of the last layer at the ends of the prompts.

        Returns:
            `torch.Tensor` of shape `[B, 18]`: logits of the labels.
        """
        return self.project(hidden.to(self.project.weight.dtype))

    def read(self, outputs: Any) -> torch.Tensor:
        """The hidden states of the last layer, `[B, T, hidden_size]`."""
        return outputs.last_hidden_state

    def logits(self, features: torch.Tensor, kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The logits at the end of each prompt: before the first token of the answer, which `labels` names."""
        ends = (kwargs["labels"] != -100).int().argmax(dim=1) - 1
        return {"label_logits": self(features[torch.arange(len(features), device=features.device), ends])}


def attach_label_head(model: nn.Module) -> LabelHead:
    """
    Puts a [`LabelHead`] on the language model of a model.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            An image-text-to-text model.

    Returns:
        [`LabelHead`]: the head, for which each label has a probability of one half.
    """
    base = base_of(model)
    dtype = base.get_output_embeddings().weight.dtype
    head = LabelHead(base.config.get_text_config().hidden_size, dtype if dtype.is_floating_point else None)
    head.join(base, base.base_model)
    return head


def find_label_head(name: str, model: PreTrainedModel, revision: str | None = None) -> LabelHead | None:
    """
    The label head of a trained model, from its folder or repository; `None` if the model was trained without one. It
    is in evaluation mode, and no part of the model.
    """
    file = find_file(name, FILE, revision)
    return file and read_head(LabelHead(model.config.get_text_config().hidden_size), file, model)


def label_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """
    Binary cross-entropy of the labels, in nats per label.

    Args:
        logits (`torch.Tensor` of shape `[B, 18]`):
            From [`LabelHead`].
        targets (`torch.Tensor` of shape `[B, 18]`):
            Labels of the scans, 0 or 1; NaN for a row without labels, which adds nothing.

    Returns:
        `torch.Tensor`: the mean over the labels of the rows that have some, `[]`; 0 if no row has.
    """
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


class LabelTargets:
    """
    Data collator that adds the labels of the rows to the batches of another collator, as `label_targets`.

    Args:
        collator (`Callable`):
            Makes a batch from rows.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]):
        self.collator = collator

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate `B` rows; a row without labels (`None`, or no such column) has NaN in their place."""
        unknown = [float("nan")] * len(LABELS)
        targets = [unknown if row.get("labels") is None else row["labels"] for row in rows]
        return self.collator(rows) | {TARGETS: torch.tensor(targets, dtype=torch.float32)}
