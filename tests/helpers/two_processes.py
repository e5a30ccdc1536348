"""Starts a script as two processes on gloo, as `torchrun` does."""

import os
import subprocess
import sys

from helpers.paths import HELPERS, TESTS


def torchrun(script, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*command, str(HELPERS / script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,  # a deadlock fails, and does not hold the suite
    )
    assert run.returncode == 0, run.stderr[-3000:]
