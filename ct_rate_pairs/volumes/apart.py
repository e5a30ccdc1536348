"""
Reads a volume in a process of its own. So a file that makes a decoder crash, takes all memory or never ends costs no
more than its own volume, in whatever process it is read: a command, a worker of a `DataLoader`, a rank of a training.

The process is a fork: it imports nothing anew, and may start in a worker, too. A fork costs as much as some slices do.
So the process stays and reads the next volumes as well, until it fails, has read `VOLUMES`, or its parent ends. Each
thread has one of its own. On systems without a safe fork (macOS, Windows), a volume is read in the process itself.
"""

import contextlib
import ctypes
import gc
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import dill
import torch

from .files import MOST_BYTES, NO_MEMORY, refusals
from .slicing import Volume, VolumeError
from .told import collected_warnings, tell
from .told import logger as told_logger


IS_APART = sys.platform == "linux"
if IS_APART:
    import resource

    _C = ctypes.CDLL(None)
    _PR_SET_PDEATHSIG = 1

SECONDS = 300  # for a volume: other ranks of a training wait for 600
VOLUMES = 1000  # that one process reads: what a decoder leaks does not add up for ever
MEMORY = 3 * MOST_BYTES  # beyond what the parent has: voxels in float32, and their file
_LARGE = 2**18  # bytes of an array that is sent without a copy
_BESIDE = 2**30  # addresses for libraries and for what takes no memory

# Python 3.12 warns of forks in a process with threads: the fork lacks the threads, and a lock that one of them holds
# stays locked. The readers take no locks but those that Python and the C library renew in a fork.
warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning, __name__)
_shown: dict = {}  # the registry of the readers' warnings
_of_thread = threading.local()  # `process`: the process that reads for this thread

T = TypeVar("T")


class _Answer(NamedTuple):
    """What came of reading a volume."""

    outcome: object  # or an error
    told: list[str]
    warned: list[tuple[str, type[Warning], str, int]]


def read_apart(name: str, read: Callable[[], Volume], use: Callable[[Volume], T]) -> T:
    """
    Reads a volume in a process of its own, and takes from it what is needed. What the reader tells is told here.

    Args:
        name (`str`):
            Name of the volume in messages.
        read (`Callable[[], Volume]`):
            Reads the volume.
        use (`Callable[[Volume], T]`):
            Takes something from the volume, such as its slices. Only that is copied to this process.

    Returns:
        `T`: what `use` returns.

    Raises:
        `VolumeError`: for every error of `read`, and if the process is ended, needs more memory than a scan can need
            or the machine has, or goes on for `SECONDS`.
        `Exception`: an error of `use`.
    """
    if not IS_APART:
        return _used(name, read, use)
    process = getattr(_of_thread, "process", None)
    if process is None or not process.is_usable:
        process = _of_thread.process = _Process()
    try:
        answer = process.ask(name, read, use)
    except BaseException:  # a failure, or an interruption that leaves an answer in the pipe
        process.left = 0
        raise
    finally:
        if process.left == 0:
            process.end()
            del _of_thread.process
    for message, kind, file, line in answer.warned:
        warnings.warn_explicit(message, kind, file, line, registry=_shown)
    for message in answer.told:
        tell(message)
    if isinstance(answer.outcome, Exception):
        raise answer.outcome
    return answer.outcome


def _used(name: str, read: Callable[[], Volume], use: Callable[[Volume], T]) -> T:
    with refusals(name):
        volume = read()
    try:
        return use(volume)
    except MemoryError as error:
        raise VolumeError(f"{name}: {NO_MEMORY}") from error


class _Process:
    """A process that reads volumes, and this end of its pipe. It does not outlive the object."""

    def __init__(self):
        self.parent, self.left = os.getpid(), VOLUMES
        self.pipe, theirs = Pipe()
        with theirs:
            # All signals are blocked in the process: those for the parent do nothing, and a fault ends it at once.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                self.child = os.fork()
                if not self.child:
                    _serve_and_end(self.parent, theirs)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def is_ours(self) -> bool:
        """Whether this process has started it: a fork of this process has the object, too."""
        return os.getpid() == self.parent

    @property
    def is_usable(self) -> bool:
        """Whether it is ours and was not ended meanwhile, as by a machine without free memory."""
        return self.is_ours and not _ending(self.child, os.WNOHANG)

    def ask(self, name: str, read: Callable, use: Callable) -> _Answer:
        """What came of reading a volume."""
        self.left -= 1
        with contextlib.suppress(BrokenPipeError):  # it has ended: how, is told below
            self.pipe.send_bytes(_request(name, read, use))
        return _received(self.child, self.pipe, name)

    def end(self) -> None:
        """Ends the process."""
        self.pipe.close()
        # Where SIGCHLD is ignored, nobody can wait for a process.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)

    def __del__(self):
        if self.is_ours and not self.pipe.closed:
            self.end()


def _request(*asked: object) -> bytes:
    """What is asked, as bytes. Functions within functions are for dill, which takes a hundred times as long."""
    try:
        return pickle.dumps(asked)
    except (pickle.PicklingError, AttributeError, TypeError):
        return dill.dumps(asked)


def _received(child: int, ours: Connection, name: str) -> _Answer:
    """
    The answer of a process.

    Raises:
        `VolumeError`: if the process ends, or goes on for too long, without an answer.
    """
    for _ in range(SECONDS):  # not by the clock, which goes on while a computer sleeps
        # The pipe tells the end of the process at once, unless another process was forked meanwhile and holds it, too.
        ending = _ending(child, os.WNOHANG)
        if not ours.poll(1):
            if ending:
                raise VolumeError(f"{name}: {ending}")
            continue
        try:
            sizes, answer = ours.recv()
            buffers = [bytearray(size) for size in sizes]
            for buffer in buffers:
                ours.recv_bytes_into(buffer)
        except (EOFError, ConnectionResetError):
            raise VolumeError(f"{name}: {_ending(child)}") from None
        return pickle.loads(answer, buffers=buffers)
    raise VolumeError(
        f"{name}: it was not read within {SECONDS} s. Copy it to a faster disk, or leave it out if it is damaged."
    )


def _ending(child: int, options: int = 0) -> str:
    """How a process ended, and what to do; empty if it has not ended yet."""
    try:
        status = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | options)
    except ChildProcessError:  # where SIGCHLD is ignored
        return "the process that read it ended without an answer. Export it again, or leave it out."
    if status is None:
        return ""
    if status.si_code == os.CLD_EXITED:
        return f"the process that read it ended without an answer: {NO_MEMORY}"
    ended = f"the process that read it was ended by {signal.Signals(status.si_status).name}"
    if status.si_status == signal.SIGKILL:
        return f"{ended}, as by a machine without free memory. Use fewer workers or a larger machine, or leave it out."
    return f"{ended}: it is damaged, or its decoder fails. Export it again (DICOM uncompressed), or leave it out."


def _serve_and_end(parent: int, theirs: Connection) -> NoReturn:
    """In the new process: reads, answers and ends. Nothing of the parent is shown, written or freed here."""
    try:
        _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.closerange(3, theirs.fileno())  # such as locks and pipes, which would else live as long as this process
        os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        gc.freeze()
        torch.set_num_threads(1)  # the threads of the parent are not here
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the parent's memory and the scan
        with contextlib.suppress(OSError):  # where /proc is for reading only
            Path("/proc/self/oom_score_adj").write_text("1000")  # before others, if the machine has no more memory
        while os.getppid() == parent:
            request = theirs.recv_bytes()
            _limit_memory()
            answer, pieces = _packed(_answer(*dill.loads(request)))
            theirs.send(([piece.nbytes for piece in pieces], answer))
            for piece in pieces:
                theirs.send_bytes(piece)
            del answer, pieces
    finally:
        os._exit(0)


def _packed(answer: _Answer) -> tuple[bytes, list[memoryview]]:
    """An answer as bytes, and the data of its large arrays. For a small array, a copy costs less than a message."""
    large = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        data = buffer.raw()
        if data.nbytes >= _LARGE:
            large.append(data)
        return data.nbytes < _LARGE

    return pickle.dumps(answer, protocol=5, buffer_callback=is_small), large


def _limit_memory() -> None:
    """Ends what takes too much memory."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    most = taken + min(MEMORY, int(free.split()[1]) * 1024) + _BESIDE
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hardest == resource.RLIM_INFINITY else min(most, hardest)
    resource.setrlimit(resource.RLIMIT_AS, (most, hardest))


def _answer(name: str, read: Callable, use: Callable) -> _Answer:
    told_logger.disabled = True
    with collected_warnings() as told, warnings.catch_warnings(record=True) as warned:
        try:
            outcome = _used(name, read, use)
        except Exception as error:
            if error.__cause__:
                error.add_note("".join(traceback.format_exception(error.__cause__)))
            outcome = error
    return _Answer(outcome, told, [(str(w.message), w.category, w.filename, w.lineno) for w in warned])
