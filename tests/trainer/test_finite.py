"""NaN and infinity reach neither the weights nor a checkpoint."""

import math

import pytest
import torch
from helpers.pair_trainer import assert_same, make_trainer, weights_of
from helpers.shares import mostly_slow
from peft import LoraConfig
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from ct_rate_pairs.trainer.finite import (
    FiniteTrainer,
    NonFiniteError,
    NonFiniteGradientError,
    NonFiniteWeightsError,
    check_weights,
)


LORA = LoraConfig(r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
# Backwards of a step: the negatives' come first in a sequential step.
MODES = {
    "sequential, volumes": ({"pair_mode": "sequential"}, 4),
    "sequential, negatives": ({"pair_mode": "sequential"}, 3),
    "joint": ({"pair_mode": "joint"}, 2),
    "without negatives": ({"beta": 0.0}, 2),
    "first of two micro-batches": ({"pair_mode": "joint", "gradient_accumulation_steps": 2}, 3),
    "without clipping": ({"pair_mode": "joint", "max_grad_norm": 0.0}, 2),
    "LoRA": ({"pair_mode": "joint", "peft_config": LORA}, 2),
}


def spoil(trainer, backward, value):
    """Sets a gradient to `value` in one backward, counted from 1. The loss stays as it is."""
    parameter = next(parameter for parameter in trainer.model.parameters() if parameter.requires_grad)
    calls = []

    def hook(gradient):
        calls.append(None)
        return torch.full_like(gradient, value) if len(calls) == backward else gradient

    parameter.register_hook(hook)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("options", "backward"), mostly_slow(MODES.values()), ids=MODES)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_gradient_that_is_not_finite_stops_the_training_before_its_step(tmp_path, options, backward, value):
    options = {"beta": 0.3, "max_negative_loss": 100.0, "save_strategy": "steps", "save_steps": 1} | options
    trainer = make_trainer(tmp_path, **options)
    spoil(trainer, backward, value)
    with pytest.raises(
        NonFiniteGradientError, match=r"^Step 2: .* is (nan|inf).*train_\d_a_1.*was not taken"
    ) as error:
        trainer.train()
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    kept = make_trainer(tmp_path, **options)
    kept._load_from_checkpoint(str(tmp_path / "checkpoint-1"), kept.model)
    assert_same(weights_of(trainer), weights_of(kept), rtol=0, atol=0)
    per_step = 2 * options.get("gradient_accumulation_steps", 1)
    assert str(error.value).count(".nii.gz") == per_step  # the volumes of this step alone


def test_a_norm_that_overflows_is_no_step_of_zeros(tmp_path):
    trainer = make_trainer(tmp_path)
    before = weights_of(trainer)
    spoil(trainer, 1, 1e30)  # finite, but its square is not
    with pytest.raises(NonFiniteGradientError, match="Step 1"):
        trainer.train()
    assert_same(weights_of(trainer), before, rtol=0, atol=0)


def test_weights_that_a_step_made_infinite_are_not_saved(tmp_path):
    trainer = make_trainer(
        tmp_path, max_steps=1, learning_rate=1e38, max_grad_norm=0.0, optim="sgd", save_strategy="steps", save_steps=1
    )
    spoil(trainer, 1, 1e10)
    with pytest.raises(NonFiniteWeightsError, match="The model of step 1, which is not saved, .* such as .*weight"):
        trainer.train()
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("trainer_state.json"))
    with pytest.raises(NonFiniteWeightsError):
        trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("peft_config", [None, LORA], ids=["whole", "LoRA"])
def test_a_checkpoint_of_nan_is_not_resumed_from(tmp_path, peft_config, monkeypatch):
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "peft_config": peft_config}
    trainer = make_trainer(tmp_path, **options)
    with monkeypatch.context() as without_checks:
        without_checks.setattr("ct_rate_pairs.trainer.finite.check_weights", lambda *_: None)
        learning = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        trainer.add_callback(Spoiler(learning[0]))
        trainer.train()
    with pytest.raises(NonFiniteWeightsError, match="checkpoint-2 holds NaN or infinity in 1 tensors"):
        make_trainer(tmp_path, **options | {"max_steps": 4}).train(resume_from_checkpoint=True)


@pytest.mark.slow
def test_a_checkpoint_whose_optimizer_holds_nan_is_not_resumed_from(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1}
    make_trainer(tmp_path, max_steps=1, **options).train()
    path = tmp_path / "checkpoint-1" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    state["state"][0]["exp_avg_sq"].view(-1)[0] = math.nan
    torch.save(state, path)
    with pytest.raises(NonFiniteWeightsError, match="The optimizer of .*checkpoint-1 holds NaN .*such as exp_avg_sq"):
        make_trainer(tmp_path, max_steps=2, **options).train(resume_from_checkpoint=True)


class Spoiler(TrainerCallback):
    """Puts NaN into a parameter after the second step."""

    def __init__(self, parameter):
        self.parameter = parameter

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.parameter.data.view(-1)[-1] = math.nan


class Line(nn.Module):
    """A model of one weight, whose gradient is infinite at 0 though its loss is 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return {"loss": (self.weight * x).sqrt().mean()}


def test_a_plain_trainer_without_names_of_volumes_stops_too(tmp_path):
    """That of `train-matcher`."""
    model = Line()
    args = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none", disable_tqdm=True)
    with pytest.raises(NonFiniteGradientError, match=r"Step 1: the norm of the gradient is (nan|inf)\. The step"):
        FiniteTrainer(model, args, train_dataset=[{"x": 1.0}] * 4).train()
    assert model.weight.tolist() == [0.0] and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("scale", "stops"), [(65536.0, False), (0.5, True)])
def test_float16_may_overflow_until_its_scale_is_not_the_cause(tmp_path, scale, stops):
    trainer = make_trainer(tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.accelerator.scaler.scale(torch.zeros(1))  # the scale is set at the first use
    norm = torch.tensor(math.inf)
    if stops:
        with pytest.raises(NonFiniteGradientError):
            trainer._get_grad_norm(trainer.model, norm)
    else:
        assert trainer._get_grad_norm(trainer.model, norm) == norm


def test_each_value_of_weights_and_buffers_counts():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(0, 2)).half()
    with torch.no_grad():
        model[0].weight.fill_(6e4)  # their sum is not finite in float16
    check_weights(model, "model")
    for tensor in (model[0].weight, model[0].bias, model[1].running_var):
        for value in (math.nan, math.inf, -math.inf):
            kept, tensor.data = tensor.data.clone(), tensor.data.clone()
            tensor.data.view(-1)[-1] = value
            with pytest.raises(NonFiniteError, match="in 1 tensors"):
                check_weights(model, "model")
            tensor.data = kept
