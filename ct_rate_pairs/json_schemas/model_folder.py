"""The configuration files of a model's folder, and the index of its weights."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .schema import Schema


Plain = Annotated[str, Field(pattern=r"^[^/\\]{1,200}$")]  # a name of a file in the folder itself
MOST_LAYERS = 1000  # the largest models have some hundred; each is built, even if there are no weights for it
Dtype = Annotated[str, Field(pattern=r"^(torch\.)?(auto|b?float\d[a-z0-9_]{0,20})$")]


class ModelConfig(BaseModel):
    """
    `config.json` of a model, as far as it is read here. transformers downloads code from the Hub, and runs it, if an
    implementation of attention or of experts is the name of a repository. It reads the weights from the file that
    `transformers_weights` names, and builds each layer before it looks for the weights.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    architectures: list[str] | None = None
    dtype: Dtype | None = None
    torch_dtype: Dtype | None = None
    transformers_weights: Plain | None = None

    @model_validator(mode="after")
    def few_layers(self) -> Self:
        """No part of the model has more layers than can be built in a minute."""
        for name, number in _numbers(self.model_extra):
            if number > MOST_LAYERS and (name == "depth" or name.endswith("layers")):
                raise ValueError(f"{name} is {number}, but a model has at most {MOST_LAYERS} layers")
        return self

    @model_validator(mode="after")
    def no_kernels(self) -> Self:
        """No implementation is a repository on the Hub, in whatever part of the configuration it stands."""
        if wrong := next(_repositories(self.model_extra), None):
            raise ValueError(f"the implementation {wrong!r:.80} would be code from the Hub, remove it")
        return self


def _numbers(content: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a JSON content, each with the last name above it."""
    if isinstance(content, dict):
        for inner, value in content.items():
            yield from _numbers(value, inner)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, name)
    elif isinstance(content, int | float):
        yield name, content


def _repositories(content: Any, of_implementation: bool = False) -> Iterator[str]:
    """The names of implementations in a JSON content that are names of repositories."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _repositories(value, of_implementation or "_implementation" in name)
    elif isinstance(content, list):
        for value in content:
            yield from _repositories(value, of_implementation)
    elif of_implementation and isinstance(content, str) and "/" in content:
        yield content


Size = Annotated[int, Field(ge=1, le=4096)]
Deviation = Annotated[float, Field(gt=0)]


class ProcessorPart(Schema):
    """What cuts images or videos to patches, and to numbers. Some families give a size as height and width."""

    patch_size: Size | list[Size] | dict[str, Size | None] | None = None
    merge_size: Size | None = None
    temporal_patch_size: Size | None = None
    image_mean: float | list[float] | None = None
    image_std: Deviation | list[Deviation] | None = None
    rescale_factor: Deviation | None = None


class ProcessorConfig(BaseModel):
    """`processor_config.json` of a model, as far as it is read here."""

    model_config = ConfigDict(strict=True)

    image_processor: dict[str, Any] = {}


class WeightsIndex(BaseModel):
    """`model.safetensors.index.json`: the file of each tensor."""

    model_config = ConfigDict(strict=True)

    weight_map: Annotated[dict[str, Plain], Field(min_length=1)]
