"""The records of a prepared copy and of a phantom cohort."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel


class PreparedCopy(BaseModel):
    """`prepared.json` of a prepared copy. Its `settings` are checked by their own options."""

    model_config = ConfigDict(strict=True)

    source: str
    tables: str | None = None
    phantom: bool
    labels_from: Literal["table", "rules"] = "table"
    settings: dict[str, Any]
    form: Literal["slices", "preprocessed", "preprocessed_numpy"] = "slices"
    shard_size: Annotated[int, Field(ge=1)] | None = None
    own: bool = False  # of a reader's own table
    metadata: list[str] = []
    plans: bool = False  # whether it keeps where its slices lie
    shards: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=0, le=10**6)]]
    ct_rate_pairs: str
    reading: int = 1


class VolumeMessages(RootModel[list[tuple[str, str]]]):
    """Volumes and what is told of them, in the metadata of a shard of a prepared copy."""


class PhantomArguments(RootModel[dict[str, Any]]):
    """`phantom.json` of a phantom cohort: the arguments of its command."""
