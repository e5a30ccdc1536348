"""The files of a checkpoint that tell its step, and whether it is whole."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel


class TrainerState(BaseModel):
    """`trainer_state.json` of a checkpoint. The losses in its `log_history` may be NaN."""

    model_config = ConfigDict(strict=True)

    global_step: Annotated[int, Field(ge=1, le=10**12)]
    max_steps: Annotated[int, Field(ge=-1, le=10**12)] = 1
    best_model_checkpoint: str | None = None
    log_history: list[dict[str, Any]] = []


class CheckpointFiles(RootModel[dict[str, Annotated[int, Field(ge=0)]]]):
    """`checkpoint_files.json` of a checkpoint: the size of each file."""
