"""
Keeps two processes from writing into one folder.

The lock is a hidden file in the folder, which names its owner. The kernel holds it (`flock`), and gives it up when the
process ends, however it ends. On a file system without `flock`, the file itself is the lock.
"""

import errno
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from .json_files import parse_json


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


LOCK = ".ct_rate_pairs{job}.lock"
# Where launchers tell the number of a process, and how many processes its group has.
GROUPS = {
    "RANK": "WORLD_SIZE",
    "PMI_RANK": "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_RANK": "MV2_COMM_WORLD_SIZE",
}
# Seconds to wait for the workers of a process that was killed: they look for their parent every 5 seconds.
PATIENCE = 20
IS_PART = re.compile(r"\..*\.part").fullmatch  # a file, or a model's folder, that is being written
BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag

_held = threading.local()


class FolderInUseError(OSError):
    """Another process writes into the folder. The message names the process, and the remedy."""


class Owner(NamedTuple):
    """The process that holds a lock."""

    command: str
    pid: int
    started: float  # of the process, in seconds since 1970
    host: str
    machine: str

    def is_here(self) -> bool:
        """Whether the process runs, or ran, on this machine."""
        return self.machine == _machine() or self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether the process runs. It is taken to run if it is on another machine."""
        if not self.is_here():
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 2  # the number may be another's now
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.started).astimezone().isoformat(" ", timespec="seconds")
        return f"`{self.command}` (process {self.pid} on {self.host}, since {since})"


@contextmanager
def folder_lock(folder: str | Path, command: str, job: str = "", distributed: bool = False) -> Iterator[None]:
    """
    Takes a folder for this process, so that no other process writes into it.

    Within one thread, the lock of a folder may be taken again. Who only reads the folder needs no lock.

    Args:
        folder (`str` or `Path`):
            The folder. It is created if there is none, and removed if nothing was written into it.
        command (`str`):
            What the process does, for the message to others, such as `"ct-rate-pairs report"`. It must not hold paths
            of scans, because it is written to the folder.
        job (`str`, *optional*):
            Name of a part of the work. Processes with other parts may write into the folder at the same time.
        distributed (`bool`, *optional*, defaults to `False`):
            Whether the processes of `accelerate launch` share the work, and the first one alone writes. It takes the
            lock for all.

    Raises:
        [`FolderInUseError`]: if another process has the folder.
        `OSError`: if the folder cannot be written to.

    Example:

    ```python
    with folder_lock("runs/heter", "ct-rate-pairs train"):
        ...
    ```
    """
    path = Path(folder).expanduser().resolve() / LOCK.format(job=f"-{job}" if job else "")
    held = vars(_held).setdefault("paths", set())
    if path in held or (distributed and _follows()):
        yield
        return
    is_new = not path.parent.exists()
    try:
        descriptor = _acquire(path, command)
    except FolderInUseError:
        raise
    except OSError as error:
        told = f"{folder} cannot be written to ({error.strerror}): make room or give the right to write there, or"
        raise OSError(error.errno, f"{told} choose another folder") from error
    process = os.getpid()
    held.add(path)
    try:
        yield
    finally:
        held.discard(path)
        if os.getpid() == process:  # and no worker that it has forked
            path.unlink(missing_ok=True)
            if descriptor is not None:
                os.close(descriptor)
            if is_new:
                with suppress(OSError):  # something was written into it
                    path.parent.rmdir()


def _follows() -> bool:
    """Whether this process is not the first one of its group. Clusters set a rank without a group, too."""
    return any(_number(rank) > 0 and _number(size) > 1 for rank, size in GROUPS.items())


def _number(name: str) -> int:
    """The number that a variable of the environment holds; 0 if it holds none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _acquire(path: Path, command: str) -> int | None:
    """Takes the lock. Returns the descriptor that holds it; `None` if the file itself is the lock."""
    patience = time.monotonic() + PATIENCE
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.is_symlink() and not path.exists()
        try:
            descriptor = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if is_new else NO_LINK), 0o666)
        except (FileExistsError, FileNotFoundError):  # taken or released in between
            continue
        locked, owner = _flock(descriptor), _read(descriptor)
        if locked or (locked is None and is_new):
            if not _is_at(path, descriptor):  # released in between
                os.close(descriptor)
                continue
            if owner is None or owner.is_here():
                try:
                    _write(descriptor, command)
                except OSError:
                    path.unlink()
                    raise
                if owner:
                    _remove_parts(path.parent)
                if locked:
                    return descriptor
                os.close(descriptor)
                return None
        os.close(descriptor)
        if locked is None and owner and not owner.is_alive():
            path.unlink(missing_ok=True)
        elif locked is False and time.monotonic() < patience and (owner is None or not owner.is_alive()):
            time.sleep(0.1)
        else:
            raise FolderInUseError(_refusal(path, owner))


def _refusal(path: Path, owner: Owner | None) -> str:
    """What is told to a process that does not get the lock."""
    if owner and owner.is_here():
        return (
            f"{path.parent} is in use: {owner} writes into it. Wait until it has ended, stop it (kill {owner.pid}), "
            "or choose another folder."
        )
    who = f"{owner} writes into it, or was killed there" if owner else "another process writes into it"
    return (
        f"{path.parent} is in use: {who}. Wait until it has ended, or choose another folder. If it runs no more, "
        f"remove {path}, and run the same command again."
    )


def _flock(descriptor: int) -> bool | None:
    """Whether this process has the lock now; `None` if the file system, or Windows, has no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the path is still that of the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Owner | None:
    """The owner that the file names; `None` while it is written, or if its writer was killed before."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        told = parse_json(os.read(descriptor, 10_000), "the lock")
        owner = Owner(*(kind(told[name]) for name, kind in Owner.__annotations__.items()))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return owner if 0 < owner.pid < 2**22 and 0 < owner.started < 2**32 else None


def _write(descriptor: int, command: str) -> None:
    owner = Owner(command, os.getpid(), psutil.Process().create_time(), socket.gethostname(), _machine())
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(owner._asdict()).encode())


def _machine() -> str:
    return BOOT.read_text().strip() if BOOT.exists() else socket.gethostname()


def _remove_parts(folder: Path) -> None:
    """Removes what a killed process has begun to write, see [`~ct_rate_pairs.whole_files`]."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK.format(job="")).exists()]
        for name in filter(IS_PART, files):
            Path(place, name).unlink(missing_ok=True)
        for name in filter(IS_PART, folders):
            shutil.rmtree(Path(place, name), ignore_errors=True)
