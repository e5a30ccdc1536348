"""
What a training changes: the parameters of each part of the model, and how many of them learn.

The trainer prints this table before its first step, and refuses a model in which other parts learn than the options
say.
"""

from typing import NamedTuple

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from transformers import LlavaForConditionalGeneration, LlavaOnevisionForConditionalGeneration

from .row_checks import STACKED


# Names of the modules between the vision tower and the language model, in the model families of transformers.
PROJECTORS = {
    "merger",
    "deepstack_merger_list",
    "multi_modal_projector",
    "mm_projector",
    "connector",
    "aligner",
    "visual_projection",
}
VISION, PROJECTOR, LANGUAGE, OTHERS = "vision tower", "projector", "language model", "others"
HEADS = {"mask_head": "mask head", "label_head": "label head"}
NAMED = 3  # parameters that an error names


class Part(NamedTuple):
    """A part of a model, with its numbers of parameters and of parameters that learn."""

    name: str
    parameters: int
    trainable: int


def vision_tower(model: torch.nn.Module) -> torch.nn.Module:
    """
    The vision tower of a model. In Qwen's models, it includes the projector (`merger`).

    Raises:
        `ValueError`: if the model has no vision tower that transformers can find.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    tower = base.get_encoder("image")
    if tower is base or tower is base.base_model:  # what `get_encoder` returns if it finds none
        raise ValueError(
            f"`freeze_vision`: transformers finds no vision tower in {type(base).__name__}. Freeze its parameters "
            "with `requires_grad_(False)`, and leave `freeze_vision` out."
        )
    return tower


def freeze_unread(model: torch.nn.Module) -> None:
    """
    Freezes what lies behind the layer of the vision tower that a LLaVA reads, such as its last layer norm. It gets no
    gradient, and DDP waits for the gradient of each parameter that learns. Other models are left as they are.

    Args:
        model (`torch.nn.Module`):
            A whole model of transformers, with or without adapters.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, LlavaForConditionalGeneration | LlavaOnevisionForConditionalGeneration):
        return
    tower, layer = vision_tower(base), base.config.vision_feature_layer
    learning = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    if not learning:
        return
    size = tower.config.image_size
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    images = tower.config.to_dict().get(STACKED, 1)
    shown = torch.zeros(images, tower.config.num_channels, *sides, device=tower.device, dtype=tower.dtype)
    with torch.enable_grad():
        states = tower(shown, output_hidden_states=True).hidden_states
        read = sum(states[place].sum() for place in (layer if isinstance(layer, list | tuple) else (layer,)))
        gradients = torch.autograd.grad(read, learning, allow_unused=True)
    for parameter, gradient in zip(learning, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def what_learns(model: torch.nn.Module) -> list[Part]:
    """
    Counts the parameters of each part of a model. Adapters count as parameters of the part that they are in.

    Args:
        model (`torch.nn.Module`):
            An image-text-to-text model of transformers, whole, with adapters or with 4-bit weights.

    Returns:
        `list[Part]`: vision tower, projector, language model, heads and others, without empty parts.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    tower, decoder, head = base.get_encoder("image"), base.get_decoder(), base.get_output_embeddings()
    of_vision = set() if tower in (base, base.base_model) else set(map(id, tower.parameters()))
    of_language = {id(parameter) for module in (decoder, head) if module for parameter in module.parameters()}
    counts = {part: [0, 0] for part in (VISION, PROJECTOR, LANGUAGE, *HEADS.values(), OTHERS)}
    for name, parameter in model.named_parameters():
        if PROJECTORS.intersection(modules := name.split(".")):
            part = PROJECTOR
        elif own := HEADS.keys() & set(modules):
            part = HEADS[own.pop()]
        elif id(parameter) in of_vision:
            part = VISION
        else:
            part = LANGUAGE if id(parameter) in of_language else OTHERS
        counts[part][0] += size_of(parameter)
        counts[part][1] += size_of(parameter) * parameter.requires_grad
    return [Part(part, *numbers) for part, numbers in counts.items() if numbers[0]]


def size_of(parameter: torch.nn.Parameter) -> int:
    """The number of values of a parameter, also if the values are 4 bits long, or if DeepSpeed has sharded them."""
    if type(parameter).__name__ == "Params4bit":  # two values per byte
        return 2 * parameter.numel() * parameter.element_size()
    return getattr(parameter, "ds_numel", parameter.numel())


def format_what_learns(parts: list[Part]) -> str:
    """A table for the terminal: parameters, trainable parameters and their share, by part and in total."""
    total = Part("total", sum(part.parameters for part in parts), sum(part.trainable for part in parts))
    lines = [f"{'What learns':<16}{'parameters':>16}{'trainable':>16}{'share':>9}"]
    for part in (*parts, total):
        share = part.trainable / part.parameters
        lines.append(f"{part.name:<16}{part.parameters:>16,}{part.trainable:>16,}{share:>9.2%}")
    return "\n".join(lines)


def check_frozen_vision(model: torch.nn.Module) -> None:
    """Raises a `ValueError` if a parameter of the vision tower learns, such as that of an adapter."""
    learning = [name for name, parameter in vision_tower(model).named_parameters() if parameter.requires_grad]
    if learning:
        raise ValueError(
            f"`freeze_vision` is set, but {len(learning)} parameters in the vision tower would learn, such as "
            f"{', '.join(learning[:NAMED])}. Let adapters and modules to save be those of the language model alone "
            "(--lora_target_modules '.*language_model.*_proj'), or leave `freeze_vision` out."
        )


def check_what_learns(model: torch.nn.Module) -> None:
    """
    Raises a `ValueError` if nothing learns, if the model has adapters and none of them learns, or if a module that an
    adapter was asked for is not in the model.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapters = [p for layer in layers for name in layer.adapter_layer_names for p in getattr(layer, name).parameters()]
    if adapters and not any(parameter.requires_grad for parameter in adapters):
        raise ValueError(
            "The model has adapters, but none of them learns. To train an adapter further, load it with "
            "`PeftModel.from_pretrained(base, FOLDER, is_trainable=True)`. To train on top of it, merge it first: "
            "`PeftModel.from_pretrained(base, FOLDER).merge_and_unload().save_pretrained(MERGED)`, and copy the "
            "processor and row_settings.json to MERGED."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "No parameter of the model learns: all have `requires_grad=False`. Freeze less, or train an adapter "
            "(--use_peft true --lora_target_modules '.*language_model.*_proj')."
        )
    if isinstance(model, PeftModel) and isinstance(model.base_model, BaseTuner):
        _check_targets(model)


def _check_targets(model: PeftModel) -> None:
    """Raises a `ValueError` if the adapter was asked for a module, parameter or layer that the model does not have."""
    config, tuner = model.active_peft_config, model.base_model
    modules = [name for name, _ in model.named_modules()]
    known = {
        "target_modules": modules,
        "modules_to_save": modules,
        "target_parameters": tuner.targeted_parameter_names,
    }
    for option, names in known.items():
        asked = getattr(config, option, None)
        asked = () if isinstance(asked, str) else asked or ()  # a pattern without a match is refused by PEFT
        missing = [name for name in asked if not any(f".{own}".endswith(f".{name}") for own in names)]
        if missing:
            what = "parameter" if option == "target_parameters" else "module"
            raise ValueError(
                f"The model has no {what} {' nor '.join(sorted(missing))}, which `{option}` names, so PEFT would "
                "leave it out. Correct the name."
            )
    layers = getattr(config, "layers_to_transform", None)
    layers = [layers] if isinstance(layers, int) else layers or ()
    if missing := [str(layer) for layer in layers if not any(f".{layer}." in n for n in tuner.targeted_module_names)]:
        raise ValueError(
            f"The model has no layer {' nor '.join(missing)} that `target_modules` names, but `layers_to_transform` "
            "asks for it, so PEFT would leave it out. Correct the number: layers are counted from 0."
        )
