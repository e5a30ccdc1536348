"""
Keeps the last checkpoint of a run on the Hub. [`PushCheckpoints`] uploads it to a branch during the training, and
[`fetch_checkpoint`] downloads it to resume on another machine.
"""

import json
import logging
import shutil
from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,  # of the version of httpx that the client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from transformers import TrainerCallback, TrainingArguments

from ct_rate_pairs.hub_errors import explain
from ct_rate_pairs.json_files import JSONFileError, read_json
from ct_rate_pairs.json_schemas.checkpoint import CheckpointFiles, TrainerState
from ct_rate_pairs.trainer.whole_checkpoints import LISTED, STATE, sizes_of
from ct_rate_pairs.whole_files import write_whole

from .guard import CHECKPOINT, ForbiddenContentError, checkpoint_files
from .repository import HubRepository, PublishError


PICKLED = ("global_step*", "*.distcp", "*/*.distcp", "*.metadata", "*/*.metadata")  # read so by DeepSpeed and torch
CALLBACKS = ("TrainerControl", "EarlyStoppingCallback")  # those of transformers that have a state
LAST_CHECKPOINT = "last-checkpoint"  # name of the branch, and value of `resume_from_checkpoint`, as in Trainer

logger = logging.getLogger(__name__)


class PushCheckpoints(TrainerCallback):
    """
    Uploads each checkpoint of a run to the branch `last-checkpoint`, where it replaces the one before.

    An incomplete upload can be told from a complete checkpoint. Training waits for the upload. If an upload fails, or
    if the guard refuses the checkpoint, a warning is logged, and the next checkpoint is uploaded as usual.

    Args:
        repo_id (`str`):
            `USER/NAME` on the Hub. A missing repository is created before the first training step.
        private (`bool`, *optional*, defaults to `True`):
            Creates the repository as private. An existing public repository is refused.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch that the run will be published to. The name of any branch but `"main"` is added to the name of the
            branch of checkpoints, as in `last-checkpoint-heter`, so that variants in one repository stay separate.
        token (`str`, *optional*):
            Token with the right to write. Defaults to the token of `hf auth login`.

    Example:

    ```python
    trainer.add_callback(PushCheckpoints("user/heter"))
    trainer.train()  # on another machine: train(resume_from_checkpoint=fetch_checkpoint("user/heter", output_dir))
    ```
    """

    def __init__(self, repo_id: str, *, private: bool = True, revision: str = "main", token: str | None = None):
        """Keeps the arguments. The Hub is not asked before the training begins."""
        branch = checkpoint_branch(revision)
        self.repository = {"repo_id": repo_id, "private": private, "revision": branch, "token": token}

    def on_train_begin(self, args, state, control, **kwargs):
        """Opens or creates the repository, so that a missing right to write fails before the first step."""
        if state.is_world_process_zero:
            self.hub = HubRepository(**self.repository)

    def on_save(self, args, state, control, **kwargs):
        """Uploads the checkpoint that Trainer has just written."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        told = read_json(folder / STATE, TrainerState) | {"best_model_checkpoint": None}  # a path of this machine
        try:
            chosen = checkpoint_files(folder, token=self.repository["token"] or get_token())
            files: dict[str, Path | bytes] = {file: folder / file for file in chosen}
            files[LISTED] = json.dumps(sizes_of(folder, [folder / file for file in chosen]), indent=2).encode()
            files[STATE] = json.dumps(told, indent=2).encode()
            self.hub.upload(files, last=[LISTED, STATE], ours=["*"])
        except (ForbiddenContentError, PublishError) as error:
            logger.warning("Checkpoint %d is not on the Hub. %s", state.global_step, error)


def checkpoint_branch(revision: str) -> str:
    """Name of the branch of checkpoints of a run that will be published to the branch `revision`."""
    return LAST_CHECKPOINT if revision == "main" else f"{LAST_CHECKPOINT}-{revision}"


def fetch_checkpoint(repo_id: str, output_dir: str | Path, *, revision: str = "main", token: str | None = None) -> str:
    """
    Downloads the checkpoint that [`PushCheckpoints`] keeps to `output_dir`.

    Args:
        repo_id (`str`):
            `USER/NAME` on the Hub.
        output_dir (`str` or `Path`):
            Folder of the run. The checkpoint becomes the subfolder `checkpoint-STEP`.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch that the run will be published to, as for [`PushCheckpoints`].
        token (`str`, *optional*):
            Token with the right to read. Defaults to the token of `hf auth login`.

    Returns:
        `str`: folder of the checkpoint, for `resume_from_checkpoint`. Existing files in this folder are replaced. If
            the upload of the last checkpoint was not finished, a warning is logged, and the one before is taken from
            the history of the branch.

    Raises:
        [`PublishError`]: if there is no whole checkpoint yet, or if the Hub refuses the request or cannot be reached.
    """
    branch = checkpoint_branch(revision)
    try:
        # By its commit, because the cache may hold an earlier checkpoint of the branch.
        commit = _last_whole_commit(HfApi(token=token), repo_id, branch)
        wanted = [*CHECKPOINT, LISTED, STATE]
        fetched = Path(snapshot_download(repo_id, revision=commit, token=token, allow_patterns=wanted))
    except (GatedRepoError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise PublishError(_not_read(repo_id, error)) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise PublishError(
            f"{repo_id} has no checkpoint to go on from: there is no branch {branch}, or this token may not see it. "
            "Start the run without --resume_from_checkpoint; it keeps its checkpoints with --hub_strategy checkpoint."
        ) from error
    except HTTPError as error:
        raise PublishError(_not_read(repo_id, error)) from error
    # The repository may be anybody's: its number becomes the name of a folder, its paths are none of this machine, and
    # its states of callbacks would be arguments of any callback here.
    try:
        state = read_json(fetched / STATE, TrainerState) | {"best_model_checkpoint": None}
    except JSONFileError as error:
        raise PublishError(f"The checkpoint in {repo_id} cannot be used. {error}") from error
    states = state.get("stateful_callbacks", {}).items()
    state["stateful_callbacks"] = {name: known for name, known in states if name in CALLBACKS}
    if any(path for pattern in PICKLED for path in fetched.glob(pattern)):
        raise PublishError(
            f"The checkpoint in {repo_id} is in shards of FSDP or DeepSpeed, which are read as pickles, and these can "
            f"run code. If you trust all who may write there, run `hf download {repo_id} --revision {commit} "
            "--local-dir FOLDER`, and go on with --resume_from_checkpoint FOLDER."
        )
    folder = Path(output_dir) / f"checkpoint-{state['global_step']}"
    for mark in (LISTED, STATE):  # an earlier checkpoint in the folder is none while its files are replaced
        (folder / mark).unlink(missing_ok=True)
    shutil.copytree(fetched, folder, ignore=shutil.ignore_patterns(STATE, ".gitattributes"), dirs_exist_ok=True)
    write_whole(folder / STATE, json.dumps(state, indent=2))  # last, as Trainer has it
    return str(folder)


def _last_whole_commit(api: HfApi, repo_id: str, branch: str) -> str:
    """The last commit of a branch of checkpoints whose files are all there. What is wrong with later ones is told."""
    commit = api.model_info(repo_id, revision=branch).sha
    damage = _damage_of_commit(api, repo_id, commit)
    if damage is None:
        return commit
    for earlier in api.list_repo_commits(repo_id, revision=branch):
        if earlier.commit_id != commit and _damage_of_commit(api, repo_id, earlier.commit_id) is None:
            logger.warning(
                "The upload of the last checkpoint to %s was not finished: %s. The one before is taken.",
                repo_id,
                damage,
            )
            return earlier.commit_id
    raise PublishError(
        f"The upload of a checkpoint to {repo_id} was not finished: {damage}, and there is none before."
    )


def _damage_of_commit(api: HfApi, repo_id: str, commit: str) -> str | None:
    """What is wrong with a checkpoint on the Hub, by the sizes of its files; `None` for nothing."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit)
    found = {file.path: file.size for file in tree if isinstance(file, RepoFile)}
    if STATE not in found:
        return f"it has no {STATE}"
    if LISTED not in found:  # of an earlier release
        return None
    try:
        sizes = read_json(api.hf_hub_download(repo_id, LISTED, revision=commit), CheckpointFiles)
    except JSONFileError as error:
        return str(error)
    wrong = [name for name, size in sizes.items() if found.get(name) != size]
    return f"{', '.join(wrong)} is missing or cut" if wrong else None


def _not_read(repo_id: str, error: Exception) -> str:
    # The client hides the error of its first request to a file.
    told = error.__cause__ or error if isinstance(error, LocalEntryNotFoundError) else error
    return f"The checkpoint in {repo_id} cannot be read: {explain(told)}."


def take_over_push(args: TrainingArguments) -> dict:
    """
    Turns off Trainer's own `push_to_hub`, and returns its options as arguments of
    [`~ct_rate_pairs.hub.publish.publish`].

    Args:
        args ([`~transformers.TrainingArguments`]):
            Training arguments of the run. `push_to_hub` is set to `False`. `hub_model_id` (defaults to the name of the
            output folder), `hub_private_repo`, `hub_revision` and `hub_token` are read.

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
