"""Sums of the two losses between two logs. Sums and not means of means, so that every token counts equally."""

import torch

from .negative_term import NegativeTerm


# Over tokens or pairs. The sums named "paired" cover only reports that were also scored with a negative, and "matched"
# counts the volumes of the batches in which partners were mutual.
SUMS = (
    "positive", "tokens", "volumes", "attended", "paired_positive", "negative", "paired_tokens", "capped", "pairs",
    "matched",
)  # fmt: skip


def sums_of(
    positive: torch.Tensor,
    tokens: torch.Tensor,
    volumes: int,
    attended: torch.Tensor,
    negative: NegativeTerm | None,
    paired_positive: torch.Tensor | None,
    matched: int,
) -> torch.Tensor:
    """
    What a batch adds to the sums.

    Args:
        positive (`torch.Tensor`):
            Sum of the cross-entropy of the volumes over tokens.
        tokens (`torch.Tensor`), volumes (`int`), attended (`torch.Tensor`):
            Tokens of the reports, volumes, and tokens that are attended to, in the batch.
        negative ([`~ct_rate_pairs.trainer.negative_term.NegativeTerm`], *optional*):
            The term of the negatives.
        paired_positive (`torch.Tensor`, *optional*):
            Cross-entropy given the volume, of each report that has a negative, of shape `[P]`.
        matched (`int`):
            Volumes that could have a mutual partner.

    Returns:
        `torch.Tensor`: one number for each name in `SUMS`.
    """
    paired = [0.0] * 5
    if negative is not None:
        of_volumes = (paired_positive * negative.tokens).sum()
        of_negatives = (negative.cross_entropy * negative.tokens).sum()
        capped = negative.capped
        paired = [of_volumes, of_negatives, negative.tokens.sum(), capped.sum(), len(capped)]
    sums = (positive, tokens, volumes, attended, *paired, matched)
    return torch.stack([torch.as_tensor(value, device=tokens.device).float() for value in sums])


def metrics_of(sums: torch.Tensor) -> dict[str, float]:
    """What is logged of the sums of all processes: losses in nats per token, and shares of pairs."""
    of, metrics = dict(zip(SUMS, sums.tolist(), strict=True)), {}
    if of["tokens"] > 0:
        metrics["loss_pos"] = of["positive"] / of["tokens"]
    if of["pairs"] > 0:
        metrics["loss_neg"] = of["negative"] / of["paired_tokens"]
        metrics["margin"] = (of["negative"] - of["paired_positive"]) / of["paired_tokens"]
        metrics["capped_share"] = of["capped"] / of["pairs"]
    if of["matched"] > 0:
        metrics["paired_share"] = of["pairs"] / of["matched"]
    return metrics
