"""The records of a run: what it ran with, its losses, and the hashes of its reference reports."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from .schema import Schema


AT_COMMIT = r"[\w.-]+(/[\w.-]+)?@[0-9a-f]{7,64}"  # a model on the Hub


class Optimizer(BaseModel):
    """The optimizer in `environment.json`."""

    model_config = ConfigDict(strict=True)

    name: Annotated[str, Field(max_length=256)]


class Environment(BaseModel):
    """`environment.json` of a run, as far as its card tells it."""

    model_config = ConfigDict(strict=True)

    versions: dict[str, str] | None = None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    dirty: bool | None = None
    optimizer: Optimizer | None = None
    base: Annotated[str, Field(pattern=f"^{AT_COMMIT}(, {AT_COMMIT})*$")] | None = None


class LossHistory(BaseModel):
    """`trainer_state.json` of a run, as far as figures of a study read it."""

    model_config = ConfigDict(strict=True)

    log_history: list[dict[str, Any]]


class ReferenceHashes(Schema):
    """`reference_hashes.json` of a run, see [`~ct_rate_pairs.hub.references`]."""

    model_config = ConfigDict(extra="forbid")

    phantom: bool
    stretch: Annotated[int, Field(ge=1)]
    window: Annotated[int, Field(ge=1)]
    chinese: Annotated[int, Field(ge=1)] = 1  # as in files that do not tell
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    whole: str
    rare: str
    other: str
