"""
Stops a training before NaN or infinity reaches the weights or a checkpoint.

A loss may be finite while its gradient is not: where a square root or a division meets 0, or where 16 bits are too
few. One such gradient makes all weights NaN, because the norm of all gradients clips each of them.
"""

import math
from collections.abc import Collection, Iterable

import torch
from torch.distributed.tensor import DTensor
from transformers import Trainer


NAMED = 3  # parameters that an error names
# Below this scale of the loss, an infinite gradient in float16 is no overflow: half the scale would not mend it.
LEAST_SCALE = 1.0


class NonFiniteError(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite."""


class NonFiniteLossError(NonFiniteError):
    """The loss is NaN or infinite. The message names the step and the volumes of the batch."""


class NonFiniteGradientError(NonFiniteError):
    """The norm of the gradient is NaN or infinite. The message names the step and its volumes."""


class NonFiniteWeightsError(NonFiniteError):
    """Weights are NaN or infinite. The message names some of them."""


class FiniteTrainer(Trainer):
    """
    A [`~transformers.Trainer`] that takes no step with a gradient that is NaN or infinite, and that neither saves nor
    loads such weights.

    With float16, a gradient may overflow: accelerate leaves out such a step and lowers the scale of the loss. That is
    an error only if the scale has become so low that it is not the cause. With DeepSpeed, the step is already taken
    when its norm is known, but its weights are not saved.

    Raises:
        [`NonFiniteGradientError`]: in a step whose gradient is not finite. The weights are those of the step before.
        [`NonFiniteWeightsError`]: if weights that are to be saved, or those of a checkpoint, are not finite.
    """

    volumes_of_step: Collection[str] = ()  # of the batches since the last step, for messages

    def _get_grad_norm(self, model, grad_norm=None):
        # Trainer calls this just before each step of the optimizer, whether it clips or not. The norm is that of all
        # processes, so that all of them stop.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not math.isfinite(norm) and not self._overflows():
            within = f" in the batches of {', '.join(self.volumes_of_step)}" if self.volumes_of_step else ""
            raise NonFiniteGradientError(
                f"Step {self.state.global_step + 1}: the norm of the gradient is {float(norm)}{within}. The step was "
                "not taken. Look at these volumes; if they are sound, lower `learning_rate`, or train in bfloat16 or "
                "float32. Then resume from the last checkpoint."
            )
        self.volumes_of_step = ()
        return norm

    def _overflows(self) -> bool:
        """Whether the gradient may have overflowed in float16, so that accelerate will leave out this step."""
        scaler = self.accelerator.scaler
        return scaler is not None and scaler.is_enabled() and scaler.get_scale() >= LEAST_SCALE

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, as [`~transformers.Trainer`] does, if its weights are finite."""
        check_weights(self.model, f"The model of step {self.state.global_step}, which is not saved,")
        super().save_model(output_dir, _internal_call)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        check_weights(model or self.model, resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and not self.is_deepspeed_enabled:  # which keeps its optimizer to itself
            check_optimizer(self.optimizer, checkpoint)


def check_weights(model: torch.nn.Module, name: str) -> None:
    """
    Raises a [`NonFiniteWeightsError`] if weights that learn, or buffers, are NaN or infinite.

    Args:
        model (`torch.nn.Module`):
            The model. Of a sharded model, each process checks its own part.
        name (`str`):
            Name of the model in the message.
    """
    learning = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    if damaged := _damaged((*learning, *model.named_buffers())):
        raise NonFiniteWeightsError(
            f"{name} holds {damaged}. Resume from an earlier checkpoint, with a lower `learning_rate`."
        )


def check_optimizer(optimizer: torch.optim.Optimizer, name: str) -> None:
    """
    Raises a [`NonFiniteWeightsError`] if the state of an optimizer is NaN or infinite: its next step would
    spoil the weights.

    Args:
        optimizer (`torch.optim.Optimizer`):
            The optimizer, with the state of a checkpoint.
        name (`str`):
            Name of the checkpoint in the message.
    """
    states = (
        (f"{key} of parameter {number}", value)
        for number, state in enumerate(optimizer.state.values())
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    )
    if damaged := _damaged(states):
        raise NonFiniteWeightsError(f"The optimizer of {name} holds {damaged}. Resume from an earlier checkpoint.")


def check_loaded(model: torch.nn.Module, name: str) -> None:
    """
    Raises a [`NonFiniteWeightsError`] if saved weights or buffers are NaN or infinite, whether they learn or not.

    Args:
        model (`torch.nn.Module`):
            A model that was loaded to write reports, to be measured, or to label.
        name (`str`):
            Name of the model in the message.
    """
    if damaged := _damaged(model.state_dict().items()):
        raise NonFiniteWeightsError(
            f"{name} holds {damaged}: what it writes would mean nothing. Take an earlier one, or copy it again. "
            "If it was loaded in float16, load it in bfloat16 or float32."
        )


def _damaged(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """How many tensors are NaN or infinite, and the names of the first ones; `""` if all tensors are finite."""
    damaged = [key for key, values in tensors if not is_finite(values)]
    return f"NaN or infinity in {len(damaged)} tensors, such as {', '.join(damaged[:NAMED])}" if damaged else ""


@torch.no_grad()
def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values of a tensor, or of this process's part of it, are finite."""
    values = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    if not values.is_floating_point() or values.numel() == 0:
        return True
    if values.dtype.itemsize == 1:  # 8 bits have no least and largest value
        values = values.float()
    return bool(torch.stack(values.aminmax()).isfinite().all())  # NaN is both the least and the largest value
