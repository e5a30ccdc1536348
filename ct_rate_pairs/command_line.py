"""
What all commands share: how options are spelt, configs with a `base`, and errors that end with their message.

A command parses its options before it imports anything heavy, so `--help` and a mistyped option are answered at once.
"""

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, get_args

from .near_names import no_such
from .number_ranges import Range
from .processes import end_with_launcher, sigterm_as_exit
from .shown_text import for_terminal
from .yaml_files import YAMLFileError, read_yaml


# Errors that the user can correct: a command ends with their message, without a traceback.
MENDABLE = (ValueError, OSError, ImportError, FloatingPointError)


# Values of Trainer's own option `--debug`.
DEBUG_OF_TRAINER = ("underflow_overflow", "tpu_metrics_debug")


NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
NUMBERS = re.compile(rf"[\s(\[]*{NUMBER.pattern}(?:[\s,;()\[\]]+{NUMBER.pattern})*[\s)\],]*", re.IGNORECASE)


class ShownRecord(logging.LogRecord):
    """A log message, which may quote a file, a server or a model, without characters that command a terminal."""

    def getMessage(self) -> str:
        """The message with unseen characters as escapes."""
        return for_terminal(super().getMessage())


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the lines of a description, and tells the default of each option."""

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        if not action.option_strings or action.default in (None, "", argparse.SUPPRESS) or "(default: " in told:
            return told
        return f"{told} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """
    An `ArgumentParser` as the commands use it.

    A mistyped option ends the command with one line and exit code 2. `--max_steps` may also be spelt `--max-steps`. A
    number out of the range of its option is a `ValueError`.

    Args:
        old_names (`Mapping[str, str]`, *optional*):
            Old name of an option -> its present name. Old names are still accepted, with a note to the user.
        kwargs:
            Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, *args, old_names: Mapping[str, str] | None = None, **kwargs):
        self.old_names = old_names or {}
        self.ranges: dict[str, Range] = {}
        options = {"formatter_class": HelpFormatter, "allow_abbrev": False}
        told = "Each command also takes --debug: it shows the traceback of an error."
        epilog = "\n\n".join(filter(None, (kwargs.pop("epilog", None), told)))
        super().__init__(*args, **options | kwargs, epilog=epilog)

    def add_argument(self, *names, range: Range | None = None, **kwargs):
        """
        As in `argparse`. `range` holds the numbers that the option may be: by default 0 or more, and an option whose
        own default is negative may have that, too.
        """
        action = super().add_argument(*names, **kwargs)
        is_negative = isinstance(action.default, int | float) and action.default < 0
        self.ranges[action.dest] = range or Range(action.default if is_negative else 0)
        return action

    def parse_known_args(self, args=None, namespace=None):
        """As in `argparse`, but an unknown option ends the command. Other unknown arguments are returned."""
        args = self.spread_numbers([self.respell(argument) for argument in (sys.argv[1:] if args is None else args)])
        # Before argparse, which would report missing arguments first, and not the mistyped option.
        for argument in args:
            option = argument.split("=")[0]
            if option.startswith("--") and option not in ("--", *self._option_string_actions):
                self.refuse(option)
        namespace, others = super().parse_known_args(args, namespace)
        for name, value in vars(namespace).items():
            self.ranges.get(name, Range()).check(self.told_as(name), value)
        return namespace, others

    def told_as(self, name: str) -> str:
        """An option, as messages name it."""
        return f"--{name}"

    def respell(self, argument: str) -> str:
        """An argument with its option spelt as the parser knows it. A value stays as it is."""
        if not argument.startswith("--"):
            return argument
        option, equals, value = argument.partition("=")
        return "--" + self.new_name(option[2:].replace("-", "_")) + equals + value

    def spread_numbers(self, args: Sequence[str]) -> list[str]:
        """
        Numbers that stand in one argument as an argument each, for options that take several: `--window=-1000,400` and
        `--window -1000,400` become `--window -1000 400`.
        """
        spread, option = [], None
        for argument in args:
            head, value = [], argument
            if argument.startswith("--"):
                name, _, value = argument.partition("=")
                head, option = [name], self._option_string_actions.get(name)
            if option is not None and option.nargs == "+" and NUMBERS.fullmatch(value):
                spread += [*head, *NUMBER.findall(value)]
            else:
                spread.append(argument)
        return spread

    def new_name(self, name: str) -> str:
        """The present name of an option. An old name is reported on stderr."""
        if name in self.old_names:
            print(f"--{name} is an old name of --{self.old_names[name]} and will be removed.", file=sys.stderr)
        return self.old_names.get(name, name)

    def refuse(self, option: str, where: str = "") -> NoReturn:
        """Ends the command because of an unknown option, and names the most similar known option."""
        near = get_close_matches(option, self._option_string_actions, n=1)
        self.error(f"{where}there is no option {option}" + (f": is {near[0]} meant?" if near else "."))

    def error(self, message: str) -> NoReturn:
        """Ends the command with `message` and exit code 2."""
        self.exit(2, f"error: {message}\nSee {self.prog} --help.\n")


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """
    Adds one argument per field of a dataclass of options. An argument that the user does not give is `None`.

    Args:
        parser (`argparse.ArgumentParser`):
            Parser that gets the arguments.
        options (`type`):
            A dataclass. Each field has a default, and in its metadata `help` and perhaps `choices`, `words` and
            `range`. `words` means that the argument may have several words, and `range` is that of its numbers.
    """
    for option in fields(options):
        given = {name: option.metadata.get(name) for name in ("choices", "range")} | {"help": help_of(option)}
        if isinstance(option.default, tuple):
            given |= {"type": get_args(option.type)[0], "nargs": "+"}
        else:
            kinds = get_args(option.type) or (option.type,)  # several for `float | None`
            given |= {"type": next((kind for kind in kinds if kind in (int, float)), str)}
        if option.metadata.get("words"):
            given |= {"nargs": "+"}
        parser.add_argument(f"--{option.name}", **given)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the scans of a command as its argument `DIR`, and as `--data_dir`, which all other commands have."""
    told = "copy of CT-RATE, phantom cohort, prepared copy or table of own scans (default: CT-RATE on the Hub)"
    parser.add_argument("data_dir", nargs="?", metavar="DIR", default=argparse.SUPPRESS, help=told)
    parser.add_argument("--data_dir", metavar="DIR", help="the same")


def help_of(option: Field) -> str:
    """The help text of one field of a dataclass of options, with the field's default."""
    default = option.default if option.default_factory is MISSING else option.default_factory()
    told = " ".join(map(str, default)) if isinstance(default, tuple | list) else default
    return f"{option.metadata['help']} (default: {told})".replace("%", "%%")


def given_options(arguments: dict, options: type) -> dict:
    """Removes the fields of a dataclass of options from `arguments`, and returns those that the user gave."""
    given = {option.name: arguments.pop(option.name) for option in fields(options)}
    return {name: value for name, value in given.items() if value is not None}


def read_config(path: str | Path) -> dict:
    """
    Reads a YAML config.

    With `base: OTHER.yaml`, the config has all options of `OTHER.yaml`, a file in the same folder, and itself holds
    only the options that differ.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if the file is not a YAML mapping, or a base of itself.
    """
    path, files, content = Path(path), [], {}
    while path not in files:
        if not path.is_file():
            raise FileNotFoundError(no_such("file", path))
        files.append(path)
        content = read_yaml(path) | content
        if "base" not in content:
            return content
        base = content.pop("base")
        if not isinstance(base, str):
            raise YAMLFileError(f"{path}: `base` is {base!r:.80}, which is no name of a config.")
        path = path.parent / base
    raise YAMLFileError(f"{files[-1]}: its `base` {path} has it as a base itself.")


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """
    Runs a command and exits.

    An error that the user can correct prints only its message and gives exit code 2. `--debug` shows the traceback.
    Neither this message nor any log message commands the terminal.

    Args:
        main (`Callable[[Sequence[str]], int | None]`):
            The command. It takes the arguments and may return an exit code.
        argv (`Sequence[str]`, *optional*):
            The arguments. By default, the arguments of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    pairs = enumerate(pairwise([*argv, ""]))
    debug = [i for i, (word, value) in pairs if word == "--debug" and not value.startswith(DEBUG_OF_TRAINER)]
    for place in reversed(debug):
        del argv[place]
    logging.setLogRecordFactory(ShownRecord)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: the name of a file need not be text
    end_with_launcher()
    try:
        with sigterm_as_exit():
            code = main(argv)
    except MENDABLE as error:
        if debug:
            raise
        rank = os.environ.get("RANK", "0")
        who = "error" if rank == "0" else f"error on rank {rank}"
        # A message may quote a file, a server or a model.
        told = map(for_terminal, (f"{who}: {error}", *getattr(error, "__notes__", ())))
        print(*told, sep="\n", file=sys.stderr, flush=True)
        code = 2
    sys.exit(code)
