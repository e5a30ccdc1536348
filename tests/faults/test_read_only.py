"""A folder that cannot be written to: a command says so before it begins, and what is there stays as it is."""

import os
import subprocess

import pytest
from helpers.command import call
from helpers.faults import small_disk
from helpers.orders import COMMANDS, orders_of

from ct_rate_pairs.eval.predictions.store import append_predictions, read_predictions
from ct_rate_pairs.trainer.generation import Written
from ct_rate_pairs.whole_files import write_whole


@pytest.fixture
def disk(tmp_path):
    """A disk with the results of an earlier run, to which nobody can write, not even root."""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "out").mkdir()
        (disk / "out" / "results.json").write_text("old")
        append_predictions(disk / "out" / "predictions.jsonl", {"valid_1_a_1.nii.gz": Written("old", False)})
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_refused_before_it_begins(tmp_path, disk, phantom, reader_dir, capfd, command):
    main, *arguments = orders_of(tmp_path, phantom, reader_dir)[command]
    for folder in ("out", "new/out"):
        assert call(main, *arguments, "--output_dir", disk / folder) == 2
        told = capfd.readouterr().err
        assert "cannot be written to (Read-only file system): make room or give the right" in told
        assert "Traceback" not in told and "%|" not in told  # no bar of progress
        assert sorted(os.listdir(disk)) == ["out"]
    assert sorted(os.listdir(disk / "out")) == ["predictions.jsonl", "results.json"]


def test_what_is_there_stays(disk):
    with pytest.raises(OSError, match="Read-only file system"):
        write_whole(disk / "out" / "results.json", "new")
    predictions = disk / "out" / "predictions.jsonl"
    with pytest.raises(OSError, match="Read-only file system"):
        append_predictions(predictions, {"valid_2_a_1.nii.gz": Written("new", False)})
    assert read_predictions(predictions) == {"valid_1_a_1.nii.gz": "old"}
    assert (disk / "out" / "results.json").read_text() == "old"
    assert sorted(os.listdir(disk / "out")) == ["predictions.jsonl", "results.json"]
