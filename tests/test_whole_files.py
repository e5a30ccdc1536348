"""A file is the old one or the new one, whatever happens while it is written."""

import os
import signal
import subprocess
import sys

import pytest

from ct_rate_pairs.whole_files import write_whole


def test_a_text_is_written_as_it_is_and_others_may_read_it(tmp_path):
    path = tmp_path / "file.json"
    for text in ("Übersicht\n", "", "short"):
        write_whole(path, text)
        assert path.read_text("utf-8") == text
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert {file.name for file in tmp_path.iterdir()} == {"file.json", "plain"}


def test_a_private_file_is_for_this_user_alone_whoever_could_read_the_old_one(tmp_path):
    path = tmp_path / "report.dcm"
    write_whole(path, "for all")
    write_whole(path, b"DOE^JANE", private=True)
    assert (path.stat().st_mode & 0o777, path.read_bytes()) == (0o600, b"DOE^JANE")


@pytest.mark.parametrize("fails", ["fsync", "chmod", "replace"])
def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "file.json"
    write_whole(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(("os.fsync", full) if fails == "fsync" else (f"pathlib.Path.{fails}", full)))
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.json"]


def test_a_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.json"]


WRITER = """
import sys
from ct_rate_pairs.whole_files import write_whole
number = 0
while True:
    number += 1
    write_whole(sys.argv[1], f"{number} " * 20_000)
    if number == 3:
        print("on", flush=True)
"""


@pytest.mark.slow
def test_a_kill_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file.json"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    words = path.read_text().split()
    assert len(words) == 20_000 and len(set(words)) == 1
