"""Scores the label head that a model was trained with (`label_loss_weight`), on the prompts of held-out scans."""

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.scoring.label_calibration import judge
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.label_head import LabelHead

from .likelihood import on_device


@torch.no_grad()
def label_head_scores(
    model: PreTrainedModel,
    head: LabelHead,
    collator: PairCollator,
    rows: Dataset,
    train_labels: np.ndarray,
    *,
    batch_size: int = 8,
) -> dict[str, float | None]:
    """
    Scores the probabilities of a label head, from one forward pass over the prompt of each scan. They are not
    calibrated.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model in evaluation mode, and its collator.
        head ([`~ct_rate_pairs.trainer.label_head.LabelHead`]):
            The head.
        rows ([`~datasets.Dataset`]):
            `N` scans with their `labels`.
        train_labels (`np.ndarray` of shape `[M, 18]`):
            Labels of the training split. The share of each label is what to predict without looking at a scan.
        batch_size (`int`, *optional*, defaults to `8`):
            Scans per batch.

    Returns:
        `dict`: `label_head_auroc`, the mean over the labels that have both classes; `label_head_brier_ratio`, the
        Brier score as a share of the prevalence's; `label_head_ece`. See
        [`~ct_rate_pairs.eval.scoring.label_calibration.judge`].
    """
    logits, labels = [], []
    for batch in batched(rows, batch_size):
        states = model.base_model(**on_device(collator.prompts(batch), model)).last_hidden_state  # padded on the left
        logits.append(head(states[:, -1]).float().cpu())  # [B, 18]
        labels += [row["labels"] for row in batch]
    quality = judge(torch.cat(logits).sigmoid().numpy(), np.array(labels), np.asarray(train_labels).mean(axis=0))
    return {f"label_head_{name}": quality[name] for name in ("auroc", "brier_ratio", "ece")}
