"""
How the training rows of a model were made (slices, target and prompt) and its tasks, so that the model is always shown
the same kind of rows.

These settings travel in four places. `row_settings.json` stands beside each saved model. The configuration of a whole
model holds a copy (`config.json`), and so does the metadata of an adapter's weights: both stay with the model if only
some of its files are copied. The processor holds a copy for an adapter that another program has merged.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from datasets import Dataset, IterableDataset
from pydantic import Field, create_model
from safetensors import safe_open

from ct_rate_pairs.builder import readers_of_stream
from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.json_files import JSONFileError, check_json, parse_json, read_json
from ct_rate_pairs.json_schemas.adapter import AdapterConfig
from ct_rate_pairs.json_schemas.model_folder import ModelConfig, ProcessorConfig
from ct_rate_pairs.json_schemas.schema import Schema
from ct_rate_pairs.readers import has_reader, reader_of
from ct_rate_pairs.rows import RowReader
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.tasks.report import ReportOptions
from ct_rate_pairs.volumes.settings import OF_TRAINING, VolumeSettings
from ct_rate_pairs.whole_files import whole_file, write_whole

from .hub_files import ADAPTER, base_of, find_file


FILE = "row_settings.json"
KEY = "ct_rate_pairs"  # of the copy in `config.json`, and in the metadata of an adapter's weights
PROCESSOR = "processor_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
OF_THE_VOLUME = ("num_slices", "spacing", "window", "z_range", "slices")
_OF_THE_TEXT = tuple(option.name for option in fields(ReportOptions))
# What a model needs for one row, whatever its task is. A model without `findings_line` writes no such line, one
# without `slices` is shown even planes, and so on: they were trained before there was anything else.
_LATER = ("findings_line", "slices", "prompt_findings", "prompt_dropout")
_SHOWN = tuple(name for name in (*OF_THE_VOLUME, *_OF_THE_TEXT) if name not in _LATER)
# What is for training alone, and its value where a model is measured: if that is the split `train`, it has no cues and
# whole prompts, too.
_MEASURED = {"prompt_findings": False, "prompt_dropout": 0.0}
ROW_SETTINGS = {*OF_THE_VOLUME, "task", *(option.name for options in OPTIONS for option in fields(options))}
# Files of a model whose contents tell that it was trained by this package, and these contents.
TRACES = {
    "README.md": b"trained with `ct-rate-pairs`",
    "training_config.json": b'"negative_loss"',
    "environment.json": b'"ct-rate-pairs"',
    "trainer_state.json": b'"loss_pos"',  # logged by `NegativeSFTTrainer`
    "run.yaml": b"# The options of a run.",
    "training_args.bin": b"NegativeSFTConfig",  # a pickle, which is searched and never loaded
}

_DEFAULTS = {name: value for name, value in asdict(VolumeSettings()).items() if name in OF_THE_VOLUME}
_NOT_KNOWN = (
    f", so nobody knows which slices and which prompt it must be shown. Copy {FILE} from the folder of its run to it, "
    f"or write one by hand: {json.dumps(_DEFAULTS | asdict(ReportOptions()))} are the defaults."
)

logger = logging.getLogger(__name__)


class RowSettingsError(ValueError):
    """A model was trained by this package, but how its rows were made is missing or not clear."""


@dataclass(frozen=True)
class RowSettings:
    """
    How the training rows of a model were made.

    Args:
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)`.
        tasks (`tuple[str, ...]`, *optional*):
            Tasks that the model was trained on; `None` if that is not known.
    """

    options: dict
    tasks: tuple[str, ...] | None = None

    def content(self) -> dict:
        """The content of `row_settings.json`."""
        return json.loads(json.dumps(self.options | ({"tasks": self.tasks} if self.tasks else {})))

    def changes(self, options: Mapping) -> list[str]:
        """The settings that have another value in `options`, in words."""
        before, now = self.content(), json.loads(json.dumps(dict(options)))
        names = [name for name in before if name in now and name not in ("task", "tasks")]
        return [f"{name} {before[name]}, now {now[name]}" for name in names if before[name] != now[name]]


def row_settings(reader: RowReader) -> dict:
    """The options of `load_dataset("ct_rate_pairs", ...)` that decide what a model is shown and what it is asked."""
    volume, config = asdict(reader.source.settings), asdict(reader.config)
    if volume["slices"] in OF_TRAINING:
        volume["slices"] = "uniform"
    names = list(_OF_THE_TEXT)
    if config["task"] != "report":
        own = TASKS[config["task"]].Options
        names += ["task", *(option.name for option in fields(own))] if own else ["task"]
    return {name: volume[name] for name in OF_THE_VOLUME} | {name: config[name] for name in names}


def settings_of(readers: Sequence[RowReader]) -> RowSettings:
    """
    The settings of a model that is trained on the rows of some readers.

    Args:
        readers (`Sequence[RowReader]`):
            Reader of the training rows of each task, see [`~ct_rate_pairs.readers.reader_of`]. If there are several
            tasks, options that all tasks have are those of the first task. `task` is an option only if `"report"`, the
            default of the dataset, is not among the tasks.
    """
    options: dict = {}
    for reader in reversed(readers):
        options |= row_settings(reader)
    tasks = tuple(reader.config.task for reader in readers)
    if "report" in tasks:
        options.pop("task", None)
    return RowSettings(options, tasks)


def settings_of_dataset(dataset: Dataset | IterableDataset) -> RowSettings | None:
    """
    The settings of a map-style dataset or a stream of `ct_rate_pairs`. `None` for other rows, and for a stream of
    parts that ask the same task with different settings.
    """
    if has_reader(dataset):
        return settings_of([reader_of(dataset)])
    readers = readers_of_stream(dataset) if isinstance(dataset, IterableDataset) else []
    by_task = {reader.config.task: reader for reader in readers}
    if any(row_settings(reader) != row_settings(by_task[reader.config.task]) for reader in readers):
        return None
    return settings_of(list(by_task.values())) if by_task else None


def has_findings_line(rows: object) -> bool:
    """
    Whether the completions of rows open with a findings line, and so the texts of a model that is shown its own
    settings. Rows that do not tell their settings, such as a list, count as rows without a line.
    """
    settings = settings_of_dataset(rows) if isinstance(rows, Dataset | IterableDataset) else None
    return settings is not None and settings.options["findings_line"] != "none"


def save_row_settings(readers: Sequence[RowReader], folder: str | Path) -> None:
    """
    Writes `row_settings.json` beside a model.

    Args:
        readers (`Sequence[RowReader]`):
            Reader of the training rows of each task, see [`settings_of`].
        folder (`str` or `Path`):
            Folder of the model.
    """
    write_row_settings(settings_of(readers), folder)


def write_row_settings(settings: RowSettings | None, folder: str | Path) -> None:
    """
    Writes the settings of a model to its saved files: to `row_settings.json`, and to the weights if it is an adapter.

    Without settings, an adapter is only marked as trained by this package.
    """
    content, weights = settings.content() if settings else None, Path(folder, ADAPTER_WEIGHTS)
    Path(folder).mkdir(parents=True, exist_ok=True)  # FSDP may save its shards later
    if content:
        write_whole(Path(folder, FILE), json.dumps(content, indent=2) + "\n")
    if weights.is_file():
        _add_metadata(weights, {KEY: json.dumps(content)})


def _add_metadata(weights: Path, added: Mapping[str, str]) -> None:
    """Adds metadata to a file of safetensors, sorted: safetensors writes them in another order in each process."""
    with whole_file(weights) as part, weights.open("rb") as file, part.open("wb") as copy:
        header = parse_json(file.read(int.from_bytes(file.read(8), "little")), weights)
        header["__metadata__"] = dict(sorted((header.get("__metadata__", {}) | added).items()))
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        written += b" " * (-len(written) % 8)  # the tensors begin at a multiple of 8 bytes
        copy.write(len(written).to_bytes(8, "little") + written)
        shutil.copyfileobj(file, copy)


def read_row_settings(name_or_path: str, revision: str | None = None) -> dict:
    """
    Reads the options of `load_dataset("ct_rate_pairs", ...)` that a model was trained with. If the model has none, it
    is told what is assumed.

    Args:
        name_or_path (`str`):
            Folder of the model, or its name on the Hub.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.

    Returns:
        `dict`: the options; empty for a model that was not trained here.

    Raises:
        `OSError`: if it is unknown whether the model has such options, see
            [`~ct_rate_pairs.trainer.hub_files.find_file`].
        [`RowSettingsError`]: see [`find_row_settings`].
    """
    found = find_row_settings(name_or_path, revision) or RowSettings({})
    tell_assumed(name_or_path, found.options)
    return found.options


def options_to_show(name_or_path: str, revision: str | None, given: Mapping, task: str) -> dict:
    """
    The options of `load_dataset("ct_rate_pairs", ...)` to measure a model with: those of its training, overridden by
    `given`. Overridden and assumed options are told, and so is a task that the model was not trained on.

    Args:
        name_or_path (`str`), revision (`str`, *optional*):
            The model, as for [`read_row_settings`], which also names the errors.
        given (`Mapping`):
            Options that the user gave.
        task (`str`):
            Task to measure.

    Returns:
        `dict`: the options, `given` included, and without those that are for training alone.
    """
    found = find_row_settings(name_or_path, revision) or RowSettings({})
    tell_assumed(name_or_path, found.options | dict(given))
    if changes := found.changes(given):
        logger.warning("%s is shown other rows than in its training: %s.", name_or_path, "; ".join(changes))
    if found.tasks and task not in found.tasks:
        logger.warning("%s was trained on %s, and not on %s.", name_or_path, " and ".join(found.tasks), task)
    return found.options | dict(given) | {name: _MEASURED[name] for name in _MEASURED.keys() & found.options.keys()}


def assumed_settings(options: Mapping, settings: Sequence[str] = _SHOWN) -> str:
    """The `settings` that are the dataset's defaults because `options` does not have them, in words; `""` if none."""
    defaults = asdict(VolumeSettings()) | asdict(ReportOptions())
    return ", ".join(f"{setting}={defaults[setting]}" for setting in settings if setting not in options)


def tell_assumed(name: str, options: Mapping, settings: Sequence[str] = _SHOWN) -> None:
    """Warns of [`assumed_settings`], which neither the model nor the user gave."""
    if assumed := assumed_settings(options, settings):
        logger.warning(
            "%s does not tell all settings of its rows, as %s does for what is trained here. Assumed: %s. If this "
            "is wrong, give the right values: as options of `evaluate` and `evaluate-task`, or in a %s beside the "
            "model.",
            name,
            FILE,
            assumed,
            FILE,
        )


def find_row_settings(name_or_path: str, revision: str | None = None) -> RowSettings | None:
    """
    Finds how the training rows of a model were made.

    They are searched in `row_settings.json`, in the copies that the module describes, for a checkpoint in the folder
    of its run, and for an adapter that was not trained here in its base model. It is told if they are not those of the
    weights.

    Args:
        name_or_path (`str`), revision (`str`, *optional*):
            The model, as for [`read_row_settings`].

    Returns:
        [`RowSettings`] or `None`: the settings; `None` for a model that was not trained here.

    Raises:
        `OSError`: as [`read_row_settings`].
        [`RowSettingsError`]: if the model was trained here and the settings are missing, if two copies of them
            disagree, or if they cannot be read.
    """
    path, folder = find_file(name_or_path, FILE, revision), Path(name_or_path)
    copies = {str(path): checked_settings(_read_json(path), path)} if path else {}
    marked, copy, place = _find_copy(name_or_path, revision)
    if copy:
        copies[place] = copy
    processor = _find_known(name_or_path, PROCESSOR, revision)
    config = read_json(processor, ProcessorConfig) if processor else {}
    if of_processor := config.get("image_processor", {}).get(KEY):
        if not copies:
            logger.warning("%s has no %s: the settings in its %s are taken.", name_or_path, FILE, PROCESSOR)
        copies[PROCESSOR] = checked_settings(of_processor, processor)
    if copies:
        return _agreed(name_or_path, copies)
    parent = folder.resolve().parent / FILE
    if folder.name.startswith("checkpoint-") and parent.is_file():
        logger.warning("%s has no %s of its own: %s is taken, that of its run.", name_or_path, FILE, parent)
        return _agreed(name_or_path, {str(parent): checked_settings(_read_json(parent), parent)})
    if trace := place if marked else _trace(name_or_path, revision):
        raise RowSettingsError(
            f"{name_or_path} was trained by ct-rate-pairs ({trace} tells so), but it has no {FILE}{_NOT_KNOWN}"
        )
    adapter = _find_adapter(name_or_path, revision)
    base = base_of(adapter, name_or_path) if adapter else None
    base_revision = read_json(adapter, AdapterConfig).get("revision") if adapter else None
    if base and (of_base := find_row_settings(base, base_revision)):
        logger.warning("The adapter %s has no %s: that of its base %s is taken.", name_or_path, FILE, base)
        return of_base
    return None


def _agreed(name_or_path: str, copies: Mapping[str, RowSettings]) -> RowSettings:
    """
    The settings in the copies of a model, by the places of the copies. What one copy lacks is taken from the next one.

    Raises:
        [`RowSettingsError`]: if two copies disagree, or if none has a setting of the slices or the text.
    """
    for (first, one), (second, other) in combinations(copies.items(), 2):
        changes = one.changes(other.content())
        if one.tasks and other.tasks and set(one.tasks) != set(other.tasks):
            changes.append(f"tasks {' and '.join(one.tasks)}, now {' and '.join(other.tasks)}")
        if changes:
            raise RowSettingsError(
                f"{first} and {second} disagree about the training of {name_or_path}: {'; '.join(changes)}. Keep the "
                f"one that is right: put the {FILE} of the run beside the model, and remove the key {KEY} from a file "
                "that is wrong."
            )
    options: dict = {}
    for copy in reversed(copies.values()):
        options |= copy.options
    if not options.keys() & set(_SHOWN):
        raise RowSettingsError(f"{' and '.join(copies)} of {name_or_path}: there is no setting of slices{_NOT_KNOWN}")
    return RowSettings(options, next((copy.tasks for copy in copies.values() if copy.tasks), None))


def _find_copy(name_or_path: str, revision: str | None) -> tuple[bool, RowSettings | None, str]:
    """Whether a model is marked as trained here, the copy of its settings with the mark, and where the mark stands."""
    if _find_adapter(name_or_path, revision):
        place, weights = ADAPTER_WEIGHTS, find_file(name_or_path, ADAPTER_WEIGHTS, revision)
        if weights is None:
            return False, None, place
        with safe_open(weights, "pt") as file:
            marks = file.metadata() or {}
        content = parse_json(marks.get(KEY, "null"), place)
    else:
        place, config = "config.json", find_file(name_or_path, "config.json", revision)
        marks = read_json(config, ModelConfig) if config else {}
        content = marks.get(KEY)
    return KEY in marks, checked_settings(content, place) if content else None, place


def _find_adapter(name_or_path: str, revision: str | None) -> Path | None:
    """`adapter_config.json` of an adapter. On the Hub, transformers loads the adapter also beside a `config.json`."""
    if not Path(name_or_path).is_dir() and find_file(name_or_path, "config.json", revision):
        return _find_known(name_or_path, ADAPTER, revision)
    return find_file(name_or_path, ADAPTER, revision)


def _trace(name_or_path: str, revision: str | None) -> str | None:
    """The file that tells that a model was trained by this package, if there is one."""
    for file, content in TRACES.items():
        path = _find_known(name_or_path, file, revision)
        if path and content in path.read_bytes():
            return file
    return None


def _find_known(name_or_path: str, file: str, revision: str | None) -> Path | None:
    """A file of a model. Offline, nobody may know whether the Hub has such a file: then it tells nothing."""
    with contextlib.suppress(OSError):
        return find_file(name_or_path, file, revision)
    return None


def _read_json(path: Path) -> Any:
    """The contents of a JSON file; raises a [`RowSettingsError`] if it is not JSON."""
    try:
        return read_json(path)
    except JSONFileError as error:
        raise RowSettingsError(f"{error} The folder of the run has a copy.") from error


def checked_settings(content: Any, place: str | Path) -> RowSettings:
    """
    The settings in the content of `row_settings.json`, which may come from anybody: they have the names, types and
    values that the options of the dataset may have, and no other option of `load_dataset`.

    Raises:
        [`RowSettingsError`]: for the first setting that is none, or has a value that it must not have.
    """
    names = set(content) if isinstance(content, dict) else set()
    if unknown := sorted(names - {*ROW_SETTINGS, "tasks"}):
        raise RowSettingsError(
            f"{place} has the setting {unknown[0]!r:.80}, which this version of ct-rate-pairs does not know. Update "
            "ct-rate-pairs: the model would be shown other rows than those of its training."
        )
    try:
        options = dict(check_json(content, _schema(), place))
        tasks = options.pop("tasks", None) or ([options["task"]] if "task" in options else None)
        CTRatePairsConfig(**options)
    except ValueError as error:
        raise RowSettingsError(f"{place}: {str(error).removeprefix(f'{place}: ')}") from error
    return RowSettings(options, tuple(tasks) if tasks else None)


@cache
def _schema() -> type[Schema]:
    """The types of the settings: those of the options of volumes and tasks, and of `tasks`."""
    hints = {name: hint for options in (VolumeSettings, *OPTIONS) for name, hint in get_type_hints(options).items()}
    task = Literal[tuple(TASKS)]
    hints |= {"task": task, "tasks": Annotated[list[task], Field(min_length=1, max_length=len(TASKS))]}
    fields_of = {name: (hints[name], Field(default=None)) for name in (*ROW_SETTINGS, "tasks")}
    return create_model("RowSettings", __base__=Schema, **fields_of)
