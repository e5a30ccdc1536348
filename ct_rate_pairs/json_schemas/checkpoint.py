"""The files of a checkpoint that tell its step, and whether it is whole."""

import sys
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel


class CallbackState(BaseModel):
    """The state of one callback in `trainer_state.json`."""

    args: dict[str, Any] = {}
    attributes: dict[str, Any] = {}


Steps = Annotated[int, Field(ge=-1, le=10**12)]
Amount = Annotated[float, Field(ge=0)]


class TrainerState(BaseModel):
    """`trainer_state.json` of a checkpoint. The losses in its `log_history` may be NaN."""

    model_config = ConfigDict(strict=True)

    global_step: Annotated[int, Field(ge=1, le=10**12)]
    max_steps: Steps = 1
    num_train_epochs: Annotated[int, Field(ge=-1, le=sys.maxsize)] = 1  # Trainer's number of epochs of a stream
    num_input_tokens_seen: Annotated[int, Field(ge=0)] = 0
    train_batch_size: Annotated[int, Field(ge=1, le=10**6)] | None = None
    epoch: Amount | None = 0.0
    total_flos: Amount = 0.0
    logging_steps: Amount | None = None
    eval_steps: Amount | None = None
    save_steps: Amount | None = None
    best_metric: float | None = None
    best_global_step: Steps | None = None
    best_model_checkpoint: str | None = None
    log_history: list[dict[str, Any]] = []
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, str | float | int | bool] | None = None
    stateful_callbacks: dict[str, CallbackState | list[CallbackState]] = {}


def inside(name: str) -> str:
    """Raises a `ValueError` for a path that leads out of its folder."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError("a file outside the folder")
    return name


class CheckpointFiles(RootModel[dict[Annotated[str, AfterValidator(inside)], Annotated[int, Field(ge=0)]]]):
    """`checkpoint_files.json` of a checkpoint: the size of each file."""
