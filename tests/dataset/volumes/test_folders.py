"""What lies in the folder of a scan: links, pipes, hidden files, other files, and scans beside each other."""

import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, slices, write
from helpers.marked_volume import save
from helpers.scans import assert_refused, metaimage, noise, packed

from ct_rate_pairs.volumes.scan_files import digest, files_of, find_scans, read_scan
from ct_rate_pairs.volumes.slicing import VolumeError


@pytest.fixture
def alarm():
    """Ends a test that would wait for ever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("name", ["DOE.nii", "DOE.nii.gz", "DOE.mha", "DOE.zip", "DOE.dcm"])
def test_pipes_and_devices_are_refused_whatever_they_are_called(tmp_path, alarm, name):
    (tmp_path / "pipe").mkdir()
    (tmp_path / "device").mkdir()
    os.mkfifo(tmp_path / "pipe" / name)
    (tmp_path / "device" / name).symlink_to("/dev/zero")
    for folder in ("pipe", "device"):
        path = tmp_path / folder / name
        assert_refused(path, "the scan: cannot be read: no file, but a folder, a pipe, a socket or a device")
        with pytest.raises(VolumeError, match="the scan: cannot be read: no file"):
            digest(path)
        write(tmp_path / folder, slices(noise(), AFFINE))
        assert find_scans([tmp_path / folder]) == (
            ([path.parent], False) if name == "DOE.dcm" else ([*sorted([path, path.parent])], True)
        )
        assert_refused(tmp_path / folder, "1 of its 13 files are links that lead nowhere, pipes or devices")


def test_a_batch_reports_volumes_that_cannot_be_read(tmp_path):
    """Beside other scans only: a series may come with the .nrrd of a segmentation."""
    series = write(tmp_path / "series", slices(noise(), AFFINE))
    (series / "segmentation.nrrd").write_bytes(b"NRRD0004")
    assert find_scans([series]) == ([series], False)
    (tmp_path / "v.hdr").write_bytes(b"DOE")
    (tmp_path / "v.img").write_bytes(b"DOE")
    nifti = save(tmp_path / "w.nii.gz", noise(), AFFINE)
    assert find_scans([tmp_path]) == ([series, series / "segmentation.nrrd", tmp_path / "v.hdr", nifti], True)
    assert_refused(tmp_path / "v.hdr", r"give a \.nii\.gz.*has a \.hdr: write both as one \.nii\.gz")


def test_what_systems_leave_behind_is_no_file_of_a_scan(tmp_path, caplog):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    (folder / ".DS_Store").write_bytes(b"DOE")
    archive = packed(folder, tmp_path / "d.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("__MACOSX/DOE/._1.dcm", b"DOE")
    for path in (folder, archive):
        assert len(read_scan(path).stored) == 12
    assert not caplog.records


def test_a_hidden_slice_is_left_out_of_a_folder_and_a_zip_and_told(tmp_path, caplog):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    last = sorted(folder.iterdir())[-1]  # no slice is missing between others
    last.rename(folder / f".{last.name}")
    (folder / ".DS_Store").write_bytes(b"DOE")
    (folder / f"._{last.name}").write_bytes(b"\0\5\x16\7" + bytes(200))
    for path in (folder, packed(folder, tmp_path / "d.zip")):
        caplog.clear()
        assert len(read_scan(path).stored) == 11
        assert caplog.messages == [
            "1 hidden files of the scan look like slices, and were left out: their names begin with a dot. If they "
            "are slices, rename them."
        ]


def linked(folder: Path, parts: int = 3) -> Path:
    """The slices of a series behind links: to files, to a folder, and to a folder behind a link of its own."""
    away = write(folder.parent / "away", slices(noise(), AFFINE))
    (folder / "real").mkdir(parents=True)
    (away / "deep").mkdir()
    for number, file in enumerate(sorted(away.glob("*.dcm"))):
        if number % parts == 0:
            (folder / f"DOE_{number}").symlink_to(file)
        elif number % parts == 1:
            file.rename(away / "deep" / file.name)
        else:
            file.rename(folder / "real" / file.name)
    (away / "behind").symlink_to(away / "deep")
    (folder / "a_link").symlink_to(away / "behind")
    return folder


def test_links_to_files_and_folders_are_followed_by_every_reader(tmp_path, caplog):
    folder = linked(tmp_path / "d" / "study")
    expected = read_scan(write(tmp_path / "plain", slices(noise(), AFFINE))).stored
    np.testing.assert_array_equal(read_scan(folder).stored, expected)
    assert find_scans([tmp_path / "d" / "study"]) == ([folder], False)
    archive = packed(folder, tmp_path / "d.zip")  # which packs what links stand for
    with zipfile.ZipFile(archive, "a") as opened:
        for file in (folder / "a_link").iterdir():
            opened.write(file, f"behind/{file.name}")
    np.testing.assert_array_equal(read_scan(archive).stored, expected)
    assert digest(folder) == digest(tmp_path / "plain")
    (tmp_path / "linked").symlink_to(folder)
    np.testing.assert_array_equal(read_scan(tmp_path / "linked").stored, expected)
    batch = tmp_path / "batch"
    batch.mkdir()
    (batch / "one.nii.gz").symlink_to(save(tmp_path / "DOE.nii.gz", noise(), AFFINE))
    (batch / "two").symlink_to(folder)
    assert find_scans([batch]) == ([batch / "one.nii.gz", batch / "two"], True)
    assert not caplog.records


@pytest.mark.parametrize("target", ["..", ".", "../..", "../study", "real", "/"])
def test_links_that_lead_back_are_passed_over_with_a_warning(tmp_path, caplog, target):
    folder = linked(tmp_path / "d" / "study")
    (folder / "z_back").symlink_to(target)
    assert len(read_scan(folder).stored) == 12
    assert caplog.messages == [
        "1 links to folders that are read anyway, or that lie around the scan, were passed over."
    ]
    assert find_scans([folder]) == ([folder], False)


def test_a_folder_is_read_under_its_own_name_whatever_the_link_to_it_is_called(tmp_path):
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "real", slices(noise(), AFFINE))
    (tmp_path / "d" / "a_link").symlink_to("real")
    assert {file.parent.name for file in files_of(tmp_path / "d")} == {"real"}


def test_a_link_that_leads_nowhere_is_refused(tmp_path, capfd):
    folder = linked(tmp_path / "d" / "study")
    (folder / "DOE_0").unlink()
    (folder / "DOE_0").symlink_to("DOE_JANE")
    (folder / "DOE_3").unlink()
    (folder / "DOE_3").symlink_to("DOE_3")
    assert_refused(folder, "2 of its 12 files are links that lead nowhere", capfd)


def test_a_folder_that_cannot_be_read_is_told_and_not_named(tmp_path, monkeypatch):
    def refuse(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr("ct_rate_pairs.volumes.scan_files.os.walk", refuse)
    assert_refused(tmp_path, "the scan: one of its folders cannot be read: Permission denied")


@pytest.mark.parametrize("name", ["DOE.nii.gz", "DOE.nii", "DOE.mha", "DOE.zip"])
def test_a_volume_in_a_folder_of_its_own_is_read(tmp_path, name):
    """As Kaggle unpacks a volume."""
    folder = tmp_path / "DOE.nii.gz"
    folder.mkdir()
    if name == "DOE.zip":
        packed(write(tmp_path / "d", slices(noise(), AFFINE)), folder / name)
    elif name == "DOE.mha":
        metaimage(noise(), AFFINE, folder / name)
    else:
        save(folder / name, noise(), AFFINE)
    assert read_scan(folder).stored.shape == noise().shape[::-1]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("DOE.nii.gz", "DOE.csv"), r"its 2 files \(1 .csv, 1 .nii.gz\). Give the path of the .nii.gz file itself"),
        (("a.dcm.xz", "b.dcm.xz"), r"its 2 files \(2 .dcm.xz\). Unpack the .dcm.xz files"),
        (("DOE.zip", "DOE.txt"), r"its 2 files \(1 .txt, 1 .zip\). Give the path of the .zip itself"),
        (("1.dcm.gz", "2.dcm.gz"), r"its 2 files \(2 .dcm.gz\). Unpack the .dcm.gz files"),
        (("1.JANE", "2.JANE", "3"), r"its 3 files \(2 of another suffix, 1 without a suffix\). Give the folder"),
    ],
)
def test_a_folder_without_dicom_tells_what_is_there_and_how_to_pass_it(tmp_path, names, told):
    for name in names:
        (tmp_path / name).write_bytes(b"DOE^JANE")
    assert_refused(tmp_path, "no DICOM image among " + told)
