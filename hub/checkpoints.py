"""
The last checkpoint of a run on the Hub: [`PushCheckpoints`] keeps it on a branch while the run trains, and
[`fetch_checkpoint`] brings it to another machine to resume from.
"""

import json
import logging
import shutil
from pathlib import Path

from huggingface_hub import get_token, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from transformers import TrainerCallback, TrainingArguments

from .guard import ForbiddenContentError, checkpoint_files
from .repository import HubRepository, PublishError


LAST_CHECKPOINT = "last-checkpoint"  # the branch, and what `resume_from_checkpoint` calls it, as in Trainer
STATE = "trainer_state.json"  # Trainer writes it last, and so does the branch

logger = logging.getLogger(__name__)


class PushCheckpoints(TrainerCallback):
    """
    Keeps the last checkpoint of a run on the branch `last-checkpoint`, whole or not at all. Training waits for the
    upload; one that fails, or that the guard refuses, is told, and the next checkpoint makes up for it.

    Args:
        repo_id (`str`):
            `USER/NAME` on the Hub; made where there is none, which is tried before the first step.
        private (`bool`, *optional*, defaults to `True`):
            Makes it private from the first call on.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch that the run will be published to. One other than `"main"` becomes part of the checkpoints' branch,
            `last-checkpoint-heter`: variants in one repository keep apart.
        token (`str`, *optional*):
            Token with the right to write; the one of `hf auth login` by default.

    Example:

    ```python
    >>> trainer.add_callback(PushCheckpoints("user/heter"))
    >>> trainer.train()  # on another machine: train(resume_from_checkpoint=fetch_checkpoint("user/heter", output_dir))
    ```
    """

    def __init__(self, repo_id: str, *, private: bool = True, revision: str = "main", token: str | None = None):
        branch = checkpoint_branch(revision)
        self.repository = {"repo_id": repo_id, "private": private, "revision": branch, "token": token}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.hub = HubRepository(**self.repository)

    def on_save(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        told = json.loads((folder / STATE).read_text()) | {"best_model_checkpoint": None}  # a path of this machine
        try:
            chosen = checkpoint_files(folder, token=self.repository["token"] or get_token())
            files: dict[str, Path | bytes] = {file: folder / file for file in chosen}
            files[STATE] = json.dumps(told, indent=2).encode()
            self.hub.upload(files, last=[STATE], ours=["*"])
        except (ForbiddenContentError, PublishError) as error:
            logger.warning("Checkpoint %d is not on the Hub. %s", state.global_step, error)


def checkpoint_branch(revision: str) -> str:
    return LAST_CHECKPOINT if revision == "main" else f"{LAST_CHECKPOINT}-{revision}"


def fetch_checkpoint(repo_id: str, output_dir: str | Path, *, revision: str = "main", token: str | None = None) -> str:
    """
    Brings the checkpoint that [`PushCheckpoints`] keeps to `output_dir`.

    Args:
        repo_id (`str`):
            `USER/NAME` on the Hub.
        output_dir (`str` or `Path`):
            Folder of the run; the checkpoint becomes `checkpoint-STEP` in it.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch that the run will be published to, as for [`PushCheckpoints`].
        token (`str`, *optional*):
            Token with the right to read; the one of `hf auth login` by default.

    Returns:
        `str`: the checkpoint's folder, for `resume_from_checkpoint`. Files of it that are there already are replaced.

    Raises:
        [`PublishError`]: if there is no checkpoint yet, or its upload was not finished.
        `huggingface_hub.errors.HfHubHTTPError`: if the Hub refuses.
    """
    branch = checkpoint_branch(revision)
    try:
        fetched = Path(snapshot_download(repo_id, revision=branch, token=token))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise PublishError(
            f"{repo_id} has no checkpoint to go on from: there is no branch {branch}, or this token may not see it. "
            "Start the run without --resume_from_checkpoint; it keeps its checkpoints with --hub_strategy checkpoint."
        ) from error
    if not (fetched / STATE).is_file():
        raise PublishError(f"The upload of a checkpoint to {repo_id} was not finished: it has no {STATE}.")
    folder = Path(output_dir) / f"checkpoint-{json.loads((fetched / STATE).read_text())['global_step']}"
    shutil.copytree(fetched, folder, ignore=shutil.ignore_patterns(STATE, ".gitattributes"), dirs_exist_ok=True)
    shutil.copy(fetched / STATE, folder / STATE)  # last, as Trainer has it
    return str(folder)


def take_over_push(args: TrainingArguments) -> dict:
    """
    Turns Trainer's own pushing off, and gives what its options say as those of [`~ct_rate_pairs.hub.publish.publish`].

    Args:
        args ([`~transformers.TrainingArguments`]):
            Of the run: `push_to_hub` is set to `False`; `hub_model_id` (the output folder's name by default),
            `hub_private_repo`, `hub_revision` and `hub_token` are read.

    Returns:
        `dict`: `repo_id`, `private`, `revision` and `token`.
    """
    args.push_to_hub = False
    return {
        "repo_id": args.hub_model_id or Path(args.output_dir).resolve().name,
        "private": bool(args.hub_private_repo),
        "revision": args.hub_revision or "main",
        "token": args.hub_token,
    }
