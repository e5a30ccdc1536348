"""Faults for tests: a kill at a random moment, a disk that is full, a folder that cannot be written to."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest


KILLS = int(os.environ.get("KILLS", "5"))  # `make faults`: 50


def in_child(work: Callable[[], object]) -> int:
    """Number of a new process that does the work, and ends with 0, or with 1 after an error. It imports nothing."""
    if child := os.fork():
        return child
    code = 1
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        work()
        code = 0
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a child, once it has ended; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_random(work: Callable[[], object], check: Callable[[], object], kills: int = KILLS) -> None:
    """
    Does the work again and again in `kills` processes one after another, kills each at a random moment, and checks
    each time what is left.
    """
    start = time.monotonic()
    assert ended(in_child(work)) == 0
    duration, moments = time.monotonic() - start, random.Random(0)
    check()

    def endless():
        while True:
            work()

    for _ in range(kills):
        child = in_child(endless)
        time.sleep(0.01 + moments.random() * duration)
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL  # and no error before
        check()


@contextmanager
def small_disk(folder: Path, size: str = "64k", *options: str):
    """A disk of that size at `folder`. The test is skipped where this user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fills the disk of a folder to the last byte, and returns the file that does so."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def descendants(process: int) -> list[psutil.Process]:
    return psutil.Process(process).children(recursive=True)


def all_end(processes: list[psutil.Process], within: float = 20) -> bool:
    """Whether all processes end within so many seconds. Zombies have ended."""
    limit = time.monotonic() + within
    while time.monotonic() < limit:
        if not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
            return True
        time.sleep(0.1)
    return False
