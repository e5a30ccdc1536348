"""A prepared copy of the shared cohort, and copies that are made without processes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.tree import SPACING

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source


def use_a_thread(monkeypatch):
    """The pool is a thread: what its processes do is tested where a run is killed."""

    def pool(workers, context, start, arguments):
        return ThreadPoolExecutor(1, initializer=start, initargs=arguments)

    monkeypatch.setattr("ct_rate_pairs.prepare.shards.ProcessPoolExecutor", pool)
    monkeypatch.setattr("ct_rate_pairs.prepare.shards.end_with_parent", lambda: None)


@pytest.fixture
def without_processes(monkeypatch):
    use_a_thread(monkeypatch)


@pytest.fixture(scope="module")
def copy(tree, tmp_path_factory):
    """The session's tree, prepared with five scans a file."""
    out = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_a_thread(monkeypatch)
        prepare(open_source(tree, spacing=SPACING), out, shard_size=5, workers=1)
    return out
