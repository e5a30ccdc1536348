"""Finds a model, and a file that it may or may not have, in a folder or on the Hub."""

from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, HfApi, get_cached_repo_tree, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import validate_repo_id

from ct_rate_pairs.hub_errors import explain, is_refusal
from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.near_names import no_such


ADAPTER = "adapter_config.json"
CONFIGS = (ADAPTER, "config.json")  # one of them makes a folder a model


def check_name(name_or_path: str) -> None:
    """Raises a `FileNotFoundError` for what is neither a folder nor can be the name of a repository on the Hub."""
    if Path(name_or_path).is_dir():
        return
    try:
        validate_repo_id(name_or_path)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"{no_such('folder', name_or_path)} And it cannot be a name on the Hub, which is USER/NAME."
        ) from error


def base_of(adapter: Path, name_or_path: str) -> str | None:
    """
    The base model of an adapter, from its `adapter_config.json`.

    Raises:
        `ValueError`: if the configuration would load code, if an adapter from the Hub names a path of this machine, or
            if the base is an adapter.
    """
    base = read_json(adapter, AdapterConfig).get("base_model_name_or_path")
    if base and (base == name_or_path or (Path(base) / adapter.name).is_file()):
        raise ValueError(
            f"The base model of the adapter {name_or_path}, {base!r:.80}, is an adapter itself: merge that one into "
            f"its own base, and name the merged model in base_model_name_or_path of {adapter.name}."
        )
    if base and not Path(name_or_path).is_dir():
        try:
            validate_repo_id(base)
        except HFValidationError as error:
            raise ValueError(
                f"The adapter {name_or_path} on the Hub names {base!r:.80} as its base model, which is no name on the "
                "Hub. Download the adapter, and write the right base into base_model_name_or_path of its "
                f"{adapter.name}."
            ) from error
    return base


def not_readable(name_or_path: str, error: BaseException) -> str:
    """Why a model cannot be read: there is no folder of this name, and the Hub's answer is an error."""
    return f"{_no_folder(name_or_path)}{name_or_path} cannot be read from the Hub: {explain(error)}."


def is_model_folder(name_or_path: str) -> bool:
    """Whether this is a folder with a model or an adapter. Otherwise it can only be a name on the Hub."""
    return any((Path(name_or_path) / file).is_file() for file in CONFIGS)


def check_folder(folder: str) -> None:
    """Raises an `OSError` if a folder holds neither a model nor an adapter."""
    if not is_model_folder(folder):
        raise OSError(f"{folder} holds no model: it has neither {' nor '.join(CONFIGS)}.")


def commit_of(name_or_path: str, revision: str | None = None) -> str | None:
    """
    The commit that a branch or tag on the Hub points to now; `None` for a folder.

    Loading by commit keeps all files of a model consistent, even if somebody pushes to the branch in between.

    Raises:
        `OSError`: if there is no such model or revision, if the folder holds no model, or if the Hub does not answer
            and the cache has no copy.
    """
    if Path(name_or_path).is_dir():
        check_folder(name_or_path)
        return None
    check_name(name_or_path)
    try:
        return HfApi().resolve_revision(name_or_path, revision=revision).resolved
    except RevisionNotFoundError:
        raise
    except HfHubHTTPError as error:
        raise OSError(not_readable(name_or_path, error)) from error
    except RevisionResolutionError as error:
        told = not_readable(name_or_path, error.__cause__)
        raise OSError(f"{told} Nor is it in the cache. Try again when the Hub answers.") from error


def _no_folder(name_or_path: str) -> str:
    """That there is no such folder, for a name that may be a path: the folder above it exists, or a near one."""
    told = no_such("folder", name_or_path)
    return f"{told} " if Path(name_or_path).parent.is_dir() or told.endswith("meant?).") else ""


def find_file(name_or_path: str, file: str, revision: str | None = None) -> Path | None:
    """
    Finds a file that a model may or may not have.

    Args:
        name_or_path (`str`):
            Folder of the model, or its name on the Hub.
        file (`str`):
            Name of the file.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `Path` or `None`: the file, which is downloaded if it is not in the cache; `None` if the folder or the Hub has
        no such file. If the Hub cannot be reached, the cache may know that the Hub has no such file.

    Raises:
        `OSError`: if there is no such model or revision, if it may not be read, or if it is unknown whether the Hub
            has the file. To assume that there is no file would be wrong: a model without its settings would be shown
            other slices, and nobody would notice.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    check_name(name_or_path)
    try:
        return Path(hf_hub_download(name_or_path, file, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except RevisionNotFoundError as error:
        raise OSError(
            f"{revision} is not a valid git identifier of {name_or_path}: it has no such branch, tag or commit."
        ) from error
    except HfHubHTTPError as error:
        raise OSError(not_readable(name_or_path, error)) from error
    except LocalEntryNotFoundError as error:
        if _known_missing(name_or_path, file, revision):
            return None
        cause = error.__cause__
        remedy = "Try again when the Hub answers."
        if cause and is_refusal(cause):
            remedy = "Another try would not help: use another token, or give the folder of a downloaded model."
        raise OSError(
            f"{_no_folder(name_or_path)}Whether there is {file} in {name_or_path} is not known: neither the "
            f"Hub ({explain(cause) if cause else 'offline'}) nor the cache says so. {remedy}"
        ) from error


def _known_missing(repo_id: str, file: str, revision: str | None) -> bool:
    """Whether the cache knows, from an earlier request or a full download, that the Hub has no such file."""
    if try_to_load_from_cache(repo_id, file, revision=revision) is _CACHED_NO_EXIST:
        return True
    try:
        return file not in [entry.path for entry in get_cached_repo_tree(repo_id, revision=revision)]
    except CachedRepoTreeNotFoundError:
        return False
