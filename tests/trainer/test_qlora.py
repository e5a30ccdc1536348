"""QLoRA. bitsandbytes is in a folder of its own: where it is installed, each start takes seconds more, and warns."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.paths import HELPERS


QLORA = Path(sys.prefix) / "qlora"  # made by `make test`


@pytest.mark.slow
@pytest.mark.skipif(not QLORA.is_dir() and not find_spec("bitsandbytes"), reason="pip install 'ct-rate-pairs[qlora]'")
def test_four_bit_weights_stay_and_adapters_learn(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(QLORA)])}
    command = [sys.executable, str(HELPERS / "qlora_run.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
