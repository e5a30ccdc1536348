"""Runs a command in this process, as the console script does."""

from collections.abc import Callable

import pytest

from ct_rate_pairs.command_line import run


def call(main: Callable, *arguments: object) -> int:
    """What the command exits with."""
    with pytest.raises(SystemExit) as end:
        run(main, [str(argument) for argument in arguments])
    return end.value.code or 0
