"""What a trained model was shown travels with it, so that it is shown the same again: slices, target and prompt."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.rows import RowReader

from .hub_files import find_file


def save_mixed_row_settings(readers: Sequence[RowReader], folder: str | Path) -> None:
    """
    Writes one `row_settings.json` for several tasks, as [`~ct_rate_pairs.trainer.save_row_settings`] does for one.

    Args:
        readers (`Sequence[RowReader]`):
            What the rows of each task were read with. What they share is the first one's; `task` is left open.
        folder (`str` or `Path`):
            The model's folder.
    """
    settings = {}
    for reader in reversed(readers):
        settings |= row_settings(reader)
    settings.pop("task", None)
    (Path(folder) / FILE).write_text(json.dumps(settings, indent=2) + "\n")


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
