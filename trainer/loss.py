"""The term of the loss for the negative, as pure functions: the paper's term (equation 4, section 7.3) and others."""

import torch
import torch.nn.functional as F

from ct_rate_pairs.random_streams import random_stream


def pair_cross_entropy(log_probs: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Mean cross-entropy of each pair's report.

    Args:
        log_probs (`torch.Tensor` of shape `[B, T]`):
            Log-probability of each next token, in nats.
        mask (`torch.Tensor` of shape `[B, T]`):
            `True` on the tokens of the report.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the cross-entropy in nats per token, of shape `[B]`, and the number of
        tokens, of shape `[B]`.
    """
    tokens = mask.sum(dim=-1)  # [B]
    return -(log_probs * mask).sum(dim=-1) / tokens.clamp(min=1), tokens


def capped_cross_entropy(cross_entropy: torch.Tensor, cap: float) -> torch.Tensor:
    """
    `min(cross_entropy, cap)` for each pair. At the cap and above it, the gradient is exactly zero.

    Args:
        cross_entropy (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each pair's report given the negative, in nats per token.
        cap (`float`):
            Upper bound, in nats per token.

    Returns:
        `torch.Tensor` of shape `[B]`: the capped cross-entropy, in nats per token.
    """
    # If both sides are equal, `torch.clamp` and `torch.minimum` would still pass a part of the gradient.
    return torch.where(cross_entropy >= cap, torch.full_like(cross_entropy, cap), cross_entropy)  # NaN stays NaN


def hinge(positive: torch.Tensor, negative: torch.Tensor, margin: float) -> torch.Tensor:
    """
    `max(0, margin - (negative - positive))` for each pair: the rank loss of sequence likelihood calibration (Zhao et
    al., 2022, arXiv:2210.00045). There, a better text is compared with a worse text; here, the volume with the
    negative.

    Args:
        positive (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each report given its volume, in nats per token.
        negative (`torch.Tensor` of shape `[B]`):
            Cross-entropy of the same report given the negative, in nats per token.
        margin (`float`):
            Wanted gap `negative - positive`, in nats per token. A pair with this gap or a larger one has no gradient.

    Returns:
        `torch.Tensor` of shape `[B]`: the loss, in nats per token.
    """
    # At the margin, the gradient is exactly zero, as it is at the cap.
    gap = negative - positive
    return torch.where(gap < margin, margin - gap, torch.zeros_like(gap))


def logistic(positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> torch.Tensor:
    """
    `-log sigmoid((negative - positive) / temperature)` for each pair: the reference-free preference loss of SimPO
    (Meng et al., 2024, arXiv:2405.14734, equation 6 without its margin), on mean log-probabilities.

    Args:
        positive (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each report given its volume, in nats per token.
        negative (`torch.Tensor` of shape `[B]`):
            Cross-entropy of the same report given the negative, in nats per token.
        temperature (`float`):
            The gap that counts as one unit, in nats per token.

    Returns:
        `torch.Tensor` of shape `[B]`: the loss.
    """
    return F.softplus((positive - negative) / temperature)


def unlikelihood(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Mean of `-log(1 - p)` over the tokens of each report, where `p` is the probability of a token given the negative:
    unlikelihood training (Welleck et al., 2019, arXiv:1908.04319, equation 3).

    Args:
        log_probs (`torch.Tensor` of shape `[B, T]`):
            Log-probability of each next token given the negative, in nats.
        mask (`torch.Tensor` of shape `[B, T]`):
            `True` on the tokens of the report.

    Returns:
        `torch.Tensor` of shape `[B]`: the loss, in nats per token.
    """
    # Tokens of the template have a `p` of almost 1. Without a bound, one such token would outweigh the whole report.
    log_probs = log_probs.float().clamp(max=-1e-4)
    return -(torch.log(-torch.expm1(log_probs)) * mask).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def info_nce(positive: torch.Tensor, negative: torch.Tensor, temperature: float) -> torch.Tensor:
    """
    `-log(exp(-positive_p / t) / (exp(-positive_p / t) + sum_q exp(-negative_q / t)))`: InfoNCE (van den Oord et al.,
    2018, arXiv:1807.03748, equation 4). Each pair `p` is compared with the negatives `q` of all pairs of the batch.

    Args:
        positive (`torch.Tensor` of shape `[B]`):
            Cross-entropy of each report given its volume, in nats per token.
        negative (`torch.Tensor` of shape `[B]`):
            Cross-entropy of the same report given the negative, in nats per token.
        temperature (`float`):
            Temperature `t`, in nats per token.

    Returns:
        `torch.Tensor` of shape `[B]`: the loss.
    """
    scores = torch.cat([positive[:, None], negative.expand(len(positive), -1)], dim=1)  # [B, 1 + B]
    return positive / temperature + torch.logsumexp(-scores / temperature, dim=1)


def negative_weight(step: int, total_steps: int, beta: float, start_ratio: float, warmup_ratio: float) -> float:
    """
    Weight of the negative's loss at a step: first 0, then a linear ramp, then `beta`.

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
            Share of the steps on the ramp.

    Returns:
        `float`: the weight, from 0 to `beta`. It is above 0 from the first step of the ramp on.
    """
    steps_on = step + 1 - start_ratio * total_steps
    if steps_on <= 0:
        return 0.0
    return beta * min(1.0, steps_on / max(1.0, warmup_ratio * total_steps))


def has_negatives(step: int, share: float, seed: int) -> bool:
    """
    Whether a step is among the random share of the steps that have negatives. The draw depends only on the arguments,
    so all processes and all micro-batches of a step agree, and so does a resumed training.

    Args:
        step (`int`):
            Optimizer steps taken so far.
        share (`float`):
            Share of the steps with negatives, above 0 and at most 1.
        seed (`int`):
            Seed of the training.

    Returns:
        `bool`: whether the step has negatives.
    """
    return bool(random_stream(seed, step).random() < share)  # `random` is below 1
