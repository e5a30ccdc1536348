"""Negatives at a random share of the steps: the other steps are plain, the expected gradient stays."""

import pytest
from helpers.pair_trainer import ROWS, assert_same, gradients, logged, make_trainer, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.trainer.loss import has_negatives


SHARED = {"beta": 0.3, "max_negative_loss": 100.0, "negative_share": 0.5}


def served(steps, share=0.5, seed=42):  # 42 is the default of TRL
    return [has_negatives(step, share, seed) for step in range(steps)]


@settings(max_examples=20)
@given(share=st.floats(0.05, 1.0), seed=st.integers(0, 2**31))
def test_the_share_of_steps_with_negatives_is_the_wanted_one(share, seed):
    found = sum(served(1000, share, seed)) / 1000
    assert abs(found - share) < 6 * (share * (1 - share) / 1000) ** 0.5 + 1e-9


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_a_share_of_one_is_every_step(seed):
    assert all(served(50, 1.0, seed))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("pair_mode", ["sequential", "joint"])
def test_a_step_has_the_weight_divided_by_the_share_or_is_plain(tmp_path, pair_mode):
    steps = served(20)
    plain, _ = gradients(make_trainer(tmp_path, beta=0.0), ROWS[:2])
    heavy, _ = gradients(make_trainer(tmp_path, beta=0.6, max_negative_loss=100.0, pair_mode=pair_mode), ROWS[:2])
    trainer = make_trainer(tmp_path, **SHARED, pair_mode=pair_mode)
    for has, wanted in ((True, heavy), (False, plain)):
        trainer.state.global_step = steps.index(has)
        found, _ = gradients(trainer, ROWS[:2])
        assert_same(found, wanted, rtol=0, atol=0)


@pytest.mark.slow
def test_steps_without_negatives_spend_no_forward_on_them(tmp_path):
    trainer = make_trainer(tmp_path, **SHARED, max_steps=8)
    forwards = []
    trainer.model.register_forward_pre_hook(lambda *_: forwards.append(trainer.state.global_step))
    trainer.train()
    assert [forwards.count(step) for step in range(8)] == [2 if has else 1 for has in served(8)]
    scored = [entry["step"] - 1 for entry in trainer.state.log_history if "loss_neg" in entry]
    assert scored == [step for step, has in enumerate(served(8)) if has]
    assert logged(trainer, "beta") == [0.3] * 8  # the mean over the draws


@pytest.mark.slow
def test_micro_batches_of_a_step_agree(tmp_path):
    options = {"optim": "sgd", "max_steps": 6}
    runs = []
    for size, accumulation in ((4, 1), (2, 2)):
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer = make_trainer(tmp_path, **SHARED, **options, **sizes)
        trainer.train()
        runs.append(weights_of(trainer))
    assert_same(*runs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_training_draws_the_same_steps(tmp_path):
    options = {**SHARED, "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.train()
    resumed = make_trainer(tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert len(logged(resumed, "loss")) == 6 and True in served(6)[3:] and False in served(6)[3:]
    assert_same(weights_of(resumed), weights_of(whole), rtol=0, atol=0)


def test_an_evaluation_scores_all_negatives_with_the_whole_weight(tmp_path):
    trainer = make_trainer(tmp_path, **SHARED, per_device_eval_batch_size=len(ROWS))
    trainer.state.global_step = served(20).index(False)
    metrics = trainer.evaluate()
    wanted = metrics["eval_loss_pos"] - 0.3 * metrics["eval_loss_neg"]
    assert metrics["eval_loss"] == pytest.approx(wanted, rel=1e-4)
