"""What the readers of volumes tell: warnings, which are shown and can be kept beside what was read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


logger = logging.getLogger(__name__)

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)
_only_new: ContextVar[bool] = ContextVar("only_new", default=False)
_shown: set[str] = set()


def tell(message: str, *args: object) -> None:
    """Shows a warning of a reader, and keeps it if [`collected_warnings`] asks for it. `args` are put in as by `%`."""
    told = message % args if args else message
    if (collected := _collected.get()) is not None:
        collected.append(told)
    if not (_only_new.get() and told in _shown):
        _shown.add(told)
        logger.warning("%s", told)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """
    Collects the warnings of the readers of volumes, which are shown as without this context.

    Yields:
        `list[str]`: the warnings so far, in this thread.
    """
    told: list[str] = []
    token = _collected.set(told)
    try:
        yield told
    finally:
        _collected.reset(token)


@contextmanager
def each_warning_once() -> Iterator[None]:
    """
    Leaves out warnings that this process has shown before. A training reads each volume many times, and the warnings
    name the volume.
    """
    token = _only_new.set(True)
    try:
        yield
    finally:
        _only_new.reset(token)
