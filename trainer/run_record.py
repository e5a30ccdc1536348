"""
The record of a run: `run.yaml`, its options as a config that repeats it, and `environment.json`, what it ran with.

`environment.json` has the optimizer that ran, the base model's commit on the Hub, the versions of the packages, the
commit of this package, and the machine. It holds no path and no token, so it can be published.
"""

import hashlib
import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.run import Environment
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.whole_files import write_whole
from ct_rate_pairs.yaml_files import YAMLFileError, read_yaml

from .row_settings import row_settings


logger = logging.getLogger(__name__)

RUN = "run.yaml"
ENVIRONMENT = "environment.json"
PACKAGES = ("ct-rate-pairs", "torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")
# Options that do not belong to a repetition: those of the parser, secrets, and where an interrupted run went on.
NOT_REPEATED = ("config", "help", "debug", "hub_token", "resume_from_checkpoint", "local_rank")
HEADING = """\
# The options of a run. To repeat it, into another folder:
#   {command} --config {file} --output_dir FOLDER
# environment.json beside this file tells the versions, the commit and the machine that it ran with.

# Given:
"""
# The packages that decide about the text of a report.
SOURCES = tuple(
    f"ct_rate_pairs{room}"
    for room in ("", ".volumes", ".volumes.dicom", ".sources", ".reports", ".tasks", ".trainer", ".eval.predictions")
)
UNGIVEN = "\n# Defaults of ct-rate-pairs {version}, transformers {transformers} and TRL {trl}:\n"


class WriteRunRecord(TrainerCallback):
    """
    Writes `run.yaml` and `environment.json` to the folder of a run before its first step.

    If an interrupted run goes on, differences to the options that it was begun with are told.

    Args:
        command (`str`):
            The command of the run, such as `"ct-rate-pairs train"`.
        options (`Mapping[str, Any]`):
            All options of the command, as parsed from a config and the command line.
        given (`Collection[str]`):
            Names of the options that were given. The others have their defaults.
        base (`str`, *optional*):
            Models on the Hub that the training starts from, as `USER/NAME@COMMIT`, with commas between them.
    """

    def __init__(self, command: str, options: Mapping[str, Any], given: Collection[str], base: str | None = None):
        """Keeps the arguments."""
        self.command, self.options, self.given, self.base = command, options, given, base

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer=None, **kwargs
    ) -> None:
        """Writes the record."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        if state.global_step and (changes := changed_options(self.options, folder)):
            print(for_terminal(f"This run was begun with other options: {'; '.join(changes)}."), flush=True)
        write_run_config(self.command, self.options, self.given, folder)
        started = {"base": self.base, "optimizer": describe_optimizer(optimizer)}
        environment = describe_environment(args) | started
        write_whole(folder / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")


def options_in_effect(options: Mapping[str, Any], rows: Sequence[Dataset]) -> dict[str, Any]:
    """
    Options as a run used them, so that a repetition depends neither on a later release's defaults nor on the folder
    that it is started in.

    Args:
        options (`Mapping[str, Any]`):
            All options of the command.
        rows (`Sequence[Dataset]`):
            Training rows of each task.

    Returns:
        `dict`: the options. Those of the rows that were not given have the value that was used, and local
            paths of data and model are absolute.
    """
    used: dict = {}
    for reader in map(reader_of, reversed(rows)):
        used |= asdict(reader.source.settings) | row_settings(reader)
    values = {name: used.get(name) if value is None else value for name, value in options.items()}
    folders = [name for name in ("data_dir", "model_name_or_path") if values.get(name) and Path(values[name]).exists()]
    return values | {name: str(Path(values[name]).absolute()) for name in folders}


def write_run_config(command: str, options: Mapping[str, Any], given: Collection[str], folder: Path) -> None:
    """Writes `run.yaml`: first the options that were given, then those that have their defaults."""
    kept = {name: plain(value) for name, value in options.items() if value is not None and name not in NOT_REPEATED}
    parts = [{name: value for name, value in kept.items() if (name in given) == wanted} for wanted in (True, False)]
    first, second = (yaml.safe_dump(part, sort_keys=False, allow_unicode=True) for part in parts)
    heading = HEADING.format(command=command, file=folder / RUN)
    ungiven = UNGIVEN.format(**versions() | {"version": version(PACKAGES[0])})
    write_whole(folder / RUN, heading + first + ungiven + second)


def changed_options(options: Mapping[str, Any], folder: Path) -> list[str]:
    """The options that differ from those in `run.yaml` of a folder, in words; empty without this file."""
    before, now = read_run(folder), {name: plain(value) for name, value in options.items()}
    names = [name for name in before if name in now and name != "output_dir"]
    return [f"{name} {before[name]}, now {now[name]}" for name in names if before[name] != now[name]]


def read_run(folder: Path) -> dict:
    """The content of `run.yaml` in a folder; empty if there is none, and with a warning if it is empty or cut."""
    path = folder / RUN
    if not path.is_file():
        return {}
    try:
        return read_yaml(path)
    except YAMLFileError as error:
        logger.warning(
            "%s is empty, cut or damaged, and says nothing about the run. It is written again. %s", path, error
        )
        return {}


def base_of_run(folder: str | Path) -> str | None:
    """The models on the Hub that the run in a folder started from, as [`WriteRunRecord`] has them."""
    path = Path(folder, ENVIRONMENT)
    return read_json(path, Environment).get("base") if path.is_file() else None


def plain(value: Any) -> Any:
    """A value as YAML holds it: the value of an enumeration, and lists instead of tuples."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def describe_environment(args: TrainingArguments) -> dict:
    """The versions of the packages, the commit, the machine, and how many processes share the training."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and not args.use_cpu else None
    return {
        "versions": versions(),
        **code_version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": gpu or args.device.type,
        "processes": args.world_size,
        "threads": torch.get_num_threads(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """The versions of the packages that decide what a run gives. Packages that are not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an extra
            continue
    return found


def code_version() -> dict[str, str | bool | None]:
    """The commit of this package's checkout, and whether files differ from it; `None` for both without a checkout."""
    here, git = Path(__file__).resolve(), shutil.which("git")

    def ask(*arguments: str) -> subprocess.CompletedProcess:
        """Runs git in the folder of this file."""
        command = [git, "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # An installed package may lie in somebody else's repository, whose commit says nothing about the package.
    if git is None or ask("ls-files", "--error-unmatch", here.name).returncode:
        return {"commit": None, "dirty": None}
    changed = ask("status", "--porcelain", "--untracked-files=no").stdout
    return {"commit": ask("rev-parse", "HEAD").stdout.strip(), "dirty": bool(changed.strip())}


@cache
def sources_version() -> str:
    """
    Identifies the code that decides what a model is shown and how it writes: version and hash of this package's files,
    and the versions of transformers and torch. It is the same with and without a checkout of the same files.
    """
    digest = hashlib.sha256()
    for package in SOURCES:
        (folder,) = import_module(package).__path__
        for path in sorted(Path(folder).glob("*.py")):
            digest.update(f"{package}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    known = versions()
    libraries = ", ".join(f"{name} {known[name]}" for name in ("transformers", "torch"))
    return f"{known[PACKAGES[0]]}+{digest.hexdigest()[:16]}, {libraries}"


def describe_optimizer(optimizer: torch.optim.Optimizer) -> dict:
    """The class of an optimizer, and the settings of each group of parameters with the number of these."""
    inner = optimizer
    while isinstance(getattr(inner, "optimizer", None), torch.optim.Optimizer):  # accelerate and DeepSpeed wrap it
        inner = inner.optimizer
    groups = []
    for group in inner.param_groups:
        settings = {
            name: value for name, value in group.items() if isinstance(value, bool | int | float | str | tuple)
        }
        settings["lr"] = settings.pop("initial_lr", settings["lr"])  # the scheduler has already changed `lr`
        groups.append({"parameters": sum(p.numel() for p in group["params"]), **settings})
    return {"name": type(inner).__name__, "module": type(inner).__module__, "groups": groups}
