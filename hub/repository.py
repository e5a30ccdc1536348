"""Writes to a repository on the Hub in complete steps. A step that fails is tried again if this may help."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HTTPError,  # of the version of httpx that the client uses
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from ct_rate_pairs.hub_errors import explain, is_refusal, status_of
from ct_rate_pairs.retry_after import retry_after


WAITS = (1, 2, 4, 8)  # seconds between tries, if the Hub sends no `Retry-After`
LONGEST_WAIT = 300  # seconds: the Hub counts requests in windows of five minutes
AGAIN = "Run the same command again: what is there is not uploaded twice."

logger = logging.getLogger(__name__)


class PublishError(OSError):
    """The publication is not complete. The message gives the reason and the remedy."""


class HubRepository:
    """
    A model, dataset or Space on the Hub to write to. A missing repository is created.

    Args:
        repo_id (`str`):
            `USER/NAME`, or a name alone for the token's own user.
        kind (`str`, *optional*, defaults to `"model"`):
            `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*, defaults to `False`):
            Creates the repository as private. An existing public repository is refused.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch to write to. A missing branch is created.
        token (`str`, *optional*):
            Token with the right to write. Defaults to the token of `hf auth login`.

    Raises:
        [`PublishError`]: for an invalid name, without a token that has the right to write, or if `private` is set and
            the repository exists and is public.
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
        """Creates the repository and the branch if they are missing, and checks the right to write."""
        token = token or get_token()
        if token is None:
            raise PublishError("No token: run `hf auth login` with one that may write, or set HF_TOKEN.")
        if not re.fullmatch("[!-~]+", token):  # the error message of the client would print the token
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
        # Creating an existing repository does nothing, so the right to write has to be checked.
        self._ask("asking to write", lambda: self.api.auth_check(self.repo_id, repo_type=kind, write=True))
        info = self._ask("reading the repository", lambda: self.api.repo_info(self.repo_id, repo_type=kind))
        self.private = info.private
        if private and not self.private:
            raise PublishError(
                f"{self.repo_id} is there, and public: make it private in its settings, or choose another name. "
                "Nothing was uploaded."
            )
        if revision != "main":
            self._ask("creating the branch", self._create_branch)

    def upload(
        self,
        files: dict[str, Path | bytes],
        last: Sequence[str],
        ours: Sequence[str] = (),
        tag: str | None = None,
    ) -> None:
        """
        Makes the branch hold `files`, in two commits: the first without the files named in `last`, the second with
        them. Unchanged files are not uploaded again.

        Args:
            files (`dict[str, Path | bytes]`):
                Maps a path in the repository to a local file or to contents.
            last (`Sequence[str]`):
                Names of `files` that mark the rest as complete. The first commit deletes their old versions.
            ours (`Sequence[str]`, *optional*):
                Patterns of files to delete if `files` does not hold them any more.
            tag (`str`, *optional*):
                Tag for the branch after the upload.

        Raises:
            [`PublishError`]: if the tag is on another state of the repository (nothing is then changed), or if the Hub
                refuses a request.
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
        tagged = tag is not None and self._has_tag(tag, changes=bool(changed or stale))
        first = [operation for operation in changed if operation.path_in_repo not in last]
        if first or stale:
            gone = stale + [name for name in last if name in there]
            self._commit("Upload the files", [*first, *map(CommitOperationDelete, gone)])
            changed = [CommitOperationAdd(name, files[name]) for name in last]
        if finish := [operation for operation in changed if operation.path_in_repo in last]:
            self._commit("Add the card: all is there", finish)
        if tag and not tagged:
            where = {"repo_type": self.kind, "revision": self.revision}
            self._ask("tagging", lambda: self.api.create_tag(self.repo_id, tag=tag, exist_ok=True, **where))

    def head(self) -> str:
        """The last commit of the branch."""
        where = {"repo_type": self.kind, "revision": self.revision}
        return self._ask("reading the last commit", lambda: self.api.repo_info(self.repo_id, **where)).sha

    def find_collection(self, name: str, private: bool = False) -> str:
        """
        The slug of a collection. A collection with a new title is created.

        Args:
            name (`str`):
                Title of a collection of the repository's owner, or a slug such as `USER/chest-ct-65f0c0ffee`.
            private (`bool`, *optional*, defaults to `False`):
                Whether a new collection is private.
        """
        if "/" in name:
            return self._ask(f"looking for the collection {name}", lambda: self.api.get_collection(name)).slug
        owner = self.repo_id.partition("/")[0]
        return self._ask(
            f"creating the collection {name}",
            lambda: self.api.create_collection(name, namespace=owner, private=private, exists_ok=True),
        ).slug

    def collect(self, slug: str) -> None:
        """Adds the repository to the collection `slug`."""
        self._ask(
            f"adding it to the collection {slug}",
            lambda: self.api.add_collection_item(slug, self.repo_id, self.kind, exists_ok=True),
        )

    def _has_tag(self, name: str, changes: bool) -> bool:
        """Whether the branch has the tag; raises a [`PublishError`] if the tag marks another state of the branch."""
        refs = self._ask("reading the tags", lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind))
        commits = {tag.name: tag.target_commit for tag in refs.tags}
        heads = {branch.name: branch.target_commit for branch in refs.branches}
        if name in commits and (changes or commits[name] != heads[self.revision]):
            raise PublishError(
                f"{self.repo_id} has the tag {name} on another state of it: choose another tag, or delete that one. "
                "Nothing was uploaded."
            )
        return name in commits

    def _create_branch(self) -> None:
        """Creates an empty branch: a branch from `main` would show the files of another variant until the commit."""
        where = {"repo_type": self.kind}
        if self.revision not in {branch.name for branch in self.api.list_repo_refs(self.repo_id, **where).branches}:
            beginning = self.api.list_repo_commits(self.repo_id, **where)[-1].commit_id
            self.api.create_branch(self.repo_id, branch=self.revision, revision=beginning, exist_ok=True, **where)

    def _commit(self, message: str, operations: list) -> None:
        """Makes one commit on the branch."""
        self._ask(
            "committing",
            lambda: self.api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.revision, repo_type=self.kind
            ),
        )

    def _ask(self, doing: str, call: Callable):
        """Runs `call`, with retries. The client itself retries uploads, but neither commits nor creations."""
        renewed = False
        for wait in (*WAITS, None):
            asked = None  # seconds that the Hub asks to wait
            try:
                return call()
            except HTTPError as error:
                response = getattr(error, "response", None)  # none if the Hub could not be reached
                if wait is None or is_refusal(error):
                    raise PublishError(f"{self.repo_id}, {doing}: {self._explain(error, response)}") from error
                asked = None if response is None else retry_after(response.headers.get("retry-after", ""))
                if asked is not None and asked > LONGEST_WAIT:
                    told = f"the Hub asks to wait {asked:,.0f} s, which is too long. {AGAIN}"
                    raise PublishError(f"{self.repo_id}, {doing}: {told}") from error
            except OfflineModeIsEnabled as error:
                raise PublishError(f"{self.repo_id}, {doing}: {explain(error)}.") from error
            except (RuntimeError, ConnectionError) as error:
                # The upload of a file to the storage failed; the client wraps the error. The address of the upload may
                # have expired, or the storage may be overloaded: another try gets a new address. The text of the
                # cause holds this address, which must stay secret, so only the type or the status is printed.
                # `hf_xet` renews addresses by itself, and its own errors hold them.
                cause, of_xet = error.__cause__ or error, error.__cause__ is None
                refused, status = is_refusal(cause), status_of(cause)
                if wait is None or (refused and (renewed or of_xet)):
                    why = f"the storage answered {status}" if status else type(cause).__name__
                    told = "a file was not uploaded" if of_xet else error
                    raise PublishError(f"{self.repo_id}, {doing}: {told} ({why}) {AGAIN}") from error
                renewed = refused
            except ValueError as error:  # an invalid name, or too little room in the storage
                raise PublishError(f"{self.repo_id}, {doing}: {error}") from error
            seconds = wait if asked is None else asked
            logger.warning("%s, %s: it did not work, the next try is in %g s.", self.repo_id, doing, seconds)
            time.sleep(seconds)

    def _explain(self, error: HTTPError, response) -> str:
        """The reason and the remedy of an error of the Hub, in words."""
        if response is None:
            return f"{self.api.endpoint} does not answer ({type(error).__name__}). {AGAIN}"
        if isinstance(error, RevisionNotFoundError):
            return f"there is no revision {self.revision}. {AGAIN}"
        told = {
            401: "the Hub does not know this token. Make one at https://huggingface.co/settings/tokens, and run "
            "`hf auth login`.",
            403: "this token may not write there. Take one with the right to write, of a user or an organisation that "
            "owns the repository.",
            404: "there is no such repository or collection, or this token may not see it.",
            429: f"the Hub limits the number of requests. Wait a few minutes. {AGAIN}",
        }
        status = response.status_code
        return told.get(status, f"the Hub answered {status} ({response.reason_phrase}). {AGAIN}")


def _is_there(operation: CommitOperationAdd, there: RepoFile | None) -> bool:
    """Whether the repository already holds the file with these contents."""
    if there is None or there.size != operation.upload_info.size:
        return False
    if there.lfs:
        return there.lfs.sha256 == operation.upload_info.sha256.hex()
    with operation.as_file() as file:
        return there.blob_id == git_hash(file.read())
