"""
A finished run -> a repository on the Hub: `python -m ct_rate_pairs.hub.publish RUN_DIR REPO_ID`.

The guard looks at the files first. Then come the weights with all that belongs to them in one commit, the card in the
next, and the tag last: a repository without a card is not whole yet, and the same call completes it.

Trainer's own `push_to_hub` must stay off: it uploads the folder as it is, with the token in `training_args.bin` and
the reference reports in `samples/`. [`take_over_push`] turns it into this module's.
"""

import argparse
import shlex
import sys
from fnmatch import fnmatch
from pathlib import Path

import yaml
from huggingface_hub import ModelCard, get_token
from transformers import TrainingArguments

from .card import THIS_FOLDER
from .guard import ALLOWED, CARD, ForbiddenContentError, publishable_files
from .repository import HubRepository, PublishError


OURS = (*ALLOWED, "figures/*")  # what an earlier publication may have put there


def publish(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    tag: str | None = None,
    collection: str | None = None,
    token: str | None = None,
) -> str:
    """
    Publishes a run: weights or adapter, processor, settings, results, predictions, figures and card.

    Args:
        run_dir (`str` or `Path`):
            Folder of a finished run, with its card (`README.md`); see
            [`~ct_rate_pairs.hub.guard.publishable_files`] for what goes up.
        repo_id (`str`):
            `USER/NAME` on the Hub, or a name of the token's own user. Made where there is none.
        private (`bool`, *optional*, defaults to `False`):
            Makes it private from the first call on. One that is there and public is refused.
        revision (`str`, *optional*, defaults to `"main"`):
            Branch, for a variant such as `"heter"`. Made where there is none.
        tag (`str`, *optional*):
            Tag for the whole publication.
        collection (`str`, *optional*):
            Title of a collection to add the repository to, made where there is none, or the slug of one.
        token (`str`, *optional*):
            Token with the right to write; the one of `hf auth login` by default.

    Returns:
        `str`: the publication's address.

    Raises:
        [`ForbiddenContentError`]: if the folder holds what must not be published; nothing is uploaded then.
        [`PublishError`]: if it is not the folder of a finished run, the tag is on another state (nothing is uploaded
            in these cases, either), or the Hub refuses.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "README.md").is_file():
        raise PublishError(f"{run_dir} has no README.md: the recipe writes it when a run is finished.")
    card = _read_card(run_dir)
    files = publishable_files(run_dir, phantom="phantom" in (card.data.tags or ()), token=token or get_token())
    if not any(file.endswith(".safetensors") for file in files):
        raise PublishError(f"{run_dir} has neither model.safetensors nor adapter_model.safetensors: no trained model.")
    hub = HubRepository(repo_id, private=private, revision=revision, token=token)
    slug = hub.find_collection(collection, private) if collection else None
    contents: dict[str, Path | bytes] = {file: run_dir / file for file in files}
    address = f'model_id, revision = "{hub.repo_id}", "{tag or revision}"'
    contents["README.md"] = card.content.replace(THIS_FOLDER, address).encode()
    last = [file for file in files if any(fnmatch(file, pattern) for pattern in CARD)]
    hub.upload(contents, last, OURS, tag)
    if slug:
        hub.collect(slug)
    return f"{hub.url}/tree/{tag or revision}"


def _read_card(run_dir: Path) -> ModelCard:
    try:
        return ModelCard.load(run_dir / "README.md")
    except (yaml.YAMLError, ValueError) as error:
        raise PublishError(f"{run_dir / 'README.md'}: its metadata cannot be read ({error}). Correct them.") from error


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


def main() -> None:
    parser = argparse.ArgumentParser("python -m ct_rate_pairs.hub.publish", description="Publish a finished run.")
    parser.add_argument("run_dir", type=Path, help="folder of the run")
    parser.add_argument("repo_id", help="USER/NAME on the Hub; made where there is none")
    parser.add_argument("--private", action="store_true", help="make the repository private from the first call on")
    parser.add_argument("--revision", default="main", help="branch, for a variant such as heter")
    parser.add_argument("--tag", help="tag for the whole publication, such as v1")
    parser.add_argument("--collection", metavar="TITLE", help="collection to add it to, by its title or slug")
    try:
        print(publish(**vars(parser.parse_args())))
    except (ForbiddenContentError, PublishError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
