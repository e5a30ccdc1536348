"""A prepared copy of the shared cohort, and copies that are made without processes."""

import pytest
from helpers.prepare import use_a_thread
from helpers.tree import SPACING

from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.sources import open_source


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
