"""What a command starts ends with it, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from helpers import programs
from helpers.faults import KILLS, all_end, descendants, ended, in_child
from helpers.launch import ONE_PROCESS
from helpers.paths import ROOT
from helpers.study import STUDY

from ct_rate_pairs.command_line import run
from ct_rate_pairs.folder_lock import LOCK, folder_lock
from ct_rate_pairs.processes import end_with_parent, sigterm_as_exit


# `make faults` sends every signal to each command. Otherwise it is the hardest one.
IS_THOROUGH = KILLS >= 50
SIGNALS = [signal.SIGTERM, signal.SIGKILL] if IS_THOROUGH else [signal.SIGKILL]
LOG = "log.txt"


def stop(process, number, workers, cwd):
    """Sends a signal to a command as soon as it has that many processes, and tells whether all of them end."""
    limit = time.monotonic() + 120
    while len(started := descendants(process.pid)) < workers:
        assert process.poll() is None and time.monotonic() < limit, (cwd / LOG).read_text()
        time.sleep(0.05)
    time.sleep(1)
    started = descendants(process.pid)
    os.kill(process.pid, number)
    process.wait(60)
    return all_end(started)


def start(*arguments, cwd):
    with (cwd / LOG).open("w") as log:
        return programs.start("-m", "ct_rate_pairs", *arguments, cwd=cwd, stdout=log, stderr=log)


@pytest.mark.slow
def test_a_process_ends_with_its_parent(tmp_path):
    def parent():
        child = in_child(lambda: (end_with_parent(os.getppid()), (tmp_path / "up").touch(), time.sleep(60)))
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        (tmp_path / "child").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)

    ended(in_child(parent))
    child = int((tmp_path / "child").read_text())
    limit = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and time.monotonic() < limit:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{child}")


def test_sigterm_ends_a_command_as_an_error_does_and_gives_its_lock_up(tmp_path):
    def command(_):
        with folder_lock(tmp_path / "out", "a command"):
            (tmp_path / "out" / "file").touch()
            time.sleep(60)

    child = in_child(lambda: run(command, []))
    while not (tmp_path / "out" / "file").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    assert ended(child) != 0
    assert os.listdir(tmp_path / "out") == ["file"]


def test_sigterm_is_left_alone_outside_a_command_and_in_a_group(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_as_exit():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setenv("WORLD_SIZE", "2")
    with sigterm_as_exit():
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_workers_of_a_cohort_end_with_it_and_the_same_command_goes_on(tmp_path, number):
    arguments = ("phantom", "--output_dir", "out", "--scans", "400", "--workers", "2")
    assert stop(start(*arguments, cwd=tmp_path), number, 2, tmp_path)
    assert (tmp_path / "out" / LOCK.format(job="")).exists() == (number == signal.SIGKILL)
    arguments = (*arguments[:-4], "--scans", "400", "--workers", "1")
    before = len(list(tmp_path.rglob("*.nii.gz")))
    again = start(*arguments, cwd=tmp_path)
    while again.poll() is None and len(list(tmp_path.rglob("*.nii.gz"))) == before:
        time.sleep(0.1)
    assert again.poll() is None, (tmp_path / LOG).read_text()  # not refused
    os.kill(again.pid, signal.SIGKILL)
    again.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_workers_of_a_preparation_end_with_it(tmp_path, phantom, number):
    arguments = ("prepare", "--output_dir", "out", "--data_dir", phantom, "--workers", "2", "--shard_size", "4")
    assert stop(start(*arguments, cwd=tmp_path), number, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["train", "accelerate launch"])
def test_the_workers_of_a_training_end_with_it(tmp_path, phantom, command, number):
    options = ("--config", "phantom_heter", "--data_dir", phantom, "--output_dir", "out", "--confidence_scans", "0")
    options = (*options, "--dataloader_num_workers", "2")
    if command == "train":
        process = start("train", *options, cwd=tmp_path)
    else:
        # No fork: a training knows its launcher by the words that this was started with.
        launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *ONE_PROCESS]
        launched = [*launcher, str(ROOT / "recipes" / "sft_neg.py"), *map(str, options)]
        with (tmp_path / LOG).open("w") as log:
            process = subprocess.Popen(launched, cwd=tmp_path, stdout=log, stderr=log)
    assert stop(process, number, 2 if command == "train" else 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_workers_of_an_evaluation_end_with_it(tmp_path, phantom, reader_dir, number):
    options = ("--model_name_or_path", reader_dir, "--data_dir", phantom, "--per_device_eval_batch_size", "1")
    options = (*options, "--output_dir", "out", "--dataloader_num_workers", "2")
    assert stop(start("evaluate", *options, cwd=tmp_path), number, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGINT] if IS_THOROUGH else [signal.SIGTERM])
def test_a_study_that_is_stopped_stops_its_training(tmp_path, number):
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump(STUDY | {"settings": STUDY["settings"] | {"max_steps": 10_000}})
    )
    study = start("study", "--config", "tiny.yaml", cwd=tmp_path)
    runs = tmp_path / "runs" / "tiny" / "runs"
    limit = time.monotonic() + 240
    while not list(runs.glob("*/environment.json")):  # a training takes its first step
        assert study.poll() is None and time.monotonic() < limit, (tmp_path / LOG).read_text()
        time.sleep(0.1)
    assert stop(study, number, 1, tmp_path)
    # A training that does not end in time is killed, and its lock is then stale.
    assert (tmp_path / "runs" / "tiny" / LOCK.format(job="")).exists() == (number == signal.SIGKILL)
    assert not [path for path in runs.glob("*/run.yaml") if yaml.safe_load(path.read_text()).get("state")]
