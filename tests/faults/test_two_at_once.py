"""Two processes on one output folder: the second is refused before it writes anything, whatever the command."""

import json
import os
import time

import pytest
from helpers.command import call
from helpers.faults import ended, in_child
from helpers.orders import COMMANDS, orders_of
from helpers.tiny_reader import COMBINATIONS, save_nifti, write_report

from ct_rate_pairs.folder_lock import FolderInUseError, folder_lock
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.reporting.batch import report_batch
from ct_rate_pairs.phantom.cohort import write_cohort


@pytest.fixture
def taken(tmp_path):
    """A folder that another process has."""
    out = tmp_path / "out"

    def work():
        with folder_lock(out, "another command"):
            (tmp_path / "held").touch()
            time.sleep(300)

    child = in_child(work)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    yield out
    os.kill(child, 9)
    ended(child)


@pytest.fixture
def orders(tmp_path, phantom, reader_dir):
    return orders_of(tmp_path, phantom, reader_dir)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_refused_where_another_writes_and_writes_nothing(taken, orders, capfd, monkeypatch, command):
    monkeypatch.setenv("PMI_RANK", "1")  # as a cluster sets it for each of its processes, which are no group
    main, *arguments = orders[command]
    assert call(main, *arguments, "--output_dir", taken) == 2
    told = capfd.readouterr().err
    assert "is in use: `another command` (process" in told and "Traceback" not in told
    assert len(os.listdir(taken)) == 1  # the lock


@pytest.mark.slow
def test_of_two_batches_one_writes_all_of_its_reports_and_the_other_none(tmp_path, reader_dir):
    reporter = load_reporter(reader_dir, device="cpu")
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, shown in enumerate(COMBINATIONS[: 3 if name == "a" else 6]):
            save_nifti(tmp_path / name / f"{number}.nii", shown, seed=ord(name))
    begin = time.monotonic() + 0.5

    def batch(name):
        def work():
            time.sleep(max(0, begin - time.monotonic()))
            try:
                report_batch(reporter, sorted((tmp_path / name).iterdir()), tmp_path / "out")
            except FolderInUseError:
                (tmp_path / f"{name}-refused").touch()

        return in_child(work)

    assert [ended(child) for child in [batch("a"), batch("b")]] == [0, 0]
    (refused,) = [name for name in "ab" if (tmp_path / f"{name}-refused").exists()]
    count = 6 if refused == "a" else 3
    texts = [json.loads(path.read_text())["text"] for path in sorted((tmp_path / "out").glob("*/report.json"))]
    assert texts == [write_report(shown) for shown in COMBINATIONS[:count]]


@pytest.mark.slow
def test_of_two_cohorts_one_is_whole(tmp_path):
    options = {"valid_scans": 1, "workers": 1}
    begin = time.monotonic() + 0.5

    def cohort(scans):
        def work():
            time.sleep(max(0, begin - time.monotonic()))
            write_cohort(tmp_path / "out", scans, **options)

        return in_child(work)

    assert sorted(ended(child) for child in [cohort(2), cohort(3)]) == [0, 1]
    arguments = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) >= arguments["scans"] + 1
