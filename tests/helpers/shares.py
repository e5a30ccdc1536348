"""Long tables of cases: some of them for `make test-fast`, all of them for `make test`."""

from collections.abc import Iterable

import pytest


def mostly_slow(cases: Iterable, every: int = 5) -> list:
    """The cases of a `pytest.mark.parametrize`, tuples or single values, all but each `every`-th marked as slow."""
    tuples = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*case, marks=[pytest.mark.slow] if place % every else []) for place, case in enumerate(tuples)
    ]
