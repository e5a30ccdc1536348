"""Scans in zips, and in files that gzip has packed: read without unpacking, whatever the archive holds."""

import gzip
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, enhanced, slices, write
from helpers.marked_volume import save
from helpers.scans import assert_refused, gzipped, link_in_zip, noise, packed
from pydicom import dcmwrite

from ct_rate_pairs.volumes.scan_files import find_scans, read_scan


@pytest.mark.parametrize("name", ["../DOE.dcm", "a/../../DOE.dcm", "/etc/DOE", "C:\\DOE", "..\\DOE", "\\\\host\\DOE"])
def test_a_zip_that_names_files_outside_itself_is_refused(tmp_path, name):
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    assert_refused(path, "outside its own folder")


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path):
    with zipfile.ZipFile(tmp_path / "DOE.zip", "w") as archive:
        for number in range(5001):
            archive.writestr(f"{number}", b"")
    assert_refused(tmp_path / "DOE.zip", "5001 files.*at most 5000")
    with zipfile.ZipFile(tmp_path / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("DOE.dcm", "w", force_zip64=True) as entry:
            entry.write(bytes(1000))
        archive.infolist()[0].file_size = 5 * 2**30  # what the directory, written at the end, promises
    assert_refused(tmp_path / "large.zip", "1 files of 5.0 GB inflated.*4 GB")
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    with zipfile.ZipFile(tmp_path / "lying.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.writestr(file.name, file.read_bytes() + bytes(2**20))
        for entry in archive.infolist():
            entry.file_size = 1000  # it inflates to more
    assert_refused(tmp_path / "lying.zip", "damaged|cannot be decoded")


def test_a_zip_whose_files_are_the_same_bytes_is_refused(tmp_path):
    """A small zip could else take hours: each of its files would be read."""
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"DOE"  # the directory is written anew
        first = archive.infolist()[0]
        archive.filelist += [first] * 20
    assert_refused(path, "more bytes than it has, or several of them are the same bytes")


@pytest.mark.parametrize("mark", ["/", "\\"])
def test_a_slice_that_is_named_like_a_folder_is_read_and_a_folder_is_none(tmp_path, caplog, mark):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr(f"DOE{mark}", b"")
        for file in folder.iterdir():
            archive.writestr(f"DOE{mark}{file.name}{mark}", file.read_bytes())
    assert len(read_scan(tmp_path / "d.zip").stored) == 12
    assert not caplog.messages


@pytest.mark.parametrize("mark", ["/", "\\"])
def test_hidden_files_and_links_in_a_zip_are_known_by_either_mark_between_folders(tmp_path, caplog, mark):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for file in folder.iterdir():
            archive.writestr(f"DOE{mark}{file.name}", file.read_bytes())
            archive.writestr(f"__MACOSX{mark}DOE{mark}._{file.name}", b"\0\5\x16\7" + bytes(200))
    name = next(folder.iterdir()).name
    link_in_zip(tmp_path / "d.zip", f"DOE{mark}copy.dcm", name)
    assert len(read_scan(tmp_path / "d.zip").stored) == 12
    assert caplog.messages == ["1 links in the zip to files that the zip holds were passed over."]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_python_inflates_without_a_limit_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "DOE.zip", "w", method) as archive:
        for file in write(tmp_path / "d", slices(noise(), AFFINE)).iterdir():
            archive.write(file, file.name)
    assert_refused(tmp_path / "DOE.zip", "packed by another method than deflate.*as a plain zip")


def test_a_zip_with_a_long_directory_is_refused_before_the_directory_is_read(tmp_path, monkeypatch):
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    monkeypatch.setattr("ct_rate_pairs.volumes.scan_files._MOST_DIRECTORY", 9000)
    read_scan(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = bytes(5000)
    assert_refused(path, "the zip lists more files than a scan has")


@pytest.mark.parametrize("name", ["\0", "\0DOE"])  # what follows a zero is no part of a name in a zip
def test_a_file_without_a_name_in_a_zip_is_a_file(tmp_path, name):
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        archive.writestr(entry, b"DOE")
    assert len(read_scan(path).stored) == 12


def test_a_flipped_voxel_in_a_zip_is_refused(tmp_path):
    datasets = slices(noise(), AFFINE)
    for dataset in datasets:
        dataset.add_new(0xFFFCFFFC, "OB", bytes(2**16))  # trailing padding: the checksum comes long after the voxels
    path = tmp_path / "DOE.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in write(tmp_path / "d", datasets).iterdir():
            archive.write(file, file.name)
    data = bytearray(path.read_bytes())
    data[data.index(datasets[5].PixelData) + 99] ^= 1
    path.write_bytes(data)
    assert_refused(path, r"slice 6 cannot be decoded \(BadZipFile\)")


def test_an_encrypted_or_damaged_zip_is_refused(tmp_path):
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[len(data) // 3] ^= 1
    path.write_bytes(damaged)
    assert_refused(path, r"slice \d+ cannot be decoded|damaged")
    locked = bytearray(data)
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    assert_refused(path, "encrypted")


def test_nothing_of_a_zip_is_written_to_disk(tmp_path, monkeypatch):
    path = packed(write(tmp_path / "d", slices(noise(), AFFINE)), tmp_path / "DOE.zip")
    shutil.rmtree(tmp_path / "d")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    read_scan(path)
    assert list(tmp_path.iterdir()) == [path]


def test_links_in_a_zip_are_passed_over_if_it_holds_what_they_lead_to_and_refused_otherwise(tmp_path, caplog):
    """As `zip -y` packs them."""
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    archive = packed(folder, tmp_path / "d.zip")
    name = next(folder.iterdir()).name
    link_in_zip(archive, "DOE_JANE/copy.dcm", name)
    link_in_zip(archive, "other/folder", "../DOE_JANE")
    assert len(read_scan(archive).stored) == 12
    assert caplog.messages == ["2 links in the zip to files that the zip holds were passed over."]
    for target in ("../../DOE.dcm", "/etc/DOE", "absent.dcm"):
        copy = Path(shutil.copy(archive, tmp_path / "copy.zip"))
        link_in_zip(copy, "DOE_JANE/lost.dcm", target)
        assert_refused(copy, "1 files of the zip are links to files that the zip does not hold")


def test_a_zip_of_another_volume_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "DOE.zip", "w") as archive:
        archive.write(save(tmp_path / "DOE.nii.gz", noise(), AFFINE), "DOE.nii.gz")
    assert_refused(tmp_path / "DOE.zip", "no DICOM image among its 1 files.*Unpack a zip of a volume")


@pytest.mark.parametrize("number", [1, None])
def test_slices_that_gzip_has_packed_are_read(tmp_path, caplog, number):
    expected = read_scan(write(tmp_path / "d", slices(noise(), AFFINE))).stored
    folder = gzipped(tmp_path / "d", number)
    assert find_scans([folder]) == ([folder], False)
    for scan in (folder, packed(folder, tmp_path / "d.zip")):
        np.testing.assert_array_equal(read_scan(scan).stored, expected)
    assert not caplog.text


def test_one_packed_file_of_an_enhanced_ct_is_a_scan(tmp_path):
    dcmwrite(tmp_path / "DOE.dcm", enhanced(slices(noise(), AFFINE)), enforce_file_format=True)
    expected = read_scan(tmp_path / "DOE.dcm").stored
    (tmp_path / "DOE.gz").write_bytes(gzip.compress((tmp_path / "DOE.dcm").read_bytes()))
    np.testing.assert_array_equal(read_scan(tmp_path / "DOE.gz").stored, expected)


@pytest.mark.parametrize("kept", [-100, 200, 12])
def test_a_packed_slice_that_is_cut_is_refused(tmp_path, kept):
    folder = gzipped(write(tmp_path / "d", slices(noise(), AFFINE)), 1)
    file = next(folder.glob("*.gz"))
    file.write_bytes(file.read_bytes()[:kept])
    assert_refused(folder, "file .* of the scan is damaged")


def test_another_archive_is_refused_with_what_to_do(tmp_path):
    for name in ("DOE.tar.gz", "DOE.7z", "DOE.nrrd"):
        (tmp_path / name).write_bytes(gzip.compress(bytes(900)))
        assert_refused(tmp_path / name, r"Unpack any other archive \(.tar, .7z\) and give its folder.*as .nii.gz")


def test_a_page_in_the_place_of_a_slice_is_refused_in_a_zip_too(tmp_path):
    folder = write(tmp_path / "d", slices(noise(), AFFINE)[:11])
    (folder / "DOE_JANE_1_999.dcm").write_text("<html>404")
    assert_refused(packed(folder, tmp_path / "d.zip"), "file .* is a text or a page of HTML, though it is named as")


PACKED_HEAD = b"\x1f\x8b\x08"  # of gzip
ODD = {
    "cut": gzip.compress(bytes(10_000))[:20],
    "damaged": PACKED_HEAD + bytes(7) + b"\xff" * 500,
    "a name without an end": PACKED_HEAD + b"\x08" + bytes(6) + b"a" * 3_000_000,
    "nothing many times": gzip.compress(b"") * 100_000,
    "a bomb": gzip.compress(bytes(10_000_000)) * 20,
}


@pytest.mark.parametrize("packed", ODD)
def test_a_packed_file_that_is_damaged_or_hostile_ends_no_batch(tmp_path, packed):
    sound = tmp_path / "a.nii.gz"
    sound.write_bytes(b"")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "slice.dcm.gz").write_bytes(ODD[packed])
    scans, is_batch = find_scans([tmp_path])
    assert sound in scans and is_batch
