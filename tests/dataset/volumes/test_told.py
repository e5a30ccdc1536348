"""Warnings of the readers are shown, collected, and in a training told once."""

import subprocess
import sys
import threading

import nibabel as nib
import pytest
from datasets import load_dataset
from helpers.tree import SPACING, write_tree

from ct_rate_pairs.volumes.told import collected_warnings, each_warning_once, tell


SCRIPT = """
from ct_rate_pairs.volumes.told import collected_warnings, tell
tell("before")
with collected_warnings() as told:
    tell("during %s", "it")
tell("after: 1 %")
print(told)
"""


@pytest.mark.slow
def test_warnings_are_shown_with_and_without_being_collected():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "['during it']\n" and done.stderr.split("\n") == ["before", "during it", "after: 1 %", ""]


def test_another_thread_s_warnings_are_not_collected(caplog):
    with collected_warnings() as told:
        thread = threading.Thread(target=tell, args=["theirs"])
        thread.start()
        thread.join()
        tell("ours")
    assert told == ["ours"] and [record.getMessage() for record in caplog.records] == ["theirs", "ours"]


def test_a_warning_that_was_shown_is_left_out_where_each_is_told_once_and_collected_all_the_same(caplog):
    for _ in range(2):
        with each_warning_once(), collected_warnings() as told:
            tell("%s: a warning of this test", "train_1")
    assert told == ["train_1: a warning of this test"] and len(caplog.records) == 1
    tell("%s: a warning of this test", "train_1")  # another read of a scan, by itself
    assert len(caplog.records) == 2


@pytest.mark.slow_but_first
@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_tells_of_a_volume_once_however_often_it_is_read(tmp_path, caplog, streaming):
    tree = write_tree(tmp_path / "tree")
    for path in tree.rglob("*.nii.gz"):
        image = nib.load(path)
        image.header.set_qform(None, code=0)
        image.header.set_sform(None, code=0)
        nib.save(nib.Nifti1Image(image.get_fdata().astype("int16"), None, image.header), path)
    options = {"data_dir": str(tree), "spacing": SPACING, "num_slices": 3, "negative": "heter", "split": "test"}
    rows = load_dataset("ct_rate_pairs", streaming=streaming, **options)
    for _ in range(2):
        assert all(row["images"] for row in rows)
    told = [record.getMessage() for record in caplog.records if "valid_" in record.getMessage()]
    assert len(told) == len(set(told)) >= 12
