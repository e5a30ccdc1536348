"""`ct-rate-pairs app`: it serves until it is interrupted, to this machine alone, and leaves nothing behind."""

import os
import re
import signal
import time
from pathlib import Path

import httpx2
import pytest
from helpers import programs
from helpers.command import call

from ct_rate_pairs.hub.app.__main__ import main


@pytest.mark.slow
def test_the_command_serves_the_page_to_this_machine_until_it_is_interrupted(reader_dir, tmp_path):
    words = ("-m", "ct_rate_pairs", "app", "--model_name_or_path", reader_dir, "--device", "cpu")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w+") as said:
        program = programs.start(*words, env=environment, stdout=said, stderr=said)
        while not (found := re.search(r"The page is at (http://127\.0\.0\.1:\d+/)", Path(said.name).read_text())):
            assert program.poll() is None, Path(said.name).read_text()
            time.sleep(0.1)
        assert "Not a medical device." in httpx2.get(found[1]).text
        assert list(tmp_path.rglob("*.nii.gz"))  # the phantoms
        os.kill(program.pid, signal.SIGINT)
        assert program.wait(60) in (0, 130, -signal.SIGINT)
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_an_option_without_effect_is_refused(capsys):
    assert call(main, "--model_name_or_path", "runs/phantom", "--allow_http") == 2
    assert "--allow_http has no effect without --dicomweb" in capsys.readouterr().err


def test_a_missing_model_is_told(tmp_path, capsys):
    assert call(main, "--model_name_or_path", tmp_path / "none") == 2
    assert "none" in capsys.readouterr().err
