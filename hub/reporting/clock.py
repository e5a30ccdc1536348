"""How long the steps of a report take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Adds the time of a step, in seconds."""
    start = time.perf_counter()
    yield
    seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - start, 3)
