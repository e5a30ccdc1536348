"""The negative's term of the loss (the paper's equation 4 and the cap of section 7.3) as pure functions."""

import torch


def pair_cross_entropy(log_probs: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean cross-entropy of each pair's report.

    Args:
        log_probs (`torch.Tensor` of shape `[B, T]`):
            Log-probability of each next token, in nats.
        mask (`torch.Tensor` of shape `[B, T]`):
            `True` on the tokens of the report.

    Returns:
        `tuple`: the cross-entropy in nats a token, of shape `[B]`, and the number of tokens, of shape `[B]`.
    """
    tokens = mask.sum(dim=-1)  # [B]
    return -(log_probs * mask).sum(dim=-1) / tokens.clamp(min=1), tokens


def capped_cross_entropy(cross_entropy: torch.Tensor, cap: float) -> torch.Tensor:
    """
    `min(cross_entropy, cap)`, pair by pair: at the cap and past it, the gradient is exactly zero.

    Args:
        cross_entropy (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each pair's negative, in nats a token.
        cap (`float`):
            Upper bound, in nats a token.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    # `torch.clamp` and `torch.minimum` still pass (some of) the gradient where both sides are equal.
    return torch.where(cross_entropy < cap, cross_entropy, torch.full_like(cross_entropy, cap))


def negative_weight(step: int, total_steps: int, beta: float, start_ratio: float, warmup_ratio: float) -> float:
    """
    Weight of the negative's loss at a step: 0, then a linear ramp, then `beta`.

    Args:
        step (`int`):
            Optimizer steps taken so far.
        total_steps (`int`):
            Optimizer steps of the whole training.
        beta (`float`):
            Final weight.
        start_ratio (`float`):
            Share of the steps before the ramp.
        warmup_ratio (`float`):
            Share of the steps that the ramp takes.

    Returns:
        `float`: the weight, between 0 and `beta`. The first step of the ramp already counts a little.
    """
    steps_on = step + 1 - start_ratio * total_steps
    if steps_on <= 0:
        return 0.0
    return beta * min(1.0, steps_on / max(1.0, warmup_ratio * total_steps))
