"""
Native code that fails at some scans: it crashes, takes all memory, never ends or is killed. As `sitecustomize` of the
processes that a test starts, it fails there, too: the environment says at which files, and how.
"""

import ctypes
import os
import signal
import time

import numpy as np
from isal import igzip
from pydicom.pixels import decoders


FILE, WAY = "FAILING_FILE", "FAILING_WAY"


def crash() -> None:
    ctypes.string_at(0)


def take_memory() -> None:
    taken = []
    while True:
        taken.append(np.ones(2**25))


def hang() -> None:
    time.sleep(3600)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WAYS = {way.__name__: way for way in (crash, take_memory, hang, be_killed)}
_IGzipFile = igzip.IGzipFile


class _Failing(_IGzipFile):
    """An inflater that fails at one file."""

    def __init__(self, *args, fileobj=None, **kwargs):
        if str(getattr(fileobj, "name", "")).endswith(os.environ[FILE]):
            WAYS[os.environ[WAY]]()
        super().__init__(*args, fileobj=fileobj, **kwargs)


def fail_at(file: str, way: str, monkeypatch) -> None:
    """Lets the inflater fail at a file, here and in forks. Tests that use it need the fixture `reads_apart`, too."""
    from ct_rate_pairs.volumes import apart  # not where this file is `sitecustomize`

    assert apart.IS_APART
    monkeypatch.setattr(igzip, "IGzipFile", _Failing)
    monkeypatch.setenv(FILE, file)
    monkeypatch.setenv(WAY, way)


# A plug-in of pydicom is a module with these two names, and a function.
DECODER_DEPENDENCIES = dict.fromkeys([decoders.RLELosslessDecoder.UID], ())


def is_available(uid: str) -> bool:
    return uid in DECODER_DEPENDENCIES


def decode(source: bytes, runner: object) -> bytearray:
    """Fails at each slice."""
    WAYS[os.environ[WAY]]()


if FILE in os.environ:
    igzip.IGzipFile = _Failing
