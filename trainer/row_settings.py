"""
Saves, beside a trained model, how its training rows were made (slices, target and prompt), so that the model is always
shown the same kind of rows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.tasks.report import ReportOptions

from .hub_files import find_file


FILE = "row_settings.json"
_OF_THE_VOLUME = ("num_slices", "spacing", "window", "z_range")
_OF_THE_TEXT = tuple(option.name for option in fields(ReportOptions))
ROW_SETTINGS = {*_OF_THE_VOLUME, "task", *(option.name for options in OPTIONS for option in fields(options))}


def row_settings(reader: RowReader) -> dict:
    """The options of `load_dataset("ct_rate_pairs", ...)` that decide what a model is shown and what it is asked."""
    volume, config = asdict(reader.source.settings), asdict(reader.config)
    names = list(_OF_THE_TEXT)
    if config["task"] != "report":
        own = TASKS[config["task"]].Options
        names += ["task", *(option.name for option in fields(own))] if own else ["task"]
    return {name: volume[name] for name in _OF_THE_VOLUME} | {name: config[name] for name in names}


def save_row_settings(readers: Sequence[RowReader], folder: str | Path) -> None:
    """
    Writes `row_settings.json` beside a model.

    Args:
        readers (`Sequence[RowReader]`):
            Reader of the training rows of each task, see [`~ct_rate_pairs.readers.reader_of`]. If there are several
            tasks, options that all tasks have are those of the first task, and `task` is not saved.
        folder (`str` or `Path`):
            Folder of the model.
    """
    settings = {}
    for reader in reversed(readers):
        settings |= row_settings(reader)
    if len(readers) > 1:
        settings.pop("task", None)
    (Path(folder) / FILE).write_text(json.dumps(settings, indent=2) + "\n")


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
        `OSError`: if it is unknown whether the model has such options, see [`find_file`].
    """
    path = find_file(name_or_path, FILE, revision)
    return json.loads(path.read_text()) if path else {}
