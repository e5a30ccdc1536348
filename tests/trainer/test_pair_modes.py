"""Joint pairs, the other shapes of the negative's term, and what every step is watched for."""

import math
from types import SimpleNamespace
from weakref import WeakSet

import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType
from helpers.pair_trainer import ROWS, assert_same, gradients, logged, make_trainer, plain_cross_entropies, weights_of

from ct_rate_pairs.trainer.finite import NonFiniteLossError


VOLUMES, NEGATIVES = "pixel_values_videos", "negative_pixel_values_videos"


class Saved:
    """A tensor that a graph keeps for its backward."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("cap", [1e-6, 100.0])
def test_the_graph_of_the_negatives_is_freed_before_that_of_the_volumes_is_built(tmp_path, cap):
    trainer = make_trainer(tmp_path, beta=0.1, pair_mode="sequential", max_negative_loss=cap)
    saved, at_start = WeakSet(), []

    def pack(tensor):
        saved.add(packed := Saved(tensor.detach()))  # with its graph, it would keep itself
        return packed

    trainer.model.register_forward_pre_hook(lambda model, inputs: at_start.append(len(saved)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        trainer.training_step(trainer.model, dict(trainer.data_collator(ROWS[:3])), torch.tensor(40))
    assert at_start == [0, 0]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("negative_loss", "cap"), [("capped", 100.0), ("capped", 5.6), ("unlikelihood", 100.0)])
def test_joint_and_sequential_give_the_same_gradients_and_runs(tmp_path, negative_loss, cap):
    options = {"beta": 0.4, "max_negative_loss": cap, "negative_loss": negative_loss}
    runs = []
    for pair_mode in ("sequential", "joint"):
        trainer = make_trainer(tmp_path, pair_mode=pair_mode, **options)
        found = gradients(trainer, ROWS[:3], num_items=torch.tensor(40))
        trainer.train()
        runs.append((found, weights_of(trainer), [logged(trainer, key) for key in ("loss", "loss_neg", "margin")]))
    (sequential, loss), weights, logs = runs[0]
    (joint, joint_loss), joint_weights, joint_logs = runs[1]
    torch.testing.assert_close(joint_loss, loss)
    assert_same(joint, sequential, rtol=1e-4, atol=1e-6)
    assert_same(joint_weights, weights, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(joint_logs, logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("negative_loss", ["hinge", "logistic", "info_nce"])
def test_losses_on_the_gap_have_the_gradient_of_their_formula(tmp_path, negative_loss):
    trainer = make_trainer(
        tmp_path, beta=0.3, pair_mode="joint", negative_loss=negative_loss, negative_temperature=0.2
    )
    positive, tokens = plain_cross_entropies(trainer, ROWS[:3], VOLUMES)
    negative, _ = plain_cross_entropies(trainer, ROWS[:3], NEGATIVES)
    gap = negative - positive
    trainer.args.max_negative_loss = margin = float(gap.detach().sort().values[1:].mean())  # two within, one past it
    penalty = {
        "hinge": (margin - gap).clamp(min=0),
        "logistic": -F.logsigmoid(gap / 0.2),
        "info_nce": -torch.cat([-positive[:, None], -negative[None].repeat(3, 1)], 1).div(0.2).log_softmax(1)[:, 0],
    }[negative_loss]
    expected = ((positive + 0.3 * penalty) * tokens).sum() / 40
    trainer.model.zero_grad()
    expected.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    found, loss = gradients(trainer, ROWS[:3], num_items=torch.tensor(40))
    torch.testing.assert_close(loss, expected.detach())
    assert_same(found, wanted, rtol=1e-3, atol=1e-6)


def test_unlikelihood_has_the_gradient_of_its_formula(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.3, negative_loss="unlikelihood")
    batch = dict(trainer.data_collator(ROWS[:3]))
    labels, negative = batch.pop("labels")[:, 1:], batch.pop(NEGATIVES)
    inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    taught, denied = [
        F.cross_entropy(
            trainer.model(**inputs | {VOLUMES: pixels}).logits[:, :-1].transpose(1, 2), labels, reduction="none"
        )
        for pixels in (inputs[VOLUMES], negative)
    ]  # [B, T], 0 where there is no label
    denied = -torch.log1p(-torch.exp(-denied[labels != -100]))
    expected = (taught.sum() + 0.3 * denied.sum()) / 40
    trainer.model.zero_grad()
    expected.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    found, loss = gradients(trainer, ROWS[:3], num_items=torch.tensor(40))
    torch.testing.assert_close(loss, expected.detach())
    assert_same(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("negative_loss", ["hinge", "logistic", "info_nce"])
@pytest.mark.slow
def test_every_loss_on_the_gap_widens_it(tmp_path, negative_loss):
    margins = {}
    for beta in (0.0, 1.0):
        joint = {"pair_mode": "joint", "max_negative_loss": 100.0, "optim": "sgd"}
        trainer = make_trainer(tmp_path, beta=beta, negative_loss=negative_loss, **joint)
        trainer.train()
        margins[beta] = trainer.evaluate()["eval_margin"]
    assert margins[1.0] > margins[0.0]


def test_evaluation_scores_a_loss_on_the_gap_by_its_formula(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.3, pair_mode="joint", negative_loss="hinge", max_negative_loss=100.0)
    metrics = trainer.evaluate()
    expected = metrics["eval_loss_pos"] + 0.3 * (100.0 - metrics["eval_margin"])
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_volumes(tmp_path, pair_mode):
    trainer = make_trainer(tmp_path, beta=0.3, pair_mode=pair_mode)
    before = weights_of(trainer)
    row = dict(ROWS[0], volume="train_666_a_1.nii.gz")
    batch = dict(trainer.data_collator([row, ROWS[1]]))
    for key, kind in ((VOLUMES, "volumes"), (NEGATIVES, "negatives")):
        damaged = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        damaged[key][:] = math.nan
        with pytest.raises(NonFiniteLossError, match=f"Step 1: the loss on the {kind} is nan.*train_666_a_1"):
            trainer.compute_loss(trainer.model.train(), damaged)
    assert_same(weights_of(trainer), before, rtol=0, atol=0)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_throughput_is_logged(tmp_path, pair_mode):
    trainer = make_trainer(tmp_path, beta=0.3, pair_mode=pair_mode)
    trainer.train()
    volumes, tokens = logged(trainer, "volumes_per_second"), logged(trainer, "tokens_per_second")
    assert len(volumes) == len(tokens) == 4 and min(volumes) > 0
    batch = trainer.data_collator(ROWS[:2])
    lengths = [sum(mask) for mask in batch["attention_mask"].tolist()]
    for per_second, tokens_per_second in zip(volumes, tokens, strict=True):
        assert 0.5 * min(lengths) < tokens_per_second / per_second < 2 * max(lengths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative_loss": "triplet"}, "must be one of capped, unlikelihood"),
        ({"pair_mode": "parallel"}, "must be one of sequential, joint"),
        ({"negative_loss": "hinge"}, "set `pair_mode='joint'`"),
        ({"negative_temperature": 0.0}, "must be above 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **options)


@pytest.mark.slow
def test_a_batch_at_the_cap_skips_its_backward_and_a_mixed_one_does_not(tmp_path, monkeypatch):
    backwards = []
    for cap, expected in ((1e-6, 4), (100.0, 8), (5.6, None)):
        trainer = make_trainer(tmp_path, beta=0.3, max_negative_loss=cap)
        backwards.append(0)
        real = trainer.accelerator.backward

        def count(loss, real=real, **kwargs):
            backwards[-1] += 1
            real(loss, **kwargs)

        monkeypatch.setattr(trainer.accelerator, "backward", count)
        trainer.train()
        full = sum(share == 1 for share in logged(trainer, "capped_share"))  # one batch a step
        assert backwards[-1] == (8 - full if expected is None else expected)
    assert 0 < full < 4


def test_a_sharded_model_is_trained_jointly_and_that_is_said(tmp_path, monkeypatch, caplog):
    kind = property(lambda self: DistributedType.DEEPSPEED)
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", kind)
    trainer = make_trainer(tmp_path, beta=0.3)
    assert trainer.joint and "pair_mode='joint'" in caplog.text


@pytest.mark.slow
def test_throughput_leaves_the_time_of_evaluations_out(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 10))  # each look at the clock is ten seconds later
    # Only in this module: other threads look at the clock, too.
    own = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("ct_rate_pairs.trainer.negative_sft_trainer.time", own)
    plain = make_trainer(tmp_path, beta=0.3)
    plain.train()
    evaluated = make_trainer(tmp_path, beta=0.3, eval_strategy="steps", eval_steps=1)
    evaluated.train()
    assert logged(plain, "volumes_per_second") == [0.2] * 4
    # The look at the clock that starts an evaluation costs its ten seconds, the evaluation itself nothing.
    assert logged(evaluated, "volumes_per_second") == [0.2] + [0.1] * 3


def test_an_infinite_loss_on_a_negative_is_not_hidden_by_the_cap(tmp_path):
    trainer = make_trainer(tmp_path, beta=0.3)
    score = trainer._scores

    def infinite(outputs):
        log_probs, mask = score(outputs)
        return log_probs - torch.inf, mask

    trainer._scores = infinite
    with pytest.raises(NonFiniteLossError, match="Step 1: the loss on the negatives is"):
        trainer.train()
