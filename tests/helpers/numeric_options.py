"""
Gives the numeric options of some commands, which are the arguments, wrong values: NaN, -1 and 0. Prints as JSON for
each option which of these values its parser accepts, and whether torch was imported.
"""

import contextlib
import io
import json
import sys
from importlib import import_module

from ct_rate_pairs.__main__ import COMMANDS
from ct_rate_pairs.command_line import CommandParser


class Parsing(Exception):
    """Brings the parser of a command here, before the command parses its options."""


def parser_of(name: str) -> CommandParser:
    """The parser of a command."""
    command, parse = import_module(COMMANDS[name][0]).main, CommandParser.parse_known_args

    def stop(self, args=None, namespace=None):
        raise Parsing(self)

    CommandParser.parse_known_args = stop
    try:
        command([])
    except Parsing as parsing:
        return parsing.args[0]
    finally:
        CommandParser.parse_known_args = parse


def accepts(parser: CommandParser, words: list[str], option: str) -> bool:
    """Whether a parser takes an option with its value; an error must name the option."""
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err):
            parser.parse_known_args(words)
    except SystemExit:
        return option[2:] not in err.getvalue()
    except ValueError as error:
        return option[2:] not in str(error)
    return True


def accepted_by(parser: CommandParser) -> dict[str, list[str]]:
    """The wrong values that are accepted, for each numeric option."""
    needed = []
    for action in (action for action in parser._actions if action.required):
        needed += [*action.option_strings[:1], "1" if action.type is int else next(iter(action.choices or "x"))]
    accepted = {}
    for action in parser._actions:
        if getattr(action.type, "__name__", "") in ("int", "float"):
            option, count = action.option_strings[0], action.nargs if isinstance(action.nargs, int) else 1
            values = {value: [*needed, option, *[value] * count] for value in ("nan", "-1", "0")}
            accepted[option] = [value for value, words in values.items() if accepts(parser, words, option)]
    return accepted


if __name__ == "__main__":
    found = {name: accepted_by(parser_of(name)) for name in sys.argv[1:]}
    print(json.dumps({"accepted": found, "torch": "torch" in sys.modules}))
