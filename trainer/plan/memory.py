"""
Estimates the memory that a training takes of each GPU. Nothing here is measured on a GPU.

Weights, gradients and the state of AdamW are counted exactly. Activations are a formula of what autograd keeps, with
gradient checkpointing: the input of each layer, and all that one layer keeps while its backward runs. Left out are
what the allocator wastes, CUDA's own share (about a GB), and buffers of communication.
"""

from functools import cache
from typing import NamedTuple

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from .row_shape import RowShape
from .shapes import LANGUAGE, LORA_RANK, TOWER, make_config


HALF, SINGLE = 2, 4  # bytes per number
ADAM = 2 * SINGLE  # bytes of state per weight that learns


class Parameters(NamedTuple):
    """Numbers of parameters: of the vision tower with its projector, of the language model, and of the adapters."""

    tower: int
    language: int
    adapters: int


class Memory(NamedTuple):
    """
    Bytes on one GPU.

    Attributes:
        weights (`float`):
            The weights, with a copy in bfloat16 where autocast makes one.
        gradients (`float`):
            The gradients.
        optimizer (`float`):
            The state of AdamW.
        activations (`float`):
            What the forward keeps for the backward.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


@cache
def count_parameters(model: str) -> Parameters:
    """Parameters of a released size, `"3B"` or `"7B"`, counted on the meta device."""
    with torch.device("meta"):
        whole = Qwen2_5_VLForConditionalGeneration._from_config(make_config(model), dtype=torch.bfloat16)
    tower = sum(weight.numel() for weight in whole.model.visual.parameters())
    everything = sum(weight.numel() for weight in whole.parameters())
    projections = [layer for name, layer in whole.model.language_model.named_modules() if name.endswith("_proj")]
    adapters = sum(LORA_RANK * (layer.in_features + layer.out_features) for layer in projections)
    return Parameters(tower, everything - tower, adapters)


def memory_per_gpu(model: str, row: RowShape, tuning: str, pairs: int, is_joint: bool, shards: int) -> Memory:
    """
    Memory of a training step on one GPU.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        row ([`~ct_rate_pairs.trainer.plan.row_shape.RowShape`]):
            Size of a row.
        tuning (`str`):
            `"full"` or `"frozen_tower"`: weights in float32, computed in bfloat16. `"lora"`: weights in bfloat16,
            adapters in float32.
        pairs (`int`):
            Rows that a GPU takes at once.
        is_joint (`bool`):
            Whether volume and negative are in one forward, with twice the activations.
        shards (`int`):
            GPUs that share weights, gradients and state of the optimizer; 1 if each GPU has all of them.

    Returns:
        [`Memory`]: the bytes.
    """
    count = count_parameters(model)
    learning = learning_parameters(count, tuning)
    if tuning == "lora":
        weights = HALF * (count.tower + count.language) + SINGLE * learning
    else:
        weights = SINGLE * (count.tower + count.language)
        # Autocast keeps the bfloat16 copy of each weight that learns for the whole forward. Sharded weights are
        # gathered layer by layer instead.
        weights += HALF * learning if shards == 1 else 0
    volumes = pairs * (2 if is_joint else 1)
    activations = volumes * activation_bytes(model, row, keeps_tower=tuning != "frozen_tower")
    return Memory(weights / shards, SINGLE * learning / shards, ADAM * learning / shards, activations)


def learning_parameters(count: Parameters, tuning: str) -> int:
    """How many of the parameters learn."""
    return {
        "full": count.tower + count.language,
        "frozen_tower": count.language,
        "lora": count.adapters,
    }[tuning]


def disk_of_checkpoints(model: str, tuning: str) -> tuple[float, float]:
    """
    Bytes of a checkpoint, which holds the weights and the state of AdamW, and of the finished model.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        tuning (`str`):
            `"full"`, `"frozen_tower"` or `"lora"`, where only the adapters are saved.

    Returns:
        `tuple[float, float]`: bytes of a checkpoint and of the model.
    """
    count = count_parameters(model)
    weights = SINGLE * (count.adapters if tuning == "lora" else count.tower + count.language)
    return weights + ADAM * learning_parameters(count, tuning), weights


def activation_bytes(model: str, row: RowShape, keeps_tower: bool) -> float:
    """
    What autograd keeps of one volume, with gradient checkpointing.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        row ([`~ct_rate_pairs.trainer.plan.row_shape.RowShape`]):
            Size of the row.
        keeps_tower (`bool`):
            Whether a backward runs through the vision tower.

    Returns:
        `float`: bytes.
    """
    text = LANGUAGE[model]
    inner = row.tokens * layer_bytes(text["hidden_size"], text["intermediate_size"], kv_width(model))
    inputs = row.tokens * SINGLE * text["hidden_size"] * text["num_hidden_layers"]
    logits = row.report * (HALF + SINGLE) * text["vocab_size"]  # an upper bound: the fused head works in tiles
    if not keeps_tower:
        return inputs + inner + logits
    tower_inputs = row.patches * SINGLE * TOWER["hidden_size"] * TOWER["depth"]
    tower_inner = row.patches * layer_bytes(TOWER["hidden_size"], TOWER["intermediate_size"], TOWER["hidden_size"])
    return inputs + tower_inputs + logits + max(inner, tower_inner)  # the two backwards do not run at the same time


def kv_width(model: str) -> int:
    """Width of the keys, and of the values, of the language model."""
    text = LANGUAGE[model]
    return text["hidden_size"] // text["num_attention_heads"] * text["num_key_value_heads"]


def layer_bytes(hidden: int, intermediate: int, keys: int) -> int:
    """
    What one layer keeps per token for its backward, in bytes, with an attention kernel that keeps no scores.

    In float32: the sums before the two norms, as input and as normalised, and the sum between. In bfloat16: input and
    output of the norms as the projections take them, queries before and after the rotation, keys twice, values, the
    output of the attention, and of the MLP its gate, the activated gate, the other branch and their product.
    """
    single = 4 * hidden
    half = 2 * hidden + 3 * hidden + 3 * keys + 4 * intermediate
    return SINGLE * single + HALF * half
