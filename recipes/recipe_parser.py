"""
Parses the options of the recipes, which stand in a config or on the command line.

This file does not import torch, so that `--help` and a mistyped option answer at once.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trl import TrlParser

from ct_rate_pairs.command_line import CommandParser, read_config
from ct_rate_pairs.near_names import no_such
from ct_rate_pairs.number_ranges import COUNT, SHARE, SIZE, Range


CONFIGS = Path(__file__).parent / "configs"
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
    # Of `GRPOConfig`.
    "num_generations": Range(2),  # whose rewards are compared
    **dict.fromkeys(("num_generations_eval", "max_completion_length", "generation_batch_size"), COUNT),
    **dict.fromkeys(("steps_per_generation", "num_iterations", "ref_model_sync_steps"), COUNT),
    **dict.fromkeys(("temperature", "repetition_penalty", "epsilon", "epsilon_high", "delta"), SIZE),
    **dict.fromkeys(("top_p", "top_entropy_quantile"), Range(0, 1, above=True)),
    **dict.fromkeys(("min_p", "ref_model_mixup_alpha"), SHARE),
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
        try:
            parsed = self.parse_args_into_dataclasses(argv, look_for_args_file=False)
        except TypeError as error:  # of a library, for a name within an option such as `accelerator_config`
            place = f"{self.config} or the command line" if self.config else "the command line"
            raise ValueError(
                f"{place}: an option holds a name or a kind of value that it cannot have ({error}). Correct it. See "
                f"{self.prog} --help."
            ) from error
        return list(parsed[: len(self.dataclass_types)])  # without the other options, such as `--debug`

    def check_configured(self, path: Path, name: str, value: Any) -> None:
        """
        Raises a `ValueError` for a value of a config that the option cannot have. `argparse` checks texts alone, and
        no default for whether it is one of the choices.
        """
        action = next((action for action in self._actions if action.dest == name), None)
        if action is None or value == action.default:
            return
        if isinstance(value, bool) and "true" in (action.choices or ()):  # of words, one of which YAML reads so
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
