"""Shared fixtures."""

import gc
import os
import sys
import threading


os.environ["HF_HUB_OFFLINE"] = "1"  # before any Hugging Face import: no test needs the network
os.environ["PYTHONPATH"] = os.path.dirname(__file__)  # scripts that tests start import `helpers`, too
os.environ["OMP_NUM_THREADS"] = "1"  # before torch: tiny models gain nothing by more, and workers share the cores

from pathlib import Path

import pytest
from helpers.shared import made_once
from helpers.tree import write_tree
from helpers.writable_hub import WRITE, WritableHub
from hypothesis import settings
from tqdm import tqdm

from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.volumes import apart


# No test asserts a time: a busy machine is no fault.
settings.register_profile("no times", deadline=None)
settings.load_profile("no times")

# Before anything shows a bar. Processes share tqdm's own lock, and a child that a test kills would keep it for ever.
tqdm.set_lock(threading.RLock())


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    tests = set()
    for item in items:
        if item.get_closest_marker("slow_but_first"):
            if item.function in tests:
                item.add_marker(pytest.mark.slow)
            tests.add(item.function)


def pytest_collection_finish(session):
    """What is imported by now stays: each training collects garbage, and need not look through all of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory):
    """Keep the tests' indexes out of the user's cache, and old ones and another worker's out of the tests."""
    import datasets.config

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets_cache")
    os.environ["HF_DATASETS_CACHE"] = str(datasets.config.HF_DATASETS_CACHE)  # of the processes that tests start


# What a test changes in this process holds where volumes are read, too: in this process. The commands and workers that
# tests start read apart, as ever, and so do the tests with the fixture `reads_apart`.
apart.IS_APART = False


@pytest.fixture
def reads_apart(monkeypatch):
    """Volumes are read in a process of their own, one each."""
    if sys.platform != "linux":
        pytest.skip("volumes are read in the process itself here")
    monkeypatch.setattr(apart, "IS_APART", True)
    monkeypatch.setattr(apart, "VOLUMES", 1)
    vars(apart._of_thread).clear()
    yield
    vars(apart._of_thread).clear()


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A phantom cohort to read only: 24 scans for training and validation, 24 to test on."""
    return made_once(tmp_path_factory, "phantom", lambda folder: write_cohort(folder, 24, valid_scans=24, workers=1))


@pytest.fixture(scope="session")
def reader_dir(tmp_path_factory) -> Path:
    """The folder of a model that has learnt to read, with its confidence; see `helpers/tiny_reader.py`."""
    from helpers.tiny_reader import save_reader  # torch takes seconds, which not every test needs

    return made_once(tmp_path_factory, "reader", save_reader)


@pytest.fixture(scope="session")
def mask_reader_dir(reader_dir, tmp_path_factory) -> Path:
    """The folder of that model with a mask head; see `helpers/mask_reader.py`."""
    from helpers.mask_reader import save_mask_reader

    return made_once(tmp_path_factory, "mask_reader", lambda folder: save_mask_reader(folder, reader_dir))


@pytest.fixture(scope="session")
def reader(reader_dir) -> tuple:
    """That model and its collator."""
    from ct_rate_pairs.eval.load_model import load_model

    return load_model(str(reader_dir), device="cpu")


@pytest.fixture(scope="session")
def line_reader_dir(tmp_path_factory, talker_dir) -> Path:
    """The folder of a model that opens its reports with a findings line, with its confidence."""
    from helpers.tiny_reader import save_line_reader

    return made_once(tmp_path_factory, "line_reader", lambda folder: save_line_reader(folder, talker_dir))


@pytest.fixture(scope="session")
def talker_dir(tmp_path_factory) -> Path:
    """The folder of such a model that also answers questions."""
    from helpers.tiny_reader import save_talker

    return made_once(tmp_path_factory, "talker", save_talker)


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
