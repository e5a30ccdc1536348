"""
A finished run -> a repository on the Hub: `python -m ct_rate_pairs.hub.publish RUN_DIR REPO_ID`.

The guard looks at the files first. Then come the weights with all that belongs to them in one commit, the card in the
next, and the tag last: a repository without a card is not whole yet, and the same call completes it.

While a run trains, [`PushCheckpoints`] keeps its last checkpoint on a branch, and [`fetch_checkpoint`] brings it to
another machine to resume from. Trainer's own `push_to_hub` must stay off: it uploads the folder as it is, with the
token in `training_args.bin` and the reference reports in `samples/`. [`take_over_push`] turns it into this module's.
"""

import argparse
import json
import logging
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token, snapshot_download
from huggingface_hub.errors import HTTPError, RevisionNotFoundError  # HTTPError: of whichever httpx the client is on
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash
from transformers import TrainerCallback, TrainingArguments

from .card import THIS_FOLDER
from .guard import ALLOWED, CARD, ForbiddenContentError, publishable_files


PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be gone at another try
WAITS = (1, 2, 4, 8)  # seconds between tries; the Hub's own `Retry-After` comes first

LAST_CHECKPOINT = "last-checkpoint"  # the branch, and what `resume_from_checkpoint` calls it, as in Trainer
STATE = "trainer_state.json"  # Trainer writes it last, and so does the branch
NOT_OF_A_CHECKPOINT = ("training_args.bin", "README.md")  # a pickle that holds the token; a card that is not ours

logger = logging.getLogger(__name__)


class PublishError(RuntimeError):
    """The Hub did not take it all; the message says why, and what to do."""


class HubRepository:
    """
    A repository that is written in whole steps, each tried again where that may help.

    Args:
        repo_id (`str`):
            `USER/NAME`, or a name of the token's own user.
        kind (`str`, *optional*, defaults to `"model"`):
            `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*, defaults to `False`):
            Makes it private from the first call on.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch to write to.
        token (`str`, *optional*):
            Token with the right to write; the one of `hf auth login` by default.

    Raises:
        [`PublishError`]: without a token that may write, or if `private` and the repository is there and public.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        kind: str = "model",
        private: bool = False,
        revision: str = "main",
        token: str | None = None,
    ):
        token = token or get_token()
        if token is None:
            raise PublishError("No token: run `hf auth login` with one that may write, or set HF_TOKEN.")
        if not re.fullmatch("[!-~]+", token):  # the client's own error would print it
            raise PublishError("The token holds blanks or line ends: copy it again, and run `hf auth login`.")
        self.api, self.repo_id, self.kind, self.revision = HfApi(token=token), repo_id, kind, revision
        url = self._ask(
            "creating the repository",
            lambda: self.api.create_repo(
                repo_id,
                repo_type=kind,
                private=private or None,
                exist_ok=True,
                space_sdk="gradio" if kind == "space" else None,
            ),
        )
        self.repo_id, self.url = url.repo_id, str(url)
        # One that is there already was not created, so the token is yet to be looked at.
        self._ask("asking to write", lambda: self.api.auth_check(self.repo_id, repo_type=kind, write=True))
        info = self._ask("reading the repository", lambda: self.api.repo_info(self.repo_id, repo_type=kind))
        if private and not info.private:
            raise PublishError(
                f"{self.repo_id} is there, and public: make it private in its settings, or choose another name. "
                "Nothing was uploaded."
            )
        if revision != "main":
            self._ask("creating the branch", self._create_branch)

    def upload(self, files: dict[str, Path | bytes], last: Sequence[str], ours: Sequence[str] = ()) -> None:
        """
        Makes the branch hold `files`, in two commits: without the `last` of them, then with them. What has not changed
        is not uploaded again.

        Args:
            files (`dict[str, Path | bytes]`):
                Path in the repository to a file or its contents.
            last (`Sequence[str]`):
                Those of `files` that say that the rest is whole. Old ones go before anything else changes.
            ours (`Sequence[str]`, *optional*):
                Patterns of files that are deleted where `files` has them no more.
        """
        there = self._ask(
            "listing the files",
            lambda: {
                file.path: file
                for file in self.api.list_repo_tree(
                    self.repo_id, recursive=True, revision=self.revision, repo_type=self.kind
                )
                if isinstance(file, RepoFile)
            },
        )
        changed = [
            operation
            for name, content in files.items()
            if not _is_there(operation := CommitOperationAdd(name, content), there.get(name))
        ]
        stale = [name for name in there if name not in files and any(fnmatch(name, pattern) for pattern in ours)]
        stale = [name for name in stale if name != ".gitattributes"]
        first = [operation for operation in changed if operation.path_in_repo not in last]
        if first or stale:
            gone = stale + [name for name in last if name in there]
            self._commit("Upload the files", [*first, *map(CommitOperationDelete, gone)])
            changed = [CommitOperationAdd(name, files[name]) for name in last]
        if finish := [operation for operation in changed if operation.path_in_repo in last]:
            self._commit("Add the card: all is there", finish)

    def tag(self, name: str) -> None:
        """Tags the branch as it is now. Raises [`PublishError`] where the tag is on another state."""
        refs = self._ask("reading the tags", lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind))
        where = {"repo_type": self.kind, "revision": self.revision}
        head = self._ask("reading the branch", lambda: self.api.repo_info(self.repo_id, **where)).sha
        commits = {tag.name: tag.target_commit for tag in refs.tags}
        if commits.get(name, head) != head:
            raise PublishError(
                f"{self.repo_id} has the tag {name} on another state of it: choose another tag, or delete that one. "
                f"The files and the card are up to date on {self.revision}."
            )
        if name not in commits:
            self._ask("tagging", lambda: self.api.create_tag(self.repo_id, tag=name, exist_ok=True, **where))

    def collect(self, slug: str) -> None:
        """Adds the repository to the collection `slug`."""
        self._ask(
            f"adding it to the collection {slug}",
            lambda: self.api.add_collection_item(slug, self.repo_id, self.kind, exists_ok=True),
        )

    def _create_branch(self) -> None:
        """A branch with nothing on it: one made from `main` would show another variant's files until the commit."""
        where = {"repo_type": self.kind}
        if self.revision not in {branch.name for branch in self.api.list_repo_refs(self.repo_id, **where).branches}:
            beginning = self.api.list_repo_commits(self.repo_id, **where)[-1].commit_id
            self.api.create_branch(self.repo_id, branch=self.revision, revision=beginning, exist_ok=True, **where)

    def _commit(self, message: str, operations: list) -> None:
        self._ask(
            "committing",
            lambda: self.api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.revision, repo_type=self.kind
            ),
        )

    def _ask(self, doing: str, call: Callable):
        """The answer to `call`. The client itself tries again to upload, but neither to commit nor to create."""
        for wait in (*WAITS, None):
            try:
                return call()
            except HTTPError as error:
                response = getattr(error, "response", None)  # none where the Hub could not be reached
                if wait is None or (response is not None and response.status_code not in PASSING):
                    raise PublishError(f"{self.repo_id}, {doing}: {self._explain(error, response)}") from error
                asked = "" if response is None else response.headers.get("retry-after", "")
                time.sleep(int(asked) if asked.isdigit() else wait)

    def _explain(self, error: HTTPError, response) -> str:
        again = "Run the same command again: what is there is not uploaded twice."
        if response is None:
            return f"{self.api.endpoint} does not answer ({type(error).__name__}). {again}"
        if isinstance(error, RevisionNotFoundError):
            return f"there is no revision {self.revision}. {again}"
        told = {
            401: "the Hub does not know this token. Make one at https://huggingface.co/settings/tokens, and run "
            "`hf auth login`.",
            403: "this token may not write there. Take one with the right to write, of a user or an organisation that "
            "owns the repository.",
            404: "there is no such repository or collection, or this token may not see it.",
            429: f"the Hub limits the number of requests. Wait a few minutes. {again}",
        }
        status = response.status_code
        return told.get(status, f"the Hub answered {status} ({response.reason_phrase}). {again}")


def _is_there(operation: CommitOperationAdd, there: RepoFile | None) -> bool:
    if there is None or there.size != operation.upload_info.size:
        return False
    if there.lfs:
        return there.lfs.sha256 == operation.upload_info.sha256.hex()
    with operation.as_file() as file:
        return there.blob_id == git_hash(file.read())


def publish(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    tag: str | None = None,
    collection: str | None = None,
    references: Sequence[str] = (),
    token: str | None = None,
) -> str:
    """
    Publishes a run: weights or adapter, processor, settings, results, predictions, figures and card.

    Args:
        run_dir (`str` or `Path`):
            Folder of a finished run, with its card (`README.md`).
        repo_id (`str`):
            `USER/NAME` on the Hub, or a name of the token's own user. Made where there is none.
        private (`bool`, *optional*, defaults to `False`):
            Makes it private from the first call on. One that is there and public is refused.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch, for a variant such as `"heter"`. Made where there is none.
        tag (`str`, *optional*):
            Tag for the whole publication.
        collection (`str`, *optional*):
            Slug of a collection to add the repository to.
        references (`Sequence[str]`, *optional*):
            Reference reports, which no file may quote, see [`~ct_rate_pairs.hub.guard.publishable_files`].
        token (`str`, *optional*):
            Token with the right to write; the one of `hf auth login` by default.

    Returns:
        `str`: the publication's address.

    Raises:
        [`ForbiddenContentError`]: if the folder holds what must not be published; nothing is uploaded then.
        [`PublishError`]: if it is not the folder of a finished run, or the Hub refuses.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "README.md").is_file():
        raise PublishError(f"{run_dir} has no README.md: the recipe writes it when a run is finished.")
    card = ModelCard.load(run_dir / "README.md")
    files = publishable_files(
        run_dir, phantom="phantom" in (card.data.tags or ()), references=references, token=token or get_token()
    )
    if not any(file.endswith(".safetensors") for file in files):
        raise PublishError(f"{run_dir} has neither model.safetensors nor adapter_model.safetensors: no trained model.")
    hub = HubRepository(repo_id, private=private, revision=revision, token=token)
    contents: dict[str, Path | bytes] = {file: run_dir / file for file in files}
    address = f'model_id, revision = "{hub.repo_id}", "{tag or revision}"'
    contents["README.md"] = card.content.replace(THIS_FOLDER, address).encode()
    hub.upload(
        contents, last=[file for file in files if any(fnmatch(file, pattern) for pattern in CARD)], ours=ALLOWED
    )
    if tag:
        hub.tag(tag)
    if collection:
        hub.collect(collection)
    return f"{hub.url}/tree/{tag or revision}"


def take_over_push(args: TrainingArguments) -> dict:
    """
    Turns Trainer's own pushing off, and gives what its options say as those of [`publish`].

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


def publish_or_tell_how(
    run_dir: str | Path, repo_id: str, *, private: bool = False, revision: str = "main", **options
) -> str:
    """
    [`publish`] at the end of a run: where it fails, whatever for, the error also gives the command to do it later.

    Raises:
        `Exception`: as [`publish`], with the command as its note.
    """
    command = ["python", "-m", "ct_rate_pairs.hub.publish", str(run_dir), repo_id, *["--private"] * private]
    command += ["--revision", revision] if revision != "main" else []
    try:
        return publish(run_dir, repo_id, private=private, revision=revision, **options)
    except Exception as error:
        error.add_note(f"The run is finished, and whole in {run_dir}. To publish it later:\n    {shlex.join(command)}")
        raise


class PushCheckpoints(TrainerCallback):
    """
    Keeps the last checkpoint of a run on the branch `last-checkpoint`, whole or not at all. Training waits for the
    upload; one that fails is told, and the next checkpoint makes up for it.

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
        files: dict[str, Path | bytes] = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in NOT_OF_A_CHECKPOINT
        }
        told = json.loads((folder / STATE).read_text()) | {"best_model_checkpoint": None}  # a path of this machine
        files[STATE] = json.dumps(told, indent=2).encode()
        try:
            self.hub.upload(files, last=[STATE], ours=["*"])
        except PublishError as error:
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
        [`PublishError`]: if the upload of the checkpoint was not finished.
        `huggingface_hub.errors.HfHubHTTPError`: if there is no such repository or no checkpoint in it.
    """
    fetched = Path(snapshot_download(repo_id, revision=checkpoint_branch(revision), token=token))
    if not (fetched / STATE).is_file():
        raise PublishError(f"The upload of a checkpoint to {repo_id} was not finished: it has no {STATE}.")
    folder = Path(output_dir) / f"checkpoint-{json.loads((fetched / STATE).read_text())['global_step']}"
    shutil.copytree(fetched, folder, ignore=shutil.ignore_patterns(STATE, ".gitattributes"), dirs_exist_ok=True)
    shutil.copy(fetched / STATE, folder / STATE)  # last, as Trainer has it
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser("python -m ct_rate_pairs.hub.publish", description="Publish a finished run.")
    parser.add_argument("run_dir", type=Path, help="folder of the run")
    parser.add_argument("repo_id", help="USER/NAME on the Hub; made where there is none")
    parser.add_argument("--private", action="store_true", help="make the repository private from the first call on")
    parser.add_argument("--revision", default="main", help="branch, for a variant such as heter")
    parser.add_argument("--tag", help="tag for the whole publication, such as v1")
    parser.add_argument("--collection", help="slug of a collection to add the repository to")
    try:
        print(publish(**vars(parser.parse_args())))
    except (ForbiddenContentError, PublishError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
