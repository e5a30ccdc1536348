"""Keeps what the readers of volumes tell, so that it can stand beside what was read."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


_READERS = logging.getLogger(__package__)


class _Collector(logging.Handler):
    """Collects the warnings of one thread. As a handler, it must show them itself if nobody else does."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.told: list[str] = []
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.told.append(record.getMessage())
        if not _READERS.parent.hasHandlers():
            logging.lastResort.handle(record)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """
    Collects the warnings of the readers of volumes, which are shown as without this context.

    Yields:
        `list[str]`: the warnings so far, in this thread.
    """
    collector = _Collector()
    _READERS.addHandler(collector)
    try:
        yield collector.told
    finally:
        _READERS.removeHandler(collector)
