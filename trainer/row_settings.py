"""What a trained model was shown travels with it, so that it is shown the same again: slices, target and prompt."""

import dataclasses
import json
from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, get_cached_repo_tree, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from ct_rate_pairs.rows import RowReader


FILE = "row_settings.json"
_OF_THE_VOLUME = ("num_slices", "spacing", "window", "z_range")
_OF_THE_TEXT = ("target", "prompt", "prompt_metadata")
_OF_THE_TASK = {
    "report": (),
    "vqa": ("task", "questions_per_volume", "question_types"),
    "matching": ("task", "options", "num_false", "difficulty"),
    "errors": ("task",),
}
ROW_SETTINGS = {*_OF_THE_VOLUME, *_OF_THE_TEXT, *_OF_THE_TASK["vqa"], *_OF_THE_TASK["matching"]}


def row_settings(reader: RowReader) -> dict:
    """The options of `load_dataset("ct_rate_pairs", ...)` that decide what a model is shown and asked for."""
    volume, text = dataclasses.asdict(reader.source.settings), dataclasses.asdict(reader.config)
    of_the_text = _OF_THE_TEXT + _OF_THE_TASK[text["task"]]
    return {name: volume[name] for name in _OF_THE_VOLUME} | {name: text[name] for name in of_the_text}


def save_row_settings(reader: RowReader, folder: str | Path) -> None:
    """
    Writes `row_settings.json` beside a model.

    Args:
        reader ([`~ct_rate_pairs.rows.RowReader`]):
            What the training rows were read with: the transform of the map-style dataset.
        folder (`str` or `Path`):
            The model's folder.
    """
    (Path(folder) / FILE).write_text(json.dumps(row_settings(reader), indent=2) + "\n")


def read_row_settings(name_or_path: str, revision: str | None = None) -> dict:
    """
    Reads the options of `load_dataset("ct_rate_pairs", ...)` that a model was trained with.

    Args:
        name_or_path (`str`):
            Folder of the model, or its name on the Hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `dict`: the options; empty for a model that was not trained here.

    Raises:
        `OSError`: if it cannot be known whether the model has any, see [`find_file`].
    """
    path = find_file(name_or_path, FILE, revision)
    return json.loads(path.read_text()) if path else {}


def find_file(name_or_path: str, file: str, revision: str | None = None) -> Path | None:
    """
    Finds a file that a model may have or not.

    Args:
        name_or_path (`str`):
            Folder of the model, or its name on the Hub.
        file (`str`):
            Name of the file.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `Path` or `None`: the file, downloaded where it was not in the cache; `None` where the folder, the Hub, or the
        cache of what the Hub once said has no such file.

    Raises:
        `OSError`: if there is no such model or revision, it may not be read, or the Hub does not say whether it has
            the file: a model without its settings would be shown other slices, and nobody would notice.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    try:
        return Path(hf_hub_download(name_or_path, file, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except RevisionNotFoundError as error:
        raise OSError(
            f"{revision} is not a valid git identifier of {name_or_path}: it has no such branch, tag or commit."
        ) from error
    except LocalEntryNotFoundError as error:
        if _known_missing(name_or_path, file, revision):
            return None
        raise OSError(
            f"Whether there is {file} in {name_or_path} is not known: neither the Hub "
            f"({error.__cause__ or 'offline'}) nor the cache says so. Try again when the Hub answers."
        ) from error


def _known_missing(repo_id: str, file: str, revision: str | None) -> bool:
    """Whether the cache knows that the Hub has no such file, from when it was asked for or all were downloaded."""
    if try_to_load_from_cache(repo_id, file, revision=revision) is _CACHED_NO_EXIST:
        return True
    try:
        return file not in [entry.path for entry in get_cached_repo_tree(repo_id, revision=revision)]
    except CachedRepoTreeNotFoundError:
        return False
