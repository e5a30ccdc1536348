"""Models in 4 and 8 bits. bitsandbytes is in a folder of its own: where it is installed, each start takes longer."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.command import call
from helpers.paths import HELPERS

from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.report import main


QLORA = Path(sys.prefix) / "qlora"  # made by `make test`
IS_HERE = bool(find_spec("bitsandbytes"))


@pytest.mark.slow
@pytest.mark.skipif(not QLORA.is_dir() and not IS_HERE, reason="pip install 'ct-rate-pairs[qlora]'")
def test_a_model_is_quantized_as_it_is_loaded_and_its_reports_tell_it(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(QLORA)])}
    command = [sys.executable, str(HELPERS / "quantized_run.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "inputs will be cast" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(IS_HERE, reason="bitsandbytes is here")
def test_without_bitsandbytes_the_remedy_is_told(reader_dir, tmp_path, capfd):
    with pytest.raises(ImportError, match=r"needs bitsandbytes: pip install 'ct-rate-pairs\[qlora\]'. Or leave it"):
        load_reporter(reader_dir, quantization="4bit")
    scan = tmp_path / "scan.nii.gz"
    scan.touch()
    options = ("--model_name_or_path", reader_dir, "--output_dir", tmp_path / "out", "--quantization", "8bit")
    assert call(main, scan, *options) == 2
    assert "quantization='8bit' needs bitsandbytes: pip install" in capfd.readouterr().err


@pytest.mark.slow
def test_another_word_and_two_places_at_once_are_refused(reader_dir):
    with pytest.raises(ValueError, match="quantization cannot be '2bit'. It is one of 4bit, 8bit."):
        load_reporter(reader_dir, quantization="2bit")
    with pytest.raises(ValueError, match="device='cpu' and device_map='auto': give one of the two."):
        load_reporter(reader_dir, device="cpu", device_map="auto")


@pytest.mark.slow
def test_a_device_map_places_the_same_weights_and_a_wrong_one_is_told(reader_dir):
    spread, whole = load_reporter(reader_dir, device_map="auto"), load_reporter(reader_dir)
    assert spread.version == whole.version
    with pytest.raises(ValueError, match="cannot be loaded .*nowhere"):
        load_reporter(reader_dir, device_map="nowhere")
    before = whole.model.state_dict()
    assert all(value.equal(before[name]) for name, value in spread.model.state_dict().items())
