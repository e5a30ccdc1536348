"""
The options of the recipes: one spelling in all of them, TRL's and Hugging Face's. They stand in a config or on the
command line.

Nothing here imports torch, so that `--help` and a mistyped option answer at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Literal, get_args

from trl import TrlParser

from ct_rate_pairs.command_line import CommandParser, help_of, read_config
from ct_rate_pairs.tasks import OPTIONS, TASKS
from ct_rate_pairs.tasks.report import ReportOptions
from ct_rate_pairs.volumes.settings import VolumeSettings, parse_window


CONFIGS = Path(__file__).parent / "configs"
# Names that the recipes' options had in earlier releases.
OLD_NAMES = {
    "model": "model_name_or_path",
    "revision": "model_revision",
    "out": "output_dir",
    "scans": "max_eval_samples",
    "eval_scans": "max_eval_samples",
    "batch_size": "per_device_eval_batch_size",
    "num_workers": "dataloader_num_workers",
}


class RecipeParser(CommandParser, TrlParser):
    """
    Parses dataclasses of options from a config (`--config`) and the command line, which overrides it.

    Args:
        dataclass_types (`Sequence[type]`):
            What is parsed.
        prog (`str`), description (`str`):
            Of the help.
        old_names (`Mapping[str, str]`, *optional*, defaults to `OLD_NAMES`):
            Earlier names of options, accepted and told as old.
    """

    def __init__(
        self, dataclass_types: Sequence[type], prog: str, description: str, old_names: Mapping[str, str] = OLD_NAMES
    ):
        super().__init__(dataclass_types=dataclass_types, prog=prog, description=description, old_names=old_names)
        self.add_argument("--config", metavar="FILE", help=f"YAML of options, or the name of one in {CONFIGS}")

    def parse(self, argv: Sequence[str], config: str | None = None) -> list:
        """
        The dataclasses, filled from `argv` and its config.

        Args:
            argv (`Sequence[str]`):
                Arguments.
            config (`str`, *optional*):
                Config to read where `argv` names none.

        Raises:
            `ValueError`: for a value that an option cannot have.
            `FileNotFoundError`: if there is no such config.
        """
        argv = [self.respell(argument) for argument in argv]
        named = [place for place, argument in enumerate(argv) if argument.split("=")[0] == "--config"]
        for place in reversed(named):
            config = argv[place].partition("=")[2] or (argv[place + 1] if place + 1 < len(argv) else None)
            if not config:
                self.error("--config needs a file.")
            del argv[place : place + (1 if "=" in argv[place] else 2)]
        if config:
            path = find_config(config)
            content = {self.new_name(name): value for name, value in read_config(path).items()}
            if unknown := self.set_defaults_with_config(**content):
                self.refuse(unknown[0], where=f"{path}: ")
        parsed = self.parse_args_into_dataclasses(argv, look_for_args_file=False)
        return list(parsed[: len(self.dataclass_types)])  # the rest is `--debug`


def find_config(name: str) -> Path:
    """
    A config by its path or, from anywhere, by its name among those that come with the package.

    Raises:
        `FileNotFoundError`: if there is none.
    """
    shipped = CONFIGS / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    if Path(name).is_file():
        return Path(name)
    if shipped.is_file() and Path(name).parent.as_posix() in (".", "recipes/configs"):
        return shipped
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise FileNotFoundError(f"There is no config {name}: give a file, or one of {names}.")


def if_given(name: str, *options: type, leave_out: Sequence[str] = ()) -> type:
    """
    A dataclass with the fields of `options`, each `None` unless it is given: what is not given is the dataset's own
    default, or as the model was trained.
    """
    return make_dataclass(
        name,
        [
            (option.name, _parsed_as(option) | None, field(default=None, metadata={"help": help_of(option)}))
            for of in options
            for option in fields(of)
            if option.name not in leave_out
        ],
    )


def _parsed_as(option: Field) -> type:
    """What the parser makes of an option's words: a list of a tuple, and of a window."""
    if option.metadata.get("words"):
        return list[str]
    return list[get_args(option.type)[0]] if isinstance(option.default, tuple) else option.type


_Volume = if_given("_Volume", VolumeSettings)
_Text = if_given("_Text", ReportOptions)
_Task = if_given("_Task", *(options for options in OPTIONS if options is not ReportOptions))


@dataclass
class ScanArguments(_Text, _Volume):
    """Scans, and what is read of them."""

    data_dir: str | None = field(
        default=None,
        metadata={"help": "CT-RATE tree, phantom cohort or prepared copy; CT-RATE on the Hub by default."},
    )
    on_error: str = field(
        default="raise", metadata={"help": "raise, or skip: leave bad volumes out, counted and named."}
    )

    def __post_init__(self):
        if self.window is not None:
            self.window = parse_window([self.window] if isinstance(self.window, str) else self.window)

    def dataset_options(self) -> dict:
        """The arguments that were given, for `load_dataset("ct_rate_pairs", ...)`."""
        return self.given(ScanArguments)

    def given(self, arguments: type) -> dict:
        """Those fields of a class of arguments that were given."""
        named = {option.name: getattr(self, option.name) for option in fields(arguments)}
        return {name: value for name, value in named.items() if value is not None}


@dataclass
class DataArguments(ScanArguments):
    """Scans with their negatives."""

    negative: str = field(default="heter", metadata={"help": "Negative partner: none, gauss, heter or hard."})
    min_label_distance: int = field(default=10, metadata={"help": "Labels in which a heter partner differs at least."})
    max_label_distance: int = field(default=3, metadata={"help": "Labels in which a hard partner differs at most."})
    partner_sampling: str = field(default="uniform", metadata={"help": "uniform (the paper) or balanced."})

    def dataset_options(self) -> dict:
        return self.given(DataArguments)


@dataclass
class TaskArguments(_Task, ScanArguments):
    """What a volume is asked."""

    task: str = field(default="report", metadata={"help": f"{', '.join(TASKS)}."})

    def dataset_options(self) -> dict:
        return self.given(TaskArguments)


@dataclass
class SplitArguments:
    """The scans that are measured."""

    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "test is CT-RATE's validation set."}
    )
    max_eval_samples: int = field(default=0, metadata={"help": "First scans of the split; 0: all."})
    ci: float = field(default=0.95, metadata={"help": "Level of the bootstrap intervals by patient."})


@dataclass
class ScoringArguments:
    """How reports are scored."""

    recipe: str = field(default="lower", metadata={"help": "Of the text metrics: lower, or vlm3d (the challenge's)."})
    labeler: str = field(
        default="rules", metadata={"help": "What reads generated reports: rules, or radbert:CHECKPOINT."}
    )
    meteor: bool = field(default=False, metadata={"help": "METEOR too; it needs Java."})
    bertscore_model: str | None = field(default=None, metadata={"help": "Encoder for BERTScore: name or folder."})


@dataclass
class ModelArguments:
    """A model that is measured."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model or adapter: folder, or name on the Hub."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."}
    )
    dtype: str = field(default="auto", metadata={"help": "Type of the weights; auto: as they were saved."})
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder for all of it; by default evaluation/ in the model's, or runs/USER-MODEL."},
    )
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "Scans or questions at a time."})
    seed: int = field(default=0, metadata={"help": "Of negatives, noise, questions, options, errors and swaps."})

    def evaluation_folder(self, is_folder: bool, *parts: str) -> Path:
        """Where results go: beside the model, and never over what a run or a user put there."""
        if self.output_dir:
            return Path(self.output_dir)
        if is_folder:
            return Path(self.model_name_or_path, "evaluation", *parts)
        revision = f"-{self.model_revision}" if self.model_revision else ""
        return Path("runs", self.model_name_or_path.replace("/", "-").replace(":", "-") + revision, *parts)
