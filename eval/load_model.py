"""A model by name, from a folder or the Hub: whole, or an adapter with its base."""

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from ct_rate_pairs.trainer import PairCollator


def load_model(
    name_or_path: str, revision: str | None = None, dtype: str = "auto", device: torch.device | str = "cpu"
) -> tuple[PreTrainedModel, PairCollator]:
    """
    Loads an image-text-to-text model of transformers for evaluation, and the collator that feeds it.

    Args:
        name_or_path (`str`):
            Folder, or name on the Hub. A folder with `adapter_config.json` is an adapter: its base is loaded first, by
            the name that the adapter keeps.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Type of the weights, such as `"bfloat16"`; `"auto"` is what they were saved in.
        device (`torch.device` or `str`, *optional*, defaults to `"cpu"`):
            Where the model goes.

    Returns:
        `tuple`: the model in evaluation mode, and its [`~ct_rate_pairs.trainer.PairCollator`].

    Raises:
        `OSError`: if there is no such model, as transformers words it. No code of the repository is ever run
        (`trust_remote_code` stays off).
    """
    model = AutoModelForImageTextToText.from_pretrained(name_or_path, revision=revision, dtype=dtype)
    processor = AutoProcessor.from_pretrained(name_or_path, revision=revision)
    return model.eval().to(device), PairCollator(processor)


def version_of(name_or_path: str, revision: str | None = None) -> str:
    """
    What tells two states of a model apart: the commit on the Hub, or when the weights of a folder were last written.

    Raises:
        `OSError`: if there is no such model.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return str(max((path.stat().st_mtime_ns for path in folder.glob("*.safetensors")), default=0))
    for file in ("adapter_config.json", "config.json"):
        path = cached_file(name_or_path, file, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path:
            return extract_commit_hash(path, None)
    raise OSError(f"{name_or_path} is neither a folder nor a model on the Hub: it has no config.json.")
