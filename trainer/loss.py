"""The negative's term of the loss as pure functions: the paper's (equation 4, section 7.3) and others'."""

import torch
import torch.nn.functional as F


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
    return torch.where(cross_entropy >= cap, torch.full_like(cross_entropy, cap), cross_entropy)  # NaN stays NaN


def hinge(positive: torch.Tensor, negative: torch.Tensor, margin: float) -> torch.Tensor:
    """
    `max(0, margin - (negative - positive))`, pair by pair: sequence likelihood calibration (Zhao et al., 2022,
    arXiv:2210.00045, rank loss), with the volume in the place of the better text.

    Args:
        positive (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each report given its volume, in nats a token.
        negative (`torch.Tensor` of shape `[B]`):
            Cross-entropy of the same report given the negative.
        margin (`float`):
            Gap from which on a pair no longer drives the model, in nats a token.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    # As for the cap: at the margin, too, the gradient is exactly zero.
    gap = negative - positive
    return torch.where(gap < margin, margin - gap, torch.zeros_like(gap))


def logistic(positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> torch.Tensor:
    """
    `-log sigmoid((negative - positive) / temperature)`, pair by pair: the reference-free preference loss of SimPO
    (Meng et al., 2024, arXiv:2405.14734, equation 6 without its margin), on mean log-probabilities.

    Args:
        positive (`torch.Tensor` of shape `[B]`), negative (`torch.Tensor` of shape `[B]`):
            As for [`hinge`].
        temperature (`float`):
            Gap in nats a token that counts as one unit.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    return F.softplus((positive - negative) / temperature)


def unlikelihood(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Mean of `-log(1 - p)` over each report's tokens given the negative: unlikelihood training (Welleck et al., 2019,
    arXiv:1908.04319, equation 3).

    Args:
        log_probs (`torch.Tensor` of shape `[B, T]`):
            Log-probability of each next token given the negative, in nats.
        mask (`torch.Tensor` of shape `[B, T]`):
            `True` on the tokens of the report.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    # Template tokens have p = 1 in all but name: bounded, or a single one would outweigh the report.
    log_probs = log_probs.float().clamp(max=-1e-4)
    return -(torch.log(-torch.expm1(log_probs)) * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def info_nce(positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> torch.Tensor:
    """
    `-log(exp(-positive_p / t) / (exp(-positive_p / t) + sum_q exp(-negative_q / t)))`: InfoNCE (van den Oord et al.,
    2018, arXiv:1807.03748, equation 4), the volume of pair `p` against all negatives `q` of the batch.

    Args:
        positive (`torch.Tensor` of shape `[B]`), negative (`torch.Tensor` of shape `[B]`):
            As for [`hinge`].
        temperature (`float`):
            `t`, in nats a token.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    scores = torch.cat([positive[:, None], negative.expand(len(positive), -1)], dim=1)  # [B, 1 + B]
    return positive / temperature + torch.logsumexp(-scores / temperature, dim=1)


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
