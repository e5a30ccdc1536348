"""The configuration file of an adapter."""

from typing import Annotated

from pydantic import AfterValidator, Field

from .name_patterns import MOST_WAYS, ways_to_match
from .schema import Schema, Share


def quickly_matched(patterns: str | list | dict | None) -> str | list | dict | None:
    """Raises a `ValueError` if matching names with these patterns may take hours. The keys of a dict are patterns."""
    if sum(map(ways_to_match, [patterns] if isinstance(patterns, str) else patterns or ())) > MOST_WAYS:
        raise ValueError("names can be matched in too many ways, give the names of the modules as a list")
    return patterns


def quick_if_a_pattern(names: str | list | None) -> str | list | None:
    """As [`quickly_matched`]; a list has whole names, or their ends, and no patterns."""
    return quickly_matched(names) if isinstance(names, str) else names


Names = list[Annotated[str, Field(max_length=400)]]
NamesOrPattern = Annotated[str | Names | None, AfterValidator(quick_if_a_pattern)]
Rank = Annotated[int, Field(ge=0, le=4096)]


class AdapterConfig(Schema):
    """
    `adapter_config.json` of an adapter. PEFT imports the module that `megatron_core` names if there is a
    `megatron_config`. `target_modules` and `exclude_modules` are patterns if they are no lists. `modules_to_save`,
    `layers_pattern` and the keys of `rank_pattern` and `alpha_pattern` always are.
    """

    base_model_name_or_path: Annotated[str, Field(max_length=4096)] | None = None
    revision: Annotated[str, Field(max_length=256)] | None = None
    megatron_config: None = None
    peft_type: str | None = None
    r: Rank | None = None
    lora_alpha: float | None = None
    lora_dropout: Share | None = None
    rank_pattern: Annotated[dict[str, Rank | list[bool]] | None, AfterValidator(quickly_matched)] = None
    alpha_pattern: Annotated[dict[str, float] | None, AfterValidator(quickly_matched)] = None
    target_modules: NamesOrPattern = None
    exclude_modules: NamesOrPattern = None
    modules_to_save: Annotated[Names | None, AfterValidator(quickly_matched)] = None
    layers_pattern: Annotated[str | Names | None, AfterValidator(quickly_matched)] = None
    layers_to_transform: int | list[int] | None = None
    target_parameters: Names | None = None
