"""
A label head: one linear layer from what a model holds at the end of its prompt to the 18 labels of the scan.

The hidden state is that of the last layer, after the final norm, at the last token of the prompt: the token from which
the model predicts the first token of its report.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import nn

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.whole_files import write_whole


NAME = "label_head"  # of the module in the model during a training
FILE = f"{NAME}.safetensors"
TARGETS = "label_targets"  # key of a batch with the labels of its rows, float32 [B, 18]; NaN for a row without labels


def make_label_head(hidden_size: int) -> nn.Linear:
    """A label head for hidden states of this size. Its weights are 0, so that it draws no random numbers."""
    head = nn.utils.skip_init(nn.Linear, hidden_size, len(LABELS))
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def save_label_head(head: nn.Linear | None, folder: str | Path) -> None:
    """Writes `label_head.safetensors` to a folder; without a head, removes that of an earlier model."""
    path = Path(folder) / FILE
    if head is None:
        path.unlink(missing_ok=True)
    else:
        write_whole(path, save({name: tensor.contiguous().cpu() for name, tensor in head.state_dict().items()}))


def load_label_head(folder: str | Path) -> nn.Linear:
    """The label head that was saved with the model in a folder."""
    weights = load_file(Path(folder) / FILE)
    head = make_label_head(weights["weight"].shape[1])
    head.load_state_dict(weights)
    return head


def label_loss(
    head: nn.Linear, hidden: torch.Tensor, text_labels: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """
    Binary cross-entropy of the labels, in nats per label.

    Args:
        head (`torch.nn.Linear`):
            The label head.
        hidden (`torch.Tensor` of shape `[B, T, D]`):
            Hidden states of the last layer, after the final norm.
        text_labels (`torch.Tensor` of shape `[B, T]`):
            The tokens of the answers, and -100 outside of them.
        targets (`torch.Tensor` of shape `[B, 18]`):
            Labels of the scans, 0 or 1; NaN for a row without labels, which adds nothing.

    Returns:
        `torch.Tensor`: the mean over the labels of the rows that have some, `[]`; 0 if no row has.
    """
    prompt_ends = (text_labels != -100).int().argmax(dim=1) - 1  # [B]
    logits = head(hidden[torch.arange(len(hidden), device=hidden.device), prompt_ends].to(head.weight.dtype))
    known = ~targets.isnan()  # [B, 18]
    losses = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
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
