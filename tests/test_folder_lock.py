"""A folder has one writer, whoever else comes, and however the writer ends."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
from helpers.faults import ended, fill, in_child, small_disk

from ct_rate_pairs import folder_lock as module
from ct_rate_pairs.folder_lock import LOCK, FolderInUseError, folder_lock
from ct_rate_pairs.whole_files import whole_file


def lock_file(folder):
    return folder / LOCK.format(job="")


def hold(folder, seconds=60.0):
    """Number of a process that holds the lock of the folder, once it does so."""

    def work():
        with folder_lock(folder, "another command"):
            (folder.parent / f"{folder.name}-held").touch()
            time.sleep(seconds)

    child = in_child(work)
    while not (folder.parent / f"{folder.name}-held").exists():
        time.sleep(0.01)
    (folder.parent / f"{folder.name}-held").unlink()
    return child


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def end(child, number=signal.SIGKILL):
    os.kill(child, number)
    ended(child)


def test_a_second_process_is_refused_and_told_who_writes_and_what_to_do(out):
    child = hold(out)
    before = lock_file(out).read_bytes()
    told = f"out is in use: `another command` .process {child} on .*, since .*stop it .kill {child}.*another folder"
    for _ in range(2):
        with pytest.raises(FolderInUseError, match=told), folder_lock(out, "this command"):
            pytest.fail("two processes write")
    assert lock_file(out).read_bytes() == before
    end(child)


def test_a_lock_leaves_nothing(out):
    with folder_lock(out, "a command"):
        assert lock_file(out).exists()
    assert not out.exists()  # nothing was written into it
    with folder_lock(out, "a command"):
        (out / "file").touch()
    with pytest.raises(ZeroDivisionError), folder_lock(out, "a command"):
        raise ZeroDivisionError
    assert os.listdir(out) == ["file"]


def test_a_killed_owner_holds_nothing_and_what_it_had_begun_is_removed(out):
    (out / "scan-001").mkdir(parents=True)
    (out / "evaluation").mkdir()
    (out / "evaluation" / ".x.json.1.part").touch()
    (out / ".hidden").touch()

    def work():
        with folder_lock(out, "a command"), whole_file(out / "scan-001" / "report.json") as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(work)) == -signal.SIGKILL
    assert lock_file(out).exists() and list((out / "scan-001").iterdir())
    other = hold(out / "evaluation")  # which has another owner, whose files stay
    with folder_lock(out, "a command"):
        assert not list((out / "scan-001").iterdir()) and (out / ".hidden").exists()
        assert (out / "evaluation" / ".x.json.1.part").exists()
    end(other)


@pytest.mark.slow
def test_workers_that_outlive_a_killed_owner_are_waited_for(out):
    def work():
        with folder_lock(out, "a command"):
            in_child(lambda: time.sleep(1.5))  # a forked worker, which has the lock, too
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_child(work)) == -signal.SIGKILL
    with folder_lock(out, "a command"):
        assert json.loads(lock_file(out).read_text())["pid"] == os.getpid()


def test_workers_of_a_living_owner_give_nothing_up(out):
    with folder_lock(out, "a command"):
        assert ended(in_child(lambda: folder_lock(out, "nested").__enter__().close())) == 1
        assert ended(hold_in_worker(out)) == 0
        assert lock_file(out).exists()


def hold_in_worker(out):
    """A worker takes the lock of its owner again, and leaves it."""

    def work():
        with folder_lock(out, "a worker"):
            pass

    return in_child(work)


def test_one_thread_may_take_a_lock_again_and_another_may_not(out):
    refused = []

    def work():
        try:
            with folder_lock(out, "another thread"):
                pass
        except FolderInUseError as error:
            refused.append(error)

    with folder_lock(out, "a command"):
        with folder_lock(Path(os.path.relpath(out)), "the same by another path"):
            pass
        assert lock_file(out).exists()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_jobs_of_other_parts_share_a_folder(out):
    with folder_lock(out, "prepare", job="1-of-2"):
        assert ended(in_child(lambda: folder_lock(out, "prepare", job="2-of-2").__enter__())) == 0


@pytest.mark.parametrize(("rank", "size"), module.GROUPS.items())
def test_the_first_process_of_a_group_takes_the_lock_for_all(out, monkeypatch, rank, size):
    monkeypatch.setenv(size, "2")
    monkeypatch.setenv(rank, "1")
    with folder_lock(out, "a command", distributed=True):
        assert not out.exists()
    monkeypatch.setenv(rank, "0")
    with folder_lock(out, "a command", distributed=True):
        assert lock_file(out).exists()


@pytest.mark.parametrize(("rank", "size"), module.GROUPS.items())
def test_a_rank_is_no_leave_to_write_where_the_processes_do_not_share_the_work(out, monkeypatch, rank, size):
    monkeypatch.setenv(size, "2")
    monkeypatch.setenv(rank, "1")
    child = hold(out)
    with pytest.raises(FolderInUseError):
        folder_lock(out, "a command").__enter__()
    end(child)


@pytest.mark.parametrize(
    "values", [("1", None), ("1", "1"), ("1", ""), ("", "2"), ("x", "2"), ("-1", "2"), ("1", "x")]
)
@pytest.mark.parametrize(("rank", "size"), module.GROUPS.items())
def test_a_rank_without_a_group_is_no_leave_to_write(out, monkeypatch, rank, size, values):
    for name, value in zip((rank, size), values, strict=True):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with folder_lock(out, "a command", distributed=True):
        assert lock_file(out).exists()


def written_by(out, **changes):
    """The record of another process, as it stands in the lock."""
    record = {"command": "ct-rate-pairs train", "pid": os.getpid(), "started": psutil.Process().create_time()}
    record |= {"host": socket.gethostname(), "machine": module._machine()} | changes
    out.mkdir(exist_ok=True)
    lock_file(out).write_text(json.dumps(record))


def test_a_lock_of_another_machine_is_told_with_how_to_remove_it(out):
    written_by(out, host="node-7", machine="another")
    with pytest.raises(
        FolderInUseError, match=r"on node-7.*If it runs no more, remove .*out/\.ct_rate_pairs\.lock, and"
    ):
        folder_lock(out, "a command").__enter__()
    lock_file(out).unlink()
    with folder_lock(out, "a command"):
        pass


@pytest.mark.parametrize(
    "record",
    [
        *("", "{", '{"pid": 1}', "[" * 9_999, '{"pid": 1, "pid": 2}', '"\\ud800"', "9" * 9_000),
        '{"command": "", "pid": -1, "started": 1e99, "host": "", "machine": ""}',
        '{"command": "", "pid": 1e999, "started": 1, "host": "", "machine": ""}',
        '{"command": "", "pid": 1, "started": NaN, "host": "", "machine": ""}',
    ],
    ids=str.__len__,
)
def test_a_record_that_is_cut_or_makes_no_sense_blocks_nothing(out, record):
    out.mkdir()
    lock_file(out).write_text(record)
    with folder_lock(out, "a command"):
        assert json.loads(lock_file(out).read_text())["pid"] == os.getpid()


@pytest.fixture
def without_flock(monkeypatch):
    monkeypatch.setattr(module, "_flock", lambda _: None)


@pytest.mark.usefixtures("without_flock")
def test_without_flock_the_file_is_the_lock(out):
    child = hold(out)
    with pytest.raises(FolderInUseError, match=f"process {child} on"):
        folder_lock(out, "a command").__enter__()
    end(child)  # its number is nobody's now
    with folder_lock(out, "a command"):
        assert json.loads(lock_file(out).read_text())["pid"] == os.getpid()
    assert not lock_file(out).exists()


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("changes", [{"host": "node-7", "machine": "another"}, {"started": "x"}])
def test_without_flock_a_lock_that_nobody_can_judge_is_told(out, changes):
    written_by(out, **changes)
    with pytest.raises(FolderInUseError, match=r"remove .*\.lock, and run the same command again"):
        folder_lock(out, "a command").__enter__()


@pytest.mark.usefixtures("without_flock")
def test_a_number_that_another_process_has_now_is_not_taken_for_the_owner(out):
    written_by(out, started=psutil.Process().create_time() - 100)
    with folder_lock(out, "a command"):
        pass


@pytest.mark.parametrize("options", [("ro",), ()])
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, options):
    with small_disk(tmp_path / "disk", "16k", *options) as disk:
        if not options:
            fill(disk)
        told = "cannot be written to.*choose another folder"
        with pytest.raises(OSError, match=told):
            folder_lock(disk / "out", "a command").__enter__()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("native", [True, False])
def test_of_many_processes_one_at_a_time_has_the_folder(out, tmp_path, monkeypatch, native):
    if not native:
        monkeypatch.setattr(module, "_flock", lambda _: None)
    counter = tmp_path / "counter"
    counter.write_text("0")

    def work():
        done = 0
        while done < 25:
            try:
                with folder_lock(out, "a command"):
                    number = int(counter.read_text())
                    time.sleep(0.001)
                    counter.write_text(str(number + 1))
                done += 1
            except FolderInUseError:
                time.sleep(0.001)

    assert [ended(child) for child in [in_child(work) for _ in range(4)]] == [0] * 4
    assert counter.read_text() == "100"


def test_a_lock_that_is_a_link_is_not_followed(out, tmp_path):
    out.mkdir()
    (tmp_path / "precious").write_text("text")
    for target in ("precious", "nowhere"):
        lock_file(out).symlink_to(tmp_path / target)
        with pytest.raises(OSError, match="cannot be written to"):
            folder_lock(out, "a command").__enter__()
        lock_file(out).unlink()
    assert (tmp_path / "precious").read_text() == "text" and not (tmp_path / "nowhere").exists()
