"""A fixed share of what `make fuzz` runs."""

import os
import time

import pytest

from fuzz import json_files, long_texts, metaimages, own_tables, tables, texts, volumes
from fuzz.harness import Kind, outcome, run


OF_VOLUMES, OF_TABLES = volumes.KINDS | metaimages.KINDS, tables.KINDS | own_tables.KINDS
KINDS = {**OF_VOLUMES, **OF_TABLES, **json_files.KINDS, **texts.KINDS, **long_texts.KINDS}
CASES = dict.fromkeys(KINDS, 12) | {"MetaImage": 18}  # of which one at least is read


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_whatever_a_file_holds_it_is_read_or_refused(name):
    counts, bad = run(KINDS[name], name, CASES[name])
    assert not bad
    assert counts["read"] and counts["refused"]  # the seeds are sound, and the faults are seen


def fail(folder):
    raise KeyError("case")


def refuse(folder):
    raise VolumeError("the scan of DOE")


VolumeError = volumes.VolumeError


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda folder: None, "read"),
        (fail, "uncaught"),
        (refuse, "leak"),
        (lambda folder: os.abort(), "crash"),
        (lambda folder: bytearray(b"x") * 2**28, "memory"),
        (lambda folder: time.sleep(60), "hang"),
    ],
)
def test_the_harness_sees_what_goes_wrong(monkeypatch, use, expected):
    monkeypatch.setattr("fuzz.harness.SECONDS", 1 if expected == "hang" else 60)
    monkeypatch.setattr("fuzz.harness.MEGABYTES", 128)
    kind = Kind(lambda rng, folder: None, use, VolumeError, ("DOE",))
    assert outcome(kind, (1,))[0] == expected
