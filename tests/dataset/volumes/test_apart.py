"""Volumes are read in a process of their own: what happens to it costs one volume, and nothing of it is left."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.dicom_series import AFFINE as DICOM_AFFINE
from helpers.dicom_series import slices, write
from helpers.failing_decoders import FILE, WAY, WAYS, fail_at
from helpers.marked_volume import marked_volume, save
from pydicom.pixels.decoders import RLELosslessDecoder
from torch.utils.data import DataLoader

from ct_rate_pairs.volumes import apart
from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import Volume, VolumeError
from ct_rate_pairs.volumes.told import collected_warnings


AFFINE = np.diag([-2.0, -3.0, 4.0, 1.0])
GRID = {"num_slices": 4, "spacing": (2, 3, 4)}
ENDINGS = {
    "crash": "ended by SIGSEGV: it is damaged, or its decoder fails. Export it again",
    "take_memory": "there is not enough memory to read it. Leave it out, or read it on a larger machine",
    "hang": "it was not read within 1 s. Copy it to a faster disk",
    "be_killed": "ended by SIGKILL, as by a machine without free memory. Use fewer workers",
}
pytestmark = pytest.mark.usefixtures("reads_apart")


@pytest.fixture
def file(tmp_path) -> Path:
    return save(tmp_path / "v.nii.gz", marked_volume(), AFFINE)


@pytest.fixture
def failing(file, monkeypatch):
    """Lets the inflater fail at the file, in a given way."""
    monkeypatch.setattr(apart, "MEMORY", 2**29)
    monkeypatch.setattr(apart, "_BESIDE", 0)

    def fail(way: str) -> None:
        fail_at(file.name, way, monkeypatch)
        if way == "hang":
            monkeypatch.setattr(apart, "SECONDS", 1)

    return fail


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("way", WAYS)
def test_what_a_decoder_does_costs_that_volume_alone(file, failing, capfd, way):
    failing(way)
    before = children()
    with pytest.raises(VolumeError, match=f"^{re.escape(str(file))}: .*{re.escape(ENDINGS[way])}"):
        read_volume(file)
    with pytest.raises(VolumeError, match=f"^the scan: .*{re.escape(ENDINGS[way])}"):
        read_scan(file)
    other = file.rename(file.with_name("other.nii.gz"))
    assert read_slices(other, **GRID).shape[0] == 4
    assert children() == before and capfd.readouterr() == ("", "")


def test_a_decoder_of_dicom_that_crashes_costs_that_scan_alone(tmp_path, monkeypatch):
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 16, 12), dtype=np.int16)
    datasets = slices(hu, DICOM_AFFINE)
    for dataset in datasets:
        dataset.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom")
    scan = write(tmp_path / "scan", datasets)
    assert read_scan(scan).stored.shape == (12, 16, 20)
    monkeypatch.setenv(WAY, "crash")
    monkeypatch.setattr(RLELosslessDecoder, "_available", {})
    RLELosslessDecoder.add_plugin("failing", ("helpers.failing_decoders", "decode"))
    try:
        with pytest.raises(VolumeError, match="ended by SIGSEGV.*DICOM uncompressed"):
            read_scan(scan)
    finally:
        RLELosslessDecoder.remove_plugin("failing")


def test_a_volume_read_apart_is_that_read_here_bit_for_bit(file, monkeypatch):
    there = read_volume(file)
    monkeypatch.setattr(apart, "IS_APART", False)
    here = read_volume(file)
    np.testing.assert_array_equal(there.stored, here.stored)
    assert there.stored.dtype == here.stored.dtype and there.stored.flags.writeable
    assert (there.name, there.spacing, there.slope) == (here.name, here.spacing, here.slope)
    np.testing.assert_array_equal(there.slices(**GRID)[0], read_slices(file, **GRID))


def test_an_error_of_what_uses_the_volume_stays_what_it_is(file):
    def fail(volume: Volume) -> None:
        raise KeyError(volume.stored.shape)

    with pytest.raises(KeyError, match="12"):
        read_volume(file, use=fail)
    with pytest.raises(ValueError, match="window='bogus'") as raised:
        read_slices(file, window="bogus")
    assert not isinstance(raised.value, VolumeError)


def test_what_is_told_and_warned_is_told_and_warned_by_the_caller(file, caplog):
    file.write_bytes(file.read_bytes() + b"odd")

    def warn(volume: Volume) -> str:
        warnings.warn("odd values", RuntimeWarning, stacklevel=1)
        return volume.name

    with pytest.warns(RuntimeWarning, match="odd values"), collected_warnings() as told:
        assert read_volume(file, use=warn) == str(file)
    assert len(told) == len(caplog.records) == 1 and "3 bytes follow" in told[0]
    assert caplog.records[0].process == os.getpid()


@pytest.mark.slow
def test_threads_read_at_the_same_time(file, failing):
    failing("crash")
    good = save(file.with_name("good.nii.gz"), marked_volume(), AFFINE)
    got, expected = [], read_slices(good, **GRID)

    def read(path: Path) -> None:
        try:
            got.append(np.array_equal(read_slices(path, **GRID), expected))
        except VolumeError as error:
            got.append("SIGSEGV" in str(error))

    threads = [threading.Thread(target=read, args=(path,)) for path in (good, file) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 8


class Scans(torch.utils.data.Dataset):
    """Slices of files; `None` for a file that cannot be read."""

    def __init__(self, *paths: Path):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number: int) -> np.ndarray | str:
        try:
            return read_slices(self.paths[number], **GRID)
        except VolumeError as error:
            return str(error)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_worker_outlives_the_volumes_that_end_their_readers(file, failing, tmp_path, monkeypatch, start):
    failing("crash")
    if start == "spawn":  # where nothing of this process is patched
        (tmp_path / "sitecustomize.py").write_text("import helpers.failing_decoders")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    good = save(file.with_name("good.nii.gz"), marked_volume(), AFFINE)
    loader = DataLoader(Scans(good, file, good), batch_size=None, num_workers=1, multiprocessing_context=start)
    first, second, third = loader
    np.testing.assert_array_equal(first, read_slices(good, **GRID))
    assert "SIGSEGV" in second and np.array_equal(first, third)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_reader_outlives_its_parent(file, tmp_path, number):
    code = f"""
import os, time
from ct_rate_pairs.volumes import nifti
def hang(*_):
    print(os.getpid(), flush=True)
    time.sleep(3600)
nifti.grid_of_header = hang
nifti.read_volume({str(file)!r})
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert child != parent.pid and Path(f"/proc/{child}").exists()
        parent.send_signal(number)
        assert parent.wait(60) == -number
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the reader still runs")


def test_signals_for_the_parent_do_not_reach_the_reader_nor_its_handlers(file, monkeypatch):
    got = []
    before = [signal.signal(number, lambda *_: got.append(os.getpid())) for number in (signal.SIGUSR1, signal.SIGTERM)]

    def signalled(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getppid(), signal.SIGUSR1)
        return "read"

    try:
        assert read_volume(file, use=signalled) == "read"
    finally:
        for number, handler in zip((signal.SIGUSR1, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert got == [os.getpid()]


@pytest.mark.parametrize("way", ["crash", "none"])
def test_it_works_where_nobody_waits_for_children(file, failing, monkeypatch, way):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        if way == "none":
            monkeypatch.setenv(FILE, "another")
            assert read_slices(file, **GRID).shape[0] == 4
        else:
            failing(way)
            with pytest.raises(VolumeError, match="the process that read it ended without an answer"):
                read_volume(file)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_without_a_safe_fork_a_volume_is_read_in_the_process_itself(file, monkeypatch):
    monkeypatch.setattr(apart, "IS_APART", False)
    assert read_volume(file, use=lambda volume: os.getpid()) == os.getpid()
    file.write_bytes(b"x" * 400)
    with pytest.raises(VolumeError, match="not a NIfTI file"):
        read_volume(file)


@pytest.mark.slow
def test_the_warning_of_python_312_about_forks_reaches_nobody(file):
    code = f"""
import threading, time, warnings
warnings.simplefilter("error")
threading.Thread(target=time.sleep, args=(1,)).start()
from ct_rate_pairs.volumes import apart, read_slices
text = "This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the child."
warnings.warn_explicit(text, DeprecationWarning, apart.__file__, 1, module=apart.__name__)
read_slices({str(file)!r}, **{GRID!r})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.fixture
def many(tmp_path, monkeypatch, reads_apart) -> list[tuple[Path, np.ndarray]]:
    """Files and their voxels, for a process that reads several."""
    monkeypatch.setattr(apart, "VOLUMES", 3)
    volumes = [marked_volume() + np.int16(k) for k in range(5)]
    return [(save(tmp_path / f"{k}.nii.gz", volume, AFFINE), volume) for k, volume in enumerate(volumes)]


def is_read(file: Path, voxels: np.ndarray) -> bool:
    return read_volume(file).stored.max() == voxels.max()


def test_a_process_reads_several_volumes_and_then_another_does(many):
    before, seen = children(), []
    for file, voxels in many:
        assert is_read(file, voxels)
        seen.append([child for child in children() if child not in before])
    assert [len(of_read) for of_read in seen] == [1, 1, 0, 1, 1]  # the third volume is the last one
    assert seen[0] == seen[1] and seen[3] == seen[4] != seen[0]


def test_after_a_failure_or_an_interruption_the_next_volume_is_read_as_ever(many, monkeypatch):
    assert is_read(*many[0])
    of_thread = apart._of_thread
    child = of_thread.process.child
    os.kill(child, signal.SIGKILL)  # while it waits: no volume has done that
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert is_read(*many[1]) and of_thread.process.child != child

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(apart, "_received", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_volume(many[2][0])
    assert is_read(*many[3])  # and not the volume before, whose answer nobody has taken


@pytest.mark.slow
def test_each_thread_and_each_fork_has_a_process_of_its_own(many):
    assert is_read(*many[0])
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda pair: is_read(*pair), many * 3))
    if not (child := os.fork()):
        os._exit(0 if is_read(*many[4]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert is_read(*many[1])


def test_the_process_holds_no_file_of_its_parent_open(many, tmp_path):
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_read(*many[0])
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_taken_from_a_volume_may_be_any_function(many):
    (file, voxels), shift = many[0], 3
    assert read_volume(file, use=lambda volume: int(volume.stored.max()) + shift) == voxels.max() + 3
