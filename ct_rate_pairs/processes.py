"""How a process ends: with its parent, and on SIGTERM as after an error, so that what it holds is given up."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path


ENDS_WITH = "CT_RATE_PAIRS_ENDS_WITH"  # environment variable: number of the parent that a command must not outlive
# Of a parent's command line: a program that starts processes for one training, and is not to be outlived either.
LAUNCHERS = ("accelerate", "torchrun", "accelerate.commands.accelerate_cli", "accelerate.commands.launch")
LAUNCHERS += ("torch.distributed.run", "torch.distributed.launch")


def end_with_parent(parent: int | None = None) -> None:
    """
    Ends this process within a second of its parent, even if the parent was killed.

    Args:
        parent (`int`, *optional*):
            Number of the parent. By default the process that `multiprocessing` started this one from.
    """
    parent = parent_process().pid if parent is None else parent
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def end_worker_with_parent(worker: int) -> None:
    """
    The `worker_init_fn` of a `DataLoader`. A worker notices by itself that its parent is gone, but if nobody takes the
    rows that it has read, it waits for ever to hand them over.
    """
    end_with_parent()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def end_with_launcher() -> None:
    """Ends this process with the study or the launcher that started it, if there is one."""
    if ENDS_WITH in os.environ:
        end_with_parent(int(os.environ[ENDS_WITH]))
    elif {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys() and _is_launched():
        end_with_parent(os.getppid())


def _is_launched() -> bool:
    """Whether the parent is a launcher. Its environment variables alone are inherited by other processes, too."""
    import psutil  # noqa: PLC0415 - few commands need it

    return any(Path(word).name in LAUNCHERS for word in psutil.Process(os.getppid()).cmdline())


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """
    Within this context, SIGTERM raises `SystemExit`, so that locks are given up and children are stopped.

    A process of a group is left as it is: it may wait for the others in native code, and would not end.
    """
    if threading.current_thread() is not threading.main_thread() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
