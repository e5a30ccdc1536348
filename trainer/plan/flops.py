"""
Counts the floating-point operations of a training row on the meta device, where tensors have shapes and no numbers.

The operations of each kind of layer are counted with torch's own counter on a model of one or two layers of the
released size, and multiplied by the number of layers. The counter sees matrix products and convolutions; what it does
not see (norms, softmax, the optimizer) is below a percent. On the meta device, attention is two matrix products
over the whole square of tokens, so the half above the diagonal, which a causal kernel leaves out, is counted as well.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLTextModel,
)

from .row_shape import RowShape
from .shapes import LANGUAGE, LORA_RANK, TOWER, make_config
from .ways import Way


CHANNELS = 3


class Flops(NamedTuple):
    """
    Operations of a part of the model for one volume.

    Attributes:
        forward (`float`):
            Of the forward pass.
        backward (`float`):
            Of the backward pass that the training needs.
        again (`float`):
            That run on top: the forward that gradient checkpointing repeats, and a backward that nothing uses.
    """

    forward: float
    backward: float
    again: float

    @property
    def model(self) -> float:
        """The operations that the training needs, which a model FLOPs utilisation (MFU) counts."""
        return self.forward + self.backward

    @property
    def run(self) -> float:
        """All operations that run."""
        return self.model + self.again


class RowFlops(NamedTuple):
    """
    Operations of one volume.

    Attributes:
        tower ([`Flops`]):
            Of the vision tower, with its projector.
        language ([`Flops`]):
            Of the language model.
    """

    tower: Flops
    language: Flops

    def needed(self, way: Way) -> float:
        """Operations of a row that the training needs, as in a model FLOPs utilisation."""
        return way.tower_passes * self.tower.model + way.language_passes * self.language.model

    def run(self, way: Way) -> float:
        """All operations of a row that run, with those of gradient checkpointing."""
        return way.tower_passes * self.tower.run + way.language_passes * self.language.run


@cache
def count_flops(model: str, row: RowShape, tuning: str) -> RowFlops:
    """Operations of one volume, see [`tower_flops`] and [`language_flops`]."""
    return RowFlops(tower_flops(model, row, tuning), language_flops(model, row, tuning))


def tower_flops(model: str, row: RowShape, tuning: str) -> Flops:
    """
    Operations of the vision tower, with its projector, for one volume.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        row ([`RowShape`]):
            Size of the row.
        tuning (`str`):
            `"full"`: the tower learns. `"frozen_tower"`: it does not, and has no backward. `"lora"`: adapters in the
            language model alone. With gradient checkpointing, transformers then asks for the gradient of the tower's
            first layer, so a backward runs through the frozen tower that no weight needs.

    Returns:
        [`Flops`]: the operations.
    """
    frames, height, width = row.grid
    learns, runs_back = tuning == "full", tuning != "frozen_tower"
    # A frame pair attends to itself alone, so all costs are those of one frame pair, times their number.
    ends, windowed, whole = (
        _tower_of(is_full, model, height, width, learns, runs_back) for is_full in ([], [False], [True])
    )
    full = len(TOWER["fullatt_block_indexes"])
    layers = [
        (TOWER["depth"] - full) * (a - end) + full * (b - end) for a, b, end in zip(windowed, whole, ends, strict=True)
    ]
    forward, backward = (frames * (layer + end) for layer, end in zip(layers, ends, strict=True))
    repeated = frames * layers[0]
    match tuning:
        case "full":
            return Flops(forward, backward, repeated)
        case "frozen_tower":
            return Flops(forward, 0.0, 0.0)
        case _:
            return Flops(forward, 0.0, repeated + backward)


def language_flops(model: str, row: RowShape, tuning: str) -> Flops:
    """
    Operations of the language model for one volume. Of the output layer, only the tokens of the report are computed,
    as TRL's fused head does on a GPU.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        row ([`RowShape`]):
            Size of the row.
        tuning (`str`):
            `"full"` or `"frozen_tower"`: all its weights learn. `"lora"`: adapters on all projections of its layers.

    Returns:
        [`Flops`]: the operations.
    """
    one, two = (_language_of(layers, model, row.tokens, tuning) for layers in (1, 2))
    layer = [b - a for a, b in zip(one, two, strict=True)]
    number = LANGUAGE[model]["num_hidden_layers"]
    ends = [a - b for a, b in zip(one, layer, strict=True)]
    head = _head(model, row.report, tuning)
    forward, backward = (number * a + end + out for a, end, out in zip(layer, ends, head, strict=True))
    return Flops(forward, backward, number * layer[0])


def _tower_of(
    is_full: list[bool], model: str, height: int, width: int, learns: bool, runs_back: bool
) -> tuple[int, int]:
    """Forward and backward of a tower of some layers for one frame pair; a layer attends in windows, or in full."""
    blocks = {"depth": len(is_full), "fullatt_block_indexes": [i for i, full in enumerate(is_full) if full]}
    config = make_config(model, tower=blocks).vision_config
    with torch.device("meta"):
        tower = Qwen2_5_VisionTransformerPretrainedModel._from_config(config, dtype=torch.bfloat16)
        patch = CHANNELS * TOWER["temporal_patch_size"] * TOWER["patch_size"] ** 2
        pixels = torch.empty(height * width, patch, dtype=torch.bfloat16)
    tower.requires_grad_(learns)
    # The places of the patches are computed from the grid, whose numbers are needed: on the CPU.
    tower.rotary_pos_emb.register_forward_pre_hook(lambda _, places: tuple(map(_on_meta, places)))
    if not learns:
        tower.patch_embed.register_forward_hook(lambda *call: call[-1].requires_grad_(runs_back))
    grid = torch.tensor([[1, height, width]])
    return _count(lambda: tower(pixels, grid_thw=grid).pooler_output)


def _language_of(layers: int, model: str, tokens: int, tuning: str) -> tuple[int, int]:
    """Forward and backward of a language model of some layers, without its output layer."""
    config = make_config(model, language={"num_hidden_layers": layers}).text_config
    with torch.device("meta"):
        language = Qwen2_5_VLTextModel._from_config(config, dtype=torch.bfloat16)
        embeddings = torch.empty(1, tokens, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)  # [1, T, H]
        places = torch.empty(3, 1, tokens, dtype=torch.int64)
        if tuning == "lora":
            language.requires_grad_(False)
            lora = LoraConfig(r=LORA_RANK, target_modules=r".*_proj", init_lora_weights=False)
            language = inject_adapter_in_model(lora, language)
            language.to(torch.bfloat16)
    return _count(lambda: language(inputs_embeds=embeddings, position_ids=places, use_cache=False).last_hidden_state)


def _head(model: str, tokens: int, tuning: str) -> tuple[int, int]:
    """Forward and backward of the output layer, which LoRA leaves as it is."""
    with torch.device("meta"):
        head = nn.Linear(LANGUAGE[model]["hidden_size"], LANGUAGE[model]["vocab_size"], bias=False)
        hidden = torch.empty(tokens, LANGUAGE[model]["hidden_size"], requires_grad=True)  # [T, H]
    head.requires_grad_(tuning != "lora")
    return _count(lambda: head(hidden))


def _on_meta(value):
    return value.to("meta") if torch.is_tensor(value) else value


def _count(call: Callable[[], torch.Tensor]) -> tuple[int, int]:
    """Operations of a forward and of its backward."""
    with FlopCounterMode(display=False) as counter:
        out = call()
    forward = counter.get_total_flops()
    if not out.requires_grad:
        return forward, 0
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    return forward, counter.get_total_flops()
