"""An optimizer for a model that is trained from scratch: Muon for the weight matrices, AdamW for the rest."""

import math

import torch
from torch import nn

from .label_head import LabelHead


ITERATIONS = 5  # of Newton and Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of their polynomial: those of Muon's author, and of torch


class MuonAdamW(torch.optim.Optimizer):
    """
    Muon for the matrices of the hidden layers, AdamW for embeddings, norms, biases and convolutions.

    A vision-language model that is trained from scratch first learns the template of the reports, because the
    differences between scans are a small part of the gradient. Muon gives every direction of a matrix's update the
    same size. On the phantom demo, it reached Coverage 0.66 and a loss gap of 0.20 nats per token; AdamW reached 0.60
    and 0.12 (1,700 steps each, one seed: `recipes/sft_neg.py --config recipes/configs/phantom.yaml`, for AdamW with
    `--muon false --learning_rate 1e-3`). To fine-tune a released model, use AdamW, as the paper does.

    Args:
        model (`torch.nn.Module`):
            The model. Its input embeddings and its head are left to AdamW.
        lr (`float`, *optional*, defaults to `2e-3`):
            Learning rate of both optimizers. Muon's updates are scaled to the size of AdamW's updates.
        weight_decay (`float`, *optional*, defaults to `0.01`):
            Weight decay of both optimizers.

    Example:

    ```python
    trainer = NegativeSFTTrainer(..., optimizer_cls_and_kwargs=(lambda: MuonAdamW, {"lr": 2e-3}))
    ```
    """

    def __init__(self, model: nn.Module, lr: float = 2e-3, weight_decay: float = 0.01):
        vocabulary = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        matrices, others = [], []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # As the head of the language model, that of the labels has a row for each thing that it tells of.
                of_adamw = id(parameter) in vocabulary or LabelHead.key in name.split(".")
                (matrices if parameter.ndim == 2 and not of_adamw else others).append(parameter)
        self.muon = Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step. If `closure` is given, it is called first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Both optimizers use the groups and the state of this one: the scheduler changes them, a checkpoint restores
        # them.
        (muon_group, adamw_group), state = self.param_groups, self.state
        for optimizer, group in ((self.muon, muon_group), (self.adamw, adamw_group)):
            optimizer.param_groups, optimizer.state = [group], state
            optimizer.step()
        return loss


class Muon(torch.optim.Muon):
    """
    torch's Muon, in float32. torch makes updates orthogonal in bfloat16. A processor without instructions for it took
    20 times as long for that, and three times as long for 40 steps of the phantom demo.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step, with Nesterov's momentum and with updates of the size of AdamW's."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                update = orthogonalise(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - lr * group["weight_decay"])
                matrix.add_(update, alpha=-lr * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """
    A matrix with the same singular vectors, and singular values of about 1: Newton and Schulz's iteration, with the
    polynomial that Muon takes (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/).

    Args:
        matrix (`torch.Tensor` of shape `[A, B]`):
            The matrix.

    Returns:
        `torch.Tensor` of shape `[A, B]`: in float32, with singular values of about 0.7 to 1.2; a singular value near 0
        stays there.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).float()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x
