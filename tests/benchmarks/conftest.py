"""The benchmarks are scripts, and no package: their folder is searched for modules."""

import pytest
from helpers.paths import ROOT


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
