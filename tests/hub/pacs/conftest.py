"""A real PACS on loopback."""

import tempfile

import pytest
from helpers import orthanc as helper


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    with helper.running(tmp_path_factory.mktemp("pacs") / "store") as orthanc:
        yield orthanc


@pytest.fixture
def pacs(started, monkeypatch):
    """An empty PACS, with the login of this process in the environment."""
    from ct_rate_pairs.hub.pacs.server import PASSWORD, TOKEN, USER

    started.clear()
    monkeypatch.setenv(USER, helper.USER)
    monkeypatch.setenv(PASSWORD, helper.PASSWORD)
    monkeypatch.delenv(TOKEN, raising=False)
    return started


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path_factory, monkeypatch):
    """Where what is retrieved lies for a time. Nothing of it stays."""
    folder = tmp_path_factory.mktemp("retrieved")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
