"""
What all commands share: how options are spelt, configs with a `base`, and errors that end in their message.

A command parses its options before it imports anything heavy, so that `--help` and a mistyped option answer at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, get_args

import yaml


# What the user can mend: these end in their message, without a traceback.
MENDABLE = (ValueError, OSError, FloatingPointError)


class CommandParser(argparse.ArgumentParser):
    """
    An `ArgumentParser` as the commands use it: a mistyped option ends in one line, exit code 2, and `--max_steps` may
    also be spelt `--max-steps`.

    Args:
        old_names (`Mapping[str, str]`, *optional*):
            Names that options had in earlier releases, and their new ones. They are accepted, and told as old.
        kwargs:
            Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, *args, old_names: Mapping[str, str] | None = None, **kwargs):
        self.old_names = old_names or {}
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        told = "Each command also takes --debug: it shows the traceback of an error."
        epilog = "\n\n".join(filter(None, (kwargs.pop("epilog", None), told)))
        super().__init__(*args, **options | kwargs, epilog=epilog)

    def parse_known_args(self, args=None, namespace=None):
        args = [self.respell(argument) for argument in (sys.argv[1:] if args is None else args)]
        parsed, unknown = super().parse_known_args(args, namespace)
        if wrong := [argument for argument in unknown if argument.startswith("--")]:
            self.refuse(wrong[0].split("=")[0])
        return parsed, unknown

    def respell(self, argument: str) -> str:
        """An argument with its option as the parser knows it; a value stays as it is."""
        if not argument.startswith("--"):
            return argument
        option, equals, value = argument.partition("=")
        return "--" + self.new_name(option[2:].replace("-", "_")) + equals + value

    def new_name(self, name: str) -> str:
        """The present name of an option."""
        if name in self.old_names:
            print(f"--{name} is an old name of --{self.old_names[name]}, and will go.", file=sys.stderr)
        return self.old_names.get(name, name)

    def refuse(self, option: str, where: str = "") -> NoReturn:
        """Ends the command for an option that it does not have, and names the nearest that it has."""
        near = get_close_matches(option, self._option_string_actions, n=1)
        self.error(f"{where}there is no option {option}" + (f": is {near[0]} meant?" if near else "."))

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\nSee {self.prog} --help.\n")


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """
    Adds an argument for each field of a dataclass of options; one that is not given is `None`.

    Args:
        parser (`argparse.ArgumentParser`):
            Where to add them.
        options (`type`):
            A dataclass whose fields have a default, and `help` and maybe `choices` in their metadata.
    """
    for option in fields(options):
        given = {"choices": option.metadata.get("choices"), "help": help_of(option)}
        if isinstance(option.default, tuple):
            given |= {"type": get_args(option.type)[0], "nargs": "+"}
        else:
            given |= {"type": option.type if option.type in (int, float) else str}
        if option.metadata.get("words"):
            given |= {"nargs": "+"}
        parser.add_argument(f"--{option.name}", **given)


def help_of(option: Field) -> str:
    """The help of a field of a dataclass of options, with its default."""
    default = option.default if option.default_factory is MISSING else option.default_factory()
    told = " ".join(map(str, default)) if isinstance(default, tuple | list) else default
    return f"{option.metadata['help']} (default: {told})".replace("%", "%%")


def given_options(arguments: dict, options: type) -> dict:
    """Takes the fields of a dataclass of options that were given out of `arguments`."""
    given = {option.name: arguments.pop(option.name) for option in fields(options)}
    return {name: value for name, value in given.items() if value is not None}


def read_config(path: str | Path) -> dict:
    """
    Reads a config. With `base: OTHER.yaml`, a file beside it, it says only what differs from that one.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: if it is no YAML mapping.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold `option: value` lines.")
    base = content.pop("base", None)
    return (read_config(path.parent / base) if base else {}) | content


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """
    Runs a command. What the user can mend ends in its message alone, and exit code 2; `--debug` shows the traceback.

    Args:
        main (`Callable[[Sequence[str]], int | None]`):
            The command: it takes its arguments, and may return an exit code.
        argv (`Sequence[str]`, *optional*):
            The arguments, those of the process by default.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # Alone, as Trainer has an option of that name, which takes a value.
    debug = any(a == "--debug" and b.startswith("--") for a, b in pairwise([*argv, "--"]))
    if debug:
        argv.remove("--debug")
    try:
        code = main(argv)
    except MENDABLE as error:
        if debug:
            raise
        rank = os.environ.get("RANK", "0")
        who = "error" if rank == "0" else f"error on rank {rank}"
        print(f"{who}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr, flush=True)
        code = 2
    sys.exit(code)
