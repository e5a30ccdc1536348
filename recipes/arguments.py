"""
The options that several recipes have. Each option has the same name in all recipes, as in TRL and transformers.

This file does not import torch, so that `--help` and a mistyped option answer at once.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ct_rate_pairs.command_line import help_of
from ct_rate_pairs.config import LABEL_DISTANCE, NEGATIVES, PARTNER_SAMPLINGS
from ct_rate_pairs.number_ranges import COUNT, Range
from ct_rate_pairs.reports.prompt_lines import plain_metadata
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.tasks.report import ReportOptions
from ct_rate_pairs.volumes.settings import VolumeSettings, parse_window


LEVEL = Range(0, 1, above=True, below=True)  # of an interval


def if_given(name: str, *options: type, training: bool = False) -> type:
    """
    A dataclass with the fields of `options`, each `None` by default. If an option is not given, the setting of the
    model's training is used, or the default of the dataset. With `training`, the fields are those that are for
    training alone, and otherwise all others.
    """
    return make_dataclass(
        name,
        [
            (option.name, _parsed_as(option) | None, field(default=None, metadata=_described(option)))
            for of in options
            for option in fields(of)
            if option.metadata.get("training", False) == training
        ],
    )


def _described(option: Field) -> dict:
    """The help text of an option, and its choices and its range if it has some."""
    told = {name: option.metadata[name] for name in ("choices", "range") if option.metadata.get(name)}
    return {"help": help_of(option), **told}


def _parsed_as(option: Field) -> type:
    """The type that the parser needs for an option: a list for a tuple and for a window."""
    if option.metadata.get("words"):
        return list[str]
    return list[get_args(option.type)[0]] if isinstance(option.default, tuple) else option.type


def parse_metadata(words: bool | str | Sequence[str]) -> bool | tuple[str, ...]:
    """The option `prompt_metadata` of a command line or a config, where `true` and `false` may be words."""
    words = words.split() if isinstance(words, str) else words
    if not isinstance(words, bool) and len(words) == 1:
        words = {"true": True, "false": False}.get(words[0], words)
    return plain_metadata(words)


_Volume = if_given("_Volume", VolumeSettings)
_Text = if_given("_Text", ReportOptions)
TrainingTextArguments = if_given("TrainingTextArguments", ReportOptions, training=True)
_Task = if_given("_Task", *(options for options in OPTIONS if options is not ReportOptions))


@dataclass
class ScanArguments(_Text, _Volume):
    """The scans, and what is read of each scan."""

    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with CT-RATE, a phantom cohort, a prepared copy or a table of own scans, or such a table; "
            "CT-RATE on the Hub by default."
        },
    )
    on_error: str = field(
        default="raise",
        metadata={
            "choices": ("raise", "skip"),
            "help": "For volumes that cannot be read: raise, or skip (leave them out, and list them).",
        },
    )

    def __post_init__(self):
        """Parses the window, and what prompts tell."""
        if self.window is not None:
            self.window = parse_window(self.window)
        if self.prompt_metadata is not None:
            self.prompt_metadata = parse_metadata(self.prompt_metadata)

    def dataset_options(self) -> dict:
        """The arguments that were given, for `load_dataset("ct_rate_pairs", ...)`."""
        return self.given(ScanArguments)

    def given(self, arguments: type) -> dict:
        """The fields of a class of arguments that were given."""
        named = {option.name: getattr(self, option.name) for option in fields(arguments)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass
class DataArguments(ScanArguments):
    """The scans, and their negatives."""

    negative: str = field(default="heter", metadata={"choices": NEGATIVES, "help": "Negative partner."})
    min_label_distance: int = field(
        default=10,
        metadata={"range": LABEL_DISTANCE, "help": "Minimum number of labels in which a heter partner differs."},
    )
    max_label_distance: int = field(
        default=3,
        metadata={"range": LABEL_DISTANCE, "help": "Maximum number of labels in which a hard partner differs."},
    )
    partner_sampling: str = field(
        default="uniform",
        metadata={
            "choices": PARTNER_SAMPLINGS,
            "help": "How partners are drawn; uniform: as in the paper. mutual: among the volumes of the batch.",
        },
    )

    def dataset_options(self) -> dict:
        """The arguments that were given, with those of the negatives, for `load_dataset("ct_rate_pairs", ...)`."""
        return self.given(DataArguments)

    def idle_negatives(self) -> dict[str, str]:
        """The options of negatives without effect, and why."""
        used = {
            "heter": ("min_label_distance", "partner_sampling"),
            "hard": ("max_label_distance", "partner_sampling"),
        }
        options = ("min_label_distance", "max_label_distance", "partner_sampling")
        names = [name for name in options if name not in used.get(self.negative, ())]
        return dict.fromkeys(names, f"negative={self.negative} does not use it")


@dataclass
class TaskArguments(_Task, ScanArguments):
    """The scans, and the task."""

    task: str = field(default="report", metadata={"choices": tuple(TASKS), "help": "Task of the rows."})

    def dataset_options(self) -> dict:
        """The arguments that were given, with those of the task, for `load_dataset("ct_rate_pairs", ...)`."""
        return self.given(TaskArguments)

    @staticmethod
    def idle_tasks(tasks: Iterable[str]) -> dict[str, str]:
        """The options of other tasks than `tasks`, which have no effect, and why."""
        used = {option.name for task in tasks if TASKS[task].Options for option in fields(TASKS[task].Options)}
        options = [option.name for of in OPTIONS if of is not ReportOptions for option in fields(of)]
        if "report" not in tasks:  # of the options that all tasks have, these are of reports alone
            options += ["findings_line", "prompt_findings"]
        return dict.fromkeys((name for name in options if name not in used), f"the task is {' and '.join(tasks)}")


def scans_to_measure(default: int) -> Any:
    """The option `max_eval_samples`."""
    told = "Number of scans to measure on, the first ones of the split; 0: all."
    return field(default=default, metadata={"help": told})


def longest_text(default: int) -> Any:
    """The option `max_new_tokens`."""
    told = "Maximum length of a generated report or answer in tokens."
    return field(default=default, metadata={"range": COUNT, "help": told})


def check_made_by(made_by: str) -> None:
    """Raises a `ValueError` unless the option `made_by` has the name of a model and its commit."""
    if not re.fullmatch(r"[^@\s]+@[0-9A-Za-z._-]+", made_by):
        raise ValueError(
            f"--made_by {made_by}: give the model and the commit or version of its weights as NAME@COMMIT, such as "
            "M3D-LaMed-Phi-3-4B@0a1b2c3."
        )


@dataclass
class SharedScansArguments:
    """The scans that other runs have, too."""

    scans_of: list[str] = field(
        default_factory=list,
        metadata={"help": "Runs, or files of predictions: only scans that all of them have a report of are measured."},
    )


@dataclass
class SplitArguments:
    """The scans to measure on."""

    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "Split to measure on; test is CT-RATE's validation set."}
    )
    ci: float = field(
        default=0.95,
        metadata={"range": LEVEL, "help": "Level of the bootstrap intervals, which resample patients."},
    )


@dataclass
class TrainingRunArguments:
    """What a training measures while it runs and at its end."""

    validation_scans: int = field(
        default=64,
        metadata={"help": "Rows of the validation split to evaluate checkpoints on, with an `eval_strategy`; 0: all."},
    )
    confidence_scans: int = field(
        default=0,
        metadata={"help": "Scans of the validation split to fit the confidences of findings on; 0: none."},
    )
    operating_point: str = field(
        default="none",
        metadata={
            "help": "Sets the findings lines of the reports by their probabilities, and is then the default of the "
            "model: f1, or a sensitivity such as 0.9. none: the model decides."
        },
    )
    max_eval_samples: int = scans_to_measure(200)  # of the split `test`
    max_new_tokens: int = longest_text(1200)

    def point(self) -> str | float | None:
        """The operating point, parsed; `None` if the model decides. Raises a `ValueError` for other words."""
        from ct_rate_pairs.eval.scoring.operating_points import read_operating_point

        return read_operating_point(self.operating_point)

    def card_options(self) -> dict:
        """What the model card tells of the training besides its configuration."""
        raise NotImplementedError


@dataclass
class ScoringArguments:
    """How reports are scored."""

    recipe: str = field(
        default="lower",
        metadata={
            "choices": ("lower", "vlm3d", "zh"),
            "help": "Recipe of the text metrics; vlm3d: as in the challenge; zh: as sacrebleu splits Chinese.",
        },
    )
    labeler: str = field(
        default="rules", metadata={"help": "Labeler of generated reports: rules, or radbert:CHECKPOINT."}
    )
    meteor: bool = field(default=False, metadata={"help": "Compute METEOR too; METEOR needs pycocoevalcap and Java."})
    bertscore_model: str | None = field(
        default=None, metadata={"help": "Encoder for BERTScore: name on the Hub, or folder."}
    )


@dataclass
class ChatArguments:
    """How the model is asked, besides the prompt."""

    chat_template_kwargs: dict | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of the chat template, as JSON. By default those of the training, or for a thinking "
            'model {"enable_thinking": false}; {} leaves all to the template.'
        },
    )

    def template_kwargs(self) -> dict | None:
        """The arguments of the chat template, parsed; `None` if they were not given."""
        try:
            kwargs = self.chat_template_kwargs
            kwargs = json.loads(kwargs) if isinstance(kwargs, str) else kwargs
        except json.JSONDecodeError as error:
            raise ValueError(f"chat_template_kwargs: {self.chat_template_kwargs!r} is not JSON ({error}).") from error
        if not isinstance(kwargs, dict | None):
            raise ValueError(f"chat_template_kwargs: {kwargs!r} is no JSON object of names and values.")
        return kwargs


@dataclass
class ModelArguments(ChatArguments):
    """The model to measure."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model or adapter: folder, or name on the Hub."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."}
    )
    dtype: str = field(default="auto", metadata={"help": "Data type of the weights; auto: as saved."})
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder to write to; by default evaluation/ in the model's folder, or runs/USER-MODEL."},
    )
    per_device_eval_batch_size: int = field(
        default=8, metadata={"range": COUNT, "help": "Scans or questions per batch."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of negatives, noise, questions, options, errors and swaps."})

    def idle_revision(self) -> dict[str, str]:
        """`model_revision`, if the model is a folder, and why it has no effect."""
        is_folder = self.model_name_or_path and Path(self.model_name_or_path).is_dir()
        return {"model_revision": "a folder has no revisions"} if is_folder else {}

    def evaluation_folder(self, is_folder: bool, *parts: str) -> Path:
        """The folder of the results: a subfolder of the model's folder, so that no file of the run is overwritten."""
        if self.output_dir:
            return Path(self.output_dir)
        if is_folder:
            return Path(self.model_name_or_path, "evaluation", *parts)
        revision = f"-{self.model_revision}" if self.model_revision else ""
        return Path("runs", self.model_name_or_path.replace("/", "-").replace(":", "-") + revision, *parts)
