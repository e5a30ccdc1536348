"""Shared fixtures."""

import os


os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face import: no test needs the network

from pathlib import Path

import pytest
from helpers.shared import made_once
from helpers.tree import write_tree
from helpers.writable_hub import WRITE, WritableHub

from ct_rate_pairs.phantom.cohort import write_cohort


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """Keep the tests' indexes out of the user's cache, and old ones out of the tests."""
    import datasets.config

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets_cache")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A phantom cohort to read only: 24 scans for training and validation, 24 to test on."""
    return made_once(tmp_path_factory, "phantom", lambda folder: write_cohort(folder, 24, valid_scans=24, workers=1))


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A tree to read only."""
    return write_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def own_tree(tmp_path) -> Path:
    """A tree that the test may damage."""
    return write_tree(tmp_path)


@pytest.fixture(scope="module")
def server():
    """A Hub on loopback."""
    hub = WritableHub()
    yield hub
    hub.stop()


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The Hub, empty, with this process logged in as alice."""
    server.repos.clear()
    server.collections.clear()
    server.faults, server.log = [], []
    server.connect(monkeypatch, WRITE, tmp_path / "hf")
    return server
