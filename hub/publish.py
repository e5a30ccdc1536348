"""
Publishes a finished run on the Hub: `ct-rate-pairs publish RUN_DIR REPO_ID`.

The guard checks the files first. The first commit then holds the weights and all other files, the second commit adds
the card, and the tag comes last. So a repository without a card is incomplete, and the same call completes it.

Trainer's own `push_to_hub` must stay off. It uploads the whole folder, with the token in `training_args.bin` and the
reference reports in `samples/`. [`~ct_rate_pairs.hub.checkpoints.take_over_push`] turns it off, and passes its options
to [`publish`].
"""

import errno
import shlex
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub import ModelCard, get_token

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.near_names import no_such

from .guard import ALLOWED, CARD, ROW_SETTINGS, publishable_files
from .publish_space import OURS as OF_SPACE
from .publish_space import space_files
from .repository import HubRepository, PublishError
from .rounded_weights import Weights, round_weights, saved_weights
from .templates import KEPT, MEASURED, ROUNDED, THIS_FOLDER


DTYPES = ("bfloat16", "float32")
OURS = (*ALLOWED, "figures/*")  # files that an earlier publication may have uploaded


def publish(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    tag: str | None = None,
    collection: str | None = None,
    token: str | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    space: str | None = None,
) -> str:
    """
    Publishes a run: weights or adapter, processor, settings, results, predictions, figures and card.

    Args:
        run_dir (`str` or `Path`):
            Folder of a finished run, with its card (`README.md`).
            [`~ct_rate_pairs.hub.guard.publishable_files`] chooses the files.
        repo_id (`str`):
            `USER/NAME` on the Hub, or a name alone for the token's own user. A missing repository is created.
        private (`bool`, *optional*, defaults to `False`):
            Creates the repository as private. An existing public repository is refused.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch, for a variant such as `"heter"`. A missing branch is created.
        tag (`str`, *optional*):
            Tag for the complete publication.
        collection (`str`, *optional*):
            Collection to add the repository to: the slug of a collection, or the title. A missing title is created.
        token (`str`, *optional*):
            Token with the right to write. Defaults to the token of `hf auth login`.
        dtype (`str`, *optional*, defaults to `"bfloat16"`):
            `"bfloat16"` rounds weights of 32 and 64 bits, also those of an adapter, in a temporary copy.
            `"float32"` publishes them as they are saved. Weights of 16 bits or fewer, and those of a quantized model,
            stay as they are with either.
        space (`str`, *optional*):
            `USER/NAME` of a Space for the page of the model, see [`~ct_rate_pairs.hub.publish_space`]. It shows this
            state of the model, and goes up last. It is private if the model is.

    Returns:
        `str`: address of the publication.

    Raises:
        [`~ct_rate_pairs.hub.guard.ForbiddenContentError`]: if the folder holds what must not be published. Nothing is
            then uploaded.
        [`PublishError`]: if the folder is not that of a finished run, or if the tag is on another state of the
            repository (nothing is then uploaded); if there is no room for a copy of the weights; or if the Hub refuses
            a request.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype cannot be {dtype!r:.80}. It is one of {', '.join(DTYPES)}.")
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise PublishError(no_such("folder", run_dir))
    if not (run_dir / "README.md").is_file():
        raise PublishError(f"{run_dir} has no README.md: the recipe writes it when a run is finished.")
    card = _read_card(run_dir)
    files = publishable_files(run_dir, token=token or get_token())
    if not any(file.endswith(".safetensors") for file in files):
        raise PublishError(f"{run_dir} has neither model.safetensors nor adapter_model.safetensors: no trained model.")
    if ROW_SETTINGS not in files:
        raise PublishError(
            f"{run_dir} has no {ROW_SETTINGS}, so nobody could show the model what it was trained on. Copy the file "
            "from the folder of the run, or from a checkpoint of it."
        )
    from ct_rate_pairs.trainer.row_settings import find_row_settings

    find_row_settings(str(run_dir))  # refuses copies of the settings that disagree
    hub = HubRepository(repo_id, private=private, revision=revision, token=token)
    page = HubRepository(space, kind="space", private=hub.private, token=token) if space else None
    slug = hub.find_collection(collection, private) if collection else None
    contents: dict[str, Path | bytes] = {file: run_dir / file for file in files}
    with tempfile.TemporaryDirectory(prefix="ct_rate_pairs_") as copies:
        weights = (
            _round_weights(run_dir, files, Path(copies)) if dtype == "bfloat16" else saved_weights(run_dir, files)
        )
        print(weights.describe(), file=sys.stderr)
        contents |= weights.rounded
        address = f'model_id, revision = "{hub.repo_id}", "{tag or revision}"'
        told = (ROUNDED if weights.rounded else KEPT).format(types=weights.types)
        contents["README.md"] = card.content.replace(THIS_FOLDER, address).replace(MEASURED, told).encode()
        last = [file for file in files if any(fnmatch(file, pattern) for pattern in CARD)]
        hub.upload(contents, last, OURS, tag)
    if slug:
        hub.collect(slug)
    if page:
        page.upload(space_files(hub.repo_id, hub.head()), last=["README.md"], ours=OF_SPACE)
        print(f"Its page is at {page.url}.", file=sys.stderr)
    return f"{hub.url}/tree/{tag or revision}"


def _round_weights(run_dir: Path, files: Sequence[str], copies: Path) -> Weights:
    """[`round_weights`], which tells what to do if there is no room for the copies."""
    try:
        return round_weights(run_dir, files, copies)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise PublishError(
            f"{copies.parent} has no room for a copy of the weights in bfloat16. Set TMPDIR to a folder with more "
            "room, or publish the weights as they are saved, with --dtype float32. Nothing was uploaded."
        ) from error


def _read_card(run_dir: Path) -> ModelCard:
    """The card of a run; raises a [`PublishError`] if its metadata cannot be read."""
    try:
        return ModelCard.load(run_dir / "README.md")
    except (yaml.YAMLError, ValueError) as error:
        raise PublishError(f"{run_dir / 'README.md'}: its metadata cannot be read ({error}). Correct them.") from error


def publish_or_tell_how(
    run_dir: str | Path, repo_id: str, *, private: bool = False, revision: str = "main", **options
) -> str:
    """
    Calls [`publish`] at the end of a run. If this fails, the error also gives the command to publish the run later.

    Raises:
        `Exception`: the error of [`publish`], with the command as its note.
    """
    command = ["ct-rate-pairs", "publish", str(run_dir), repo_id, *["--private"] * private]
    command += ["--revision", revision] if revision != "main" else []
    try:
        return publish(run_dir, repo_id, private=private, revision=revision, **options)
    except Exception as error:
        error.add_note(f"The run is finished, and whole in {run_dir}. To publish it later:\n    {shlex.join(command)}")
        raise


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs publish`."""
    parser = CommandParser("ct-rate-pairs publish", description="Publish a finished run.")
    add = parser.add_argument
    add("run_dir", type=Path, help="folder of the run")
    add("repo_id", help="USER/NAME on the Hub; created if there is none")
    add("--private", action="store_true", help="create the repository as private")
    add("--revision", default="main", help="branch, for a variant such as heter (default: %(default)s)")
    add("--tag", help="tag for the complete publication, such as v1")
    add("--collection", metavar="TITLE", help="collection to add the repository to, by title or slug")
    add(
        "--dtype",
        choices=DTYPES,
        default="bfloat16",
        help="bfloat16: weights are rounded to it in a copy; float32: they go up as they are saved "
        "(default: %(default)s)",
    )
    add("--space", metavar="USER/NAME", help="Space for the page of the model; created if there is none")
    args = vars(parser.parse_args(argv))
    print(publish(**args))


if __name__ == "__main__":
    run(main)
