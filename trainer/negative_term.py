"""The term of the loss for the negatives of a batch."""

from typing import NamedTuple

import torch

from .loss import capped_cross_entropy, hinge, info_nce, logistic, pair_cross_entropy, unlikelihood
from .negative_sft_config import NegativeSFTConfig


class NegativeTerm(NamedTuple):
    """
    The term of the loss for the negatives of a batch.

    Args:
        loss (`torch.Tensor`):
            The term, without its weight, of shape `[]`.
        cross_entropy (`torch.Tensor`):
            Cross-entropy of each report given the negative, in nats per token, of shape `[B]`.
        tokens (`torch.Tensor`):
            Tokens of each report, of shape `[B]`.
        capped (`torch.Tensor`):
            Whether a pair is at or above the cap and has no gradient, bool of shape `[B]`.
    """

    loss: torch.Tensor
    cross_entropy: torch.Tensor
    tokens: torch.Tensor
    capped: torch.Tensor


def negative_term(
    args: NegativeSFTConfig,
    positive: torch.Tensor | None,
    log_probs: torch.Tensor,
    mask: torch.Tensor,
    scale: torch.Tensor,
) -> NegativeTerm:
    """
    The term that is added to the loss with weight `beta`, in the form of `negative_loss`.

    Args:
        args ([`~ct_rate_pairs.trainer.NegativeSFTConfig`]):
            The form, the cap and the temperature.
        positive (`torch.Tensor`, *optional*):
            Cross-entropy of each report given its volume, of shape `[B]`, for the forms that compare the two.
        log_probs (`torch.Tensor`), mask (`torch.Tensor`):
            Log-probability of each token of the reports given the negatives, and which tokens count, both of shape
            `[B, T]`.
        scale (`torch.Tensor`):
            The factor from a sum over tokens to a loss.
    """
    negative, tokens = pair_cross_entropy(log_probs, mask)  # [B], [B]
    capped = torch.zeros_like(negative, dtype=torch.bool)
    match args.negative_loss:
        case "capped":
            capped = negative >= args.max_negative_loss
            penalty = -capped_cross_entropy(negative, args.max_negative_loss)
        case "hinge":
            capped = negative - positive >= args.max_negative_loss
            penalty = hinge(positive, negative, args.max_negative_loss)
        case "logistic":
            penalty = logistic(positive, negative, args.negative_temperature)
        case "info_nce":
            penalty = info_nce(positive, negative, args.negative_temperature)
        case "unlikelihood":
            penalty = unlikelihood(log_probs, mask)
    return NegativeTerm((penalty * tokens).sum() * scale, negative.detach(), tokens, capped)
