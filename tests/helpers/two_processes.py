"""Starts a script as two processes on gloo, with the variables that `torchrun` gives them."""

import os
import signal
import time
from contextlib import ExitStack
from tempfile import TemporaryFile

from helpers import programs
from helpers.paths import HELPERS
from helpers.ports import hold_port


def run_as_two(script, *arguments, cwd=None, **environment):
    """The script is one of `helpers`, or has a whole path. Both end when one fails, or after a deadlock."""
    group = os.environ | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with ExitStack() as stack:
        port = stack.enter_context(hold_port()).getsockname()[1]
        group |= {"MASTER_PORT": str(port), **environment}
        logs = [stack.enter_context(TemporaryFile("w+")) for _ in range(2)]
        ranks = [
            programs.start(
                *(HELPERS / script, *arguments),
                **{"cwd": cwd, "env": group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}},
                **{"stdout": log, "stderr": log},
            )
            for rank, log in enumerate(logs)
        ]
        limit = time.monotonic() + 300
        while None in (codes := [rank.poll() for rank in ranks]) and not any(codes) and time.monotonic() < limit:
            time.sleep(0.05)
        for rank, log in zip(ranks, logs, strict=True):
            if rank.poll() is None:
                os.kill(rank.pid, signal.SIGKILL)
            log.seek(0)
        assert codes == [0, 0], "\n".join(log.read()[-3000:] for log in logs)
