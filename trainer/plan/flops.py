"""
Counts the floating-point operations (FLOPs) of a training row on the meta device, where tensors have shapes and no
numbers. A multiplication and an addition are two operations.

The operations of each kind of layer are counted with torch's own counter (`torch.utils.flop_counter`) on a model of
one or two layers of the released size, and multiplied by the number of layers. The counter sees matrix products and
convolutions. What the counter does not see (norms, softmax, the optimizer) is below a percent. On the meta device,
attention is two matrix products over the whole square of tokens. So the half above the diagonal is counted, too,
though a causal kernel leaves this half out.
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
    Operations of a part of the model for one volume, in FLOPs.

    Attributes:
        forward (`float`):
            Operations of the forward pass.
        backward (`float`):
            Operations of the backward pass that the training needs.
        again (`float`):
            Operations that run besides: the forward that gradient checkpointing repeats, and a backward that nothing
            uses.
    """

    forward: float
    backward: float
    again: float

    @property
    def model(self) -> float:
        """
        The operations that the training needs, in FLOPs. A model FLOPs utilisation (MFU) counts these (Chowdhery et
        al., PaLM, arXiv 2204.02311, appendix B).
        """
        return self.forward + self.backward

    @property
    def run(self) -> float:
        """All operations that run, in FLOPs. A hardware FLOPs utilisation counts these."""
        return self.model + self.again


class RowFlops(NamedTuple):
    """
    Operations of one volume, in FLOPs.

    Attributes:
        tower ([`Flops`]):
            Operations of the vision tower, with its projector.
        language ([`Flops`]):
            Operations of the language model.
    """

    tower: Flops
    language: Flops

    def needed(self, way: Way) -> float:
        """The operations of a row that the training needs ([`Flops.model`]), in FLOPs."""
        return way.tower_passes * self.tower.model + way.language_passes * self.language.model

    def run(self, way: Way) -> float:
        """All operations of a row that run ([`Flops.run`]), in FLOPs."""
        return way.tower_passes * self.tower.run + way.language_passes * self.language.run


@cache
def count_flops(model: str, row: RowShape, tuning: str) -> RowFlops:
    """
    Counts the operations of one volume.

    Args:
        model (`str`):
            `"3B"` or `"7B"`, the sizes of Qwen2.5-VL in [`~ct_rate_pairs.trainer.plan.shapes`].
        row ([`RowShape`]):
            Size of the row.
        tuning (`str`):
            What learns: `"full"`, `"frozen_tower"` or `"lora"`, see [`tower_flops`] and [`language_flops`].

    Returns:
        [`RowFlops`]: the operations, in FLOPs.
    """
    return RowFlops(tower_flops(model, row, tuning), language_flops(model, row, tuning))


def tower_flops(model: str, row: RowShape, tuning: str) -> Flops:
    """
    Counts the operations of the vision tower, with its projector, for one volume.

    Args:
        model (`str`), row ([`RowShape`]):
            As for [`count_flops`].
        tuning (`str`):
            `"full"`: the tower learns. `"frozen_tower"`: the tower has no backward. `"lora"`: only the language model
            has adapters. Under gradient checkpointing, transformers then asks for the gradient of the tower's first
            layer. So a backward runs through the frozen tower, and no weight needs it.

    Returns:
        [`Flops`]: the operations, in FLOPs.
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
    Counts the operations of the language model for one volume. The output layer is computed for the tokens of the
    report alone, as by TRL's fused head on a GPU.

    Args:
        model (`str`), row ([`RowShape`]):
            As for [`count_flops`].
        tuning (`str`):
            `"full"` or `"frozen_tower"`: all weights of the language model learn. `"lora"`: adapters on all
            projections of its layers learn.

    Returns:
        [`Flops`]: the operations, in FLOPs.
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
