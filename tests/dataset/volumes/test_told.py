"""Warnings of the readers are collected, and still shown."""

import logging
import subprocess
import sys
import threading

import pytest

from ct_rate_pairs.volumes.told import collected_warnings


SCRIPT = """
import logging, sys
from ct_rate_pairs.volumes.told import collected_warnings
reader = logging.getLogger("ct_rate_pairs.volumes.nifti")
reader.warning("before")
with collected_warnings() as told:
    reader.warning("during %s", "it")
    reader.info("not this")
reader.warning("after")
print(told)
"""


@pytest.mark.slow
def test_warnings_are_shown_with_and_without_being_collected():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "['during it']\n" and done.stderr.split("\n") == ["before", "during it", "after", ""]


def test_another_thread_s_warnings_are_not_collected(caplog):
    def read() -> None:
        logging.getLogger("ct_rate_pairs.volumes.nifti").warning("theirs")

    with collected_warnings() as told:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        logging.getLogger("ct_rate_pairs.volumes.dicom.series").warning("ours")
    assert told == ["ours"] and [record.getMessage() for record in caplog.records] == ["theirs", "ours"]
