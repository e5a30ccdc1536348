"""
The options of the recipes, given in a config or on the command line. Each option has the same name in all recipes, as
in TRL and transformers.

This file does not import torch, so that `--help` and a mistyped option answer at once.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from trl import TrlParser

from ct_rate_pairs.command_line import CommandParser, help_of, read_config
from ct_rate_pairs.config import LABEL_DISTANCE, NEGATIVES, PARTNER_SAMPLINGS
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT, SHARE, SIZE, Range
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.tasks.report import ReportOptions
from ct_rate_pairs.volumes.settings import VolumeSettings, parse_window


CONFIGS = Path(__file__).parent / "configs"
LEVEL = Range(0, 1, above=True, below=True)  # of an interval
# Names of options in earlier releases, and their names now.
OLD_NAMES = {
    "model": "model_name_or_path",
    "revision": "model_revision",
    "out": "output_dir",
    "scans": "max_eval_samples",
    "eval_scans": "max_eval_samples",
    "batch_size": "per_device_eval_batch_size",
    "num_workers": "dataloader_num_workers",
}
# The ranges of numbers in the dataclasses of the libraries, whose fields do not tell them. 0 or more for all others.
RANGES = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), COUNT),
    **dict.fromkeys(("gradient_accumulation_steps", "eval_accumulation_steps", "torch_empty_cache_steps"), COUNT),
    **dict.fromkeys(("dataloader_prefetch_factor", "ddp_timeout", "lora_r", "lora_alpha"), COUNT),
    **dict.fromkeys(("num_train_epochs", "logging_steps", "eval_steps", "save_steps"), SIZE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), Range(0, 1, below=True)),
    "label_smoothing_factor": SHARE,
    # `NegativeSFTConfig` refuses negative numbers itself, with the reason.
    **dict.fromkeys(("alpha", "beta", "negative_temperature"), Range(-math.inf)),
    "max_negative_loss": Range(-math.inf, endless=True),  # infinity is no cap
    **dict.fromkeys(("negative_start_ratio", "negative_warmup_ratio", "negative_share"), Range(-math.inf)),
    "global_batch_size": Range(-math.inf),
}


class RecipeParser(CommandParser, TrlParser):
    """
    Parses dataclasses of options from a config (`--config`) and the command line, which overrides it.

    Args:
        dataclass_types (`Sequence[type]`):
            Dataclasses whose fields are the options.
        prog (`str`), description (`str`):
            Name and description of the command in its help.
        old_names (`Mapping[str, str]`, *optional*, defaults to `OLD_NAMES`):
            Maps earlier names of options to their names now. Earlier names are accepted, with a notice.
    """

    def __init__(
        self, dataclass_types: Sequence[type], prog: str, description: str, old_names: Mapping[str, str] = OLD_NAMES
    ):
        """Adds `--config` to the options of the dataclasses."""
        super().__init__(dataclass_types=dataclass_types, prog=prog, description=description, old_names=old_names)
        self.add_argument("--config", metavar="FILE", help=f"YAML file of options, or the name of one in {CONFIGS}")
        self.defaults = {action.dest: action.default for action in self._actions}
        self.typed: set[str] = set()  # options of the command line
        self.config: Path | None = None
        self.configured: dict = {}  # options of the config
        self.values: dict = {}  # all options, as parsed: with them as its config, the command does the same again

    def parse(self, argv: Sequence[str], config: str | None = None) -> list:
        """
        Parses `argv` and the config that it names.

        Args:
            argv (`Sequence[str]`):
                Arguments of the command line.
            config (`str`, *optional*):
                Config to read if `argv` names none.

        Returns:
            `list`: one instance per dataclass.

        Raises:
            `ValueError`: for an invalid value of an option.
            `FileNotFoundError`: if there is no such config.
        """
        argv = [self.respell(argument) for argument in argv]
        named = [place for place, argument in enumerate(argv) if argument.split("=")[0] == "--config"]
        for place in reversed(named):
            config = argv[place].partition("=")[2] or (argv[place + 1] if place + 1 < len(argv) else None)
            if not config:
                self.error("--config needs a file.")
            del argv[place : place + (1 if "=" in argv[place] else 2)]
        options = [argument.split("=")[0] for argument in argv if argument.startswith("--")]
        self.typed = {
            self._option_string_actions[option].dest for option in options if option in self._option_string_actions
        }
        if config:
            path = find_config(config)
            content = {self.new_name(name): value for name, value in read_config(path).items()}
            if content.keys() >= {"state", "settings", "cohort"}:
                raise ValueError(
                    f"{path} is the record that a study keeps of a run: config.yaml beside it repeats it."
                )
            texts = {action.dest for action in self._actions if action.type is str}
            for name in texts & content.keys():  # YAML reads `model_revision: 1234567` as a number
                if type(content[name]) in (int, float):
                    content[name] = str(content[name])
            for name, value in content.items():
                self.check_configured(path, name, value)
            self.config, self.configured = path, content
            # As texts, numbers get the type of their option: argparse leaves those of a config as they are.
            numbers = {name: str(value) for name, value in content.items() if type(value) in (int, float)}
            if unknown := self.set_defaults_with_config(**content | numbers):
                self.refuse(unknown[0], where=f"{path}: ")
        parsed = self.parse_args_into_dataclasses(argv, look_for_args_file=False)
        return list(parsed[: len(self.dataclass_types)])  # without the other options, such as `--debug`

    def check_configured(self, path: Path, name: str, value: Any) -> None:
        """
        Raises a `ValueError` for a value of a config that the option cannot have. `argparse` checks texts alone, and
        no default for whether it is one of the choices.
        """
        action = next((action for action in self._actions if action.dest == name), None)
        if action is None or value == action.default:
            return
        # The annotation as it is written: `HfArgumentParser` changes the types of the fields.
        classes = [one for kind in self.dataclass_types for one in kind.__mro__]
        annotations = [vars(one).get("__annotations__", {}) for one in classes]
        kinds = next((str(named[name]) for named in annotations if name in named), "")
        parts = value if isinstance(value, list) else [value]
        fits = all(isinstance(part, str | bool | int | float | list) for part in parts)
        if isinstance(value, list):
            fits = fits and bool(action.nargs or "list" in kinds or "tuple" in kinds)
        elif isinstance(value, dict):
            fits = "dict" in kinds.lower()
        elif value is None:
            fits = "None" in kinds or "Optional" in kinds or self.defaults[name] is None
        elif "str" not in kinds and "bool" not in kinds and not isinstance(value, str):  # of a number
            fits = type(value) in (int, float) and ("float" in kinds or math.isfinite(value))
        elif isinstance(value, bool):
            fits = "bool" in kinds
        if fits and action.choices is not None and value is not None:
            fits = all(str(part) in map(str, action.choices) for part in parts)
        if not fits:
            among = f" It is one of {', '.join(map(str, action.choices))}." if action.choices else ""
            raise ValueError(f"{path}: the option {name} cannot be {value!r:.80}.{among} See {self.prog} --help.")

    def parse_known_args(self, args=None, namespace=None):
        """As in `argparse`. Keeps the values as they are before a dataclass changes them."""
        namespace, others = super().parse_known_args(args, namespace)
        self.values = dict(vars(namespace))
        return namespace, others

    def add_argument(self, *names, range: Range | None = None, **kwargs):
        """As in [`CommandParser`]. The options of the libraries have the ranges of `RANGES`."""
        return super().add_argument(*names, range=range or RANGES.get(names[0].removeprefix("--")), **kwargs)

    def told_as(self, name: str) -> str:
        """An option, as messages name it: with its config, if it comes from there."""
        return f"{self.config}: {name}" if name in self.configured.keys() - self.typed else f"--{name}"

    @property
    def given(self) -> set[str]:
        """Names of the options that the command line or the config gave."""
        return self.typed | self.configured.keys()

    def refuse_idle(self, idle: Mapping[str, str]) -> None:
        """
        Refuses options of the command line that have no effect.

        Args:
            idle (`Mapping[str, str]`):
                Maps each option without effect to the reason.

        Raises:
            `ValueError`: if the command line has such an option.
        """
        for name, reason in idle.items():
            if name in self.typed:
                raise ValueError(f"--{name} has no effect here: {reason}. Leave it out, or change the other option.")

    def keep_run(self, output_dir: str, resume: str | bool | None) -> None:
        """
        Keeps a training that is begun anew from the `run.yaml` of a run, or a copy of it, from overwriting that run.

        Args:
            output_dir (`str`):
                Folder of the training.
            resume (`str` or `bool`, *optional*):
                Checkpoint that the training goes on from.

        Raises:
            `ValueError`: if the folder holds the run of the config, with a model or checkpoints.
        """
        from ct_rate_pairs.trainer.run_record import read_run

        out = Path(output_dir)
        trained = [path.name for name in ("*.safetensors", "checkpoint-*") for path in sorted(out.glob(name))]
        if resume or not trained or self.config is None:
            return
        is_beside = self.config.resolve().parent == out.resolve()  # a study keeps it as config.yaml
        if is_beside or read_config(self.config) == read_run(out):
            raise ValueError(
                f"--output_dir {out}: this folder holds the run of {self.config}, and {trained[0]} would be "
                "overwritten. Give another folder with --output_dir, or go on with --resume_from_checkpoint true."
            )

    def tell_idle(self, idle: Mapping[str, str]) -> None:
        """Tells which options of the config have no effect, if their value is not the default."""
        for name, reason in idle.items():
            value = self.configured.get(name)
            if name not in self.typed and value is not None and value != self.defaults[name]:
                print(f"{name}={value} of the config has no effect here: {reason}.", file=sys.stderr)


def find_config(name: str) -> Path:
    """
    The path of a config. `name` is a path, or in any folder the name of a config that comes with the package.

    Raises:
        `FileNotFoundError`: if there is no such config.
    """
    shipped = CONFIGS / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    if Path(name).is_file():
        return Path(name)
    if shipped.is_file() and Path(name).parent.as_posix() in (".", "recipes/configs"):
        return shipped
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    near = get_close_matches(shipped.stem, names, n=1) if Path(name).parent == Path() else ()
    told = f"There is no config {name} (is {near[0]} meant?)." if near else no_such("config", name)
    raise FileNotFoundError(f"{told} Give a file, or one of {', '.join(names)}.")


def if_given(name: str, *options: type) -> type:
    """
    A dataclass with the fields of `options`, each `None` by default. If an option is not given, the setting of the
    model's training is used, or the default of the dataset.
    """
    return make_dataclass(
        name,
        [
            (option.name, _parsed_as(option) | None, field(default=None, metadata=_described(option)))
            for of in options
            for option in fields(of)
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


_Volume = if_given("_Volume", VolumeSettings)
_Text = if_given("_Text", ReportOptions)
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
        """Parses the window."""
        if self.window is not None:
            self.window = parse_window(self.window)

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
        if "report" not in tasks:  # of the options that all tasks have, this one is of reports alone
            options.append("findings_line")
        return dict.fromkeys((name for name in options if name not in used), f"the task is {' and '.join(tasks)}")


@dataclass
class SplitArguments:
    """The scans to measure on."""

    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "Split to measure on; test is CT-RATE's validation set."}
    )
    max_eval_samples: int = field(
        default=0, metadata={"help": "Number of scans, the first ones of the split; 0: all."}
    )
    ci: float = field(
        default=0.95,
        metadata={"range": LEVEL, "help": "Level of the bootstrap intervals, which resample patients."},
    )


@dataclass
class LineArguments:
    """What decides on the findings that reports state."""

    operating_point: str = field(
        default="none",
        metadata={
            "help": "Sets the findings lines by their probabilities: f1, or a sensitivity such as 0.9. none: the model "
            "decides."
        },
    )

    def point(self) -> str | float | None:
        """The operating point, parsed; `None` if the model decides. Raises a `ValueError` for other words."""
        from ct_rate_pairs.eval.scoring.operating_points import read_operating_point

        return None if self.operating_point == "none" else read_operating_point(self.operating_point)


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
