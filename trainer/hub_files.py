"""A file that a model may have or not, in a folder or on the Hub."""

from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, get_cached_repo_tree, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)


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
