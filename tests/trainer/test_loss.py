"""The negative's term: formula, cap and schedule."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ct_rate_pairs.trainer.loss import (
    capped_cross_entropy,
    hinge,
    info_nce,
    logistic,
    negative_weight,
    pair_cross_entropy,
    unlikelihood,
)


def test_pair_cross_entropy_is_the_mean_over_each_report():
    logits = torch.randn(3, 7, 11, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0]]).bool()
    log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]

    cross_entropy, tokens = pair_cross_entropy(log_probs, mask)

    assert tokens.tolist() == [7, 3, 1]
    for row in range(3):
        torch.testing.assert_close(
            cross_entropy[row], F.cross_entropy(logits[row][mask[row]], targets[row][mask[row]])
        )


def test_gradient_stops_exactly_at_the_cap():
    cross_entropy = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    capped = capped_cross_entropy(cross_entropy, cap=0.5)
    capped.sum().backward()
    assert capped.tolist() == [0.1, 0.5, 0.5]
    assert cross_entropy.grad.tolist() == [1.0, 0.0, 0.0]


def test_capped_gradient_agrees_with_finite_differences():
    cross_entropy = torch.tensor([0.1, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: capped_cross_entropy(x, 0.5), cross_entropy)


def pairs(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_the_hinge_stops_exactly_at_its_margin():
    positive, negative = pairs(0.1, 0.1, 0.1), pairs(0.3, 0.6, 0.9)
    hinge(positive, negative, margin=0.5).sum().backward()
    assert negative.grad.tolist() == [-1.0, 0.0, 0.0] and positive.grad.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [hinge, logistic, info_nce])
def test_gradients_of_the_losses_on_the_gap_agree_with_finite_differences(shape):
    torch.autograd.gradcheck(lambda p, n: shape(p, n, 0.4), (pairs(0.1, 0.2, 0.3), pairs(0.2, 0.9, 0.35)))


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0.05, 2))
def test_info_nce_over_one_pair_is_the_logistic_loss(positive, negative, temperature):
    alone = [torch.tensor([value], dtype=torch.float64) for value in (positive, negative)]
    torch.testing.assert_close(info_nce(*alone, temperature), logistic(*alone, temperature))


def test_info_nce_compares_each_volume_with_all_negatives():
    positive, negative = pairs(0.1, 0.5), pairs(0.7, 0.2)
    for p, value in enumerate(info_nce(positive, negative, 0.3)):
        scores = torch.stack([-positive[p], -negative[0], -negative[1]]) / 0.3
        torch.testing.assert_close(value, -scores.log_softmax(0)[0])


def test_unlikelihood_is_the_mean_of_its_tokens_and_stays_finite():
    log_probs = torch.tensor([[0.9, 0.5, 0.3], [1.0, 1.0, 0.2]]).log().requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    first, second = unlikelihood(log_probs, mask)
    torch.testing.assert_close(first, -torch.tensor([0.1, 0.5]).log().mean())
    assert torch.isfinite(second)
    (first + second).backward()
    assert torch.isfinite(log_probs.grad).all() and log_probs.grad[0, 2] == 0


def test_weight_is_zero_then_ramps_then_stays():
    weights = [negative_weight(step, 10, 0.1, start_ratio=0.5, warmup_ratio=0.4) for step in range(10)]
    assert weights == pytest.approx([0, 0, 0, 0, 0, 0.025, 0.05, 0.075, 0.1, 0.1])


def test_weight_without_schedule_is_beta_from_the_first_step():
    assert [negative_weight(step, 5, 0.1, 0.0, 0.0) for step in range(5)] == [0.1] * 5


@given(
    total=st.integers(1, 200),
    start=st.floats(0, 1),
    share=st.floats(0, 1),
)
def test_weight_rises_from_zero_to_beta_within_the_training(total, start, share):
    warmup = (1 - start) * share
    weights = [negative_weight(step, total, 0.1, start, warmup) for step in range(total)]
    assert weights == sorted(weights)
    assert all(0 <= weight <= 0.1 for weight in weights)
    assert all(weight == 0 for step, weight in enumerate(weights) if step + 1 <= start * total)
    if start <= 1 - 1 / total:  # with less than a step left, there is none to reach it in
        assert weights[-1] == pytest.approx(0.1)
