"""What a trained model was shown travels with it, so that it is shown the same again: slices, target and prompt."""

import dataclasses
import json
from pathlib import Path

from transformers.utils import cached_file

from ct_rate_pairs.rows import RowReader


FILE = "row_settings.json"
_OF_THE_VOLUME = ("num_slices", "spacing", "window", "z_range")
_OF_THE_TEXT = ("target", "prompt", "prompt_metadata")
_OF_THE_TASK = {
    "report": (),
    "vqa": ("task", "questions_per_volume", "question_types"),
    "matching": ("task", "options", "num_false", "difficulty"),
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
    """
    path = cached_file(name_or_path, FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text()) if path else {}
