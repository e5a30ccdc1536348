"""One volume, whichever format it comes in: the same slices; and no path, name or UID in what is said of it."""

import gzip
import io
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tempfile
import traceback
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom_series import PLANTED, enhanced, slices, write
from helpers.marked_volume import marked_volume, save
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmwrite

from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.scan_files import digest, files_of, find_scans, read_scan
from ct_rate_pairs.volumes.slicing import VolumeError


AFFINE = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 20], [0, 0, 4.0, -120], [0, 0, 0, 1]])
GRID = {"num_slices": 4, "spacing": (2, 3, 4), "window": (-1000, 1000)}


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, Path("DOE_JANE", file.name))
    return path


def metaimage(array: np.ndarray, affine: np.ndarray, path: Path, compressed: bool = False) -> Path:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    zooms = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(zooms.tolist())
    image.SetDirection((lps[:3, :3] / zooms).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), compressed)
    return path


def assert_refused(path: Path, match: str, capfd=None, **given_) -> None:
    with pytest.raises(VolumeError, match=match) as raised:
        read_scan(path, **given_)
    told = "".join(traceback.format_exception(raised.value)) + ("".join(capfd.readouterr()) if capfd else "")
    assert not [word for word in (*PLANTED, str(path)) if word in told]


def turned(degrees: float, axis: int) -> np.ndarray:
    turn, angle = np.eye(4), np.radians(degrees)
    i, j = (other for other in range(3) if other != axis)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


DISPLAY = nib.orientations.axcodes2ornt("LPI")


def noise(shape=(20, 16, 12), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)


# Planes that DICOM stacks to axial ones: head or feet first, supine, prone or on the side, and mirrored.
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (2,), (0, 1), (0, 1, 2), (0,), (1, 2)])
def test_every_format_and_orientation_gives_the_slices_of_the_nifti(tmp_path, axes, flips):
    turn = np.array([[axis, -1 if i in flips else 1] for i, axis in enumerate(axes)])
    image = nib.Nifti1Image(noise(), AFFINE).as_reoriented(turn)
    array, affine = np.asarray(image.dataobj), image.affine
    expected = read_slices(save(tmp_path / "v.nii.gz", noise(), AFFINE), **GRID)
    displayed = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), DISPLAY)).affine
    folder = write(tmp_path / "DOE_JANE", slices(array, affine))
    for path in (
        save(tmp_path / "a.nii", array, affine),
        folder,
        packed(folder, tmp_path / "a.zip"),
        metaimage(array, affine, tmp_path / "a.mha", compressed=True),
    ):
        volume = read_scan(path)
        np.testing.assert_array_equal(volume.slices(**GRID)[0], expected)
        np.testing.assert_allclose(volume.affine, displayed, atol=1e-4)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    spacing=st.tuples(st.floats(2.5, 6), st.floats(2.5, 6), st.floats(3.5, 8)),
    angles=st.tuples(*[st.floats(-8, 8)] * 3),
    seed=st.integers(0, 99),
)
def test_any_voxel_size_and_small_rotation_gives_as_many_planes_and_the_same(tmp_path_factory, spacing, angles, seed):
    folder = tmp_path_factory.mktemp("v")
    spacing = np.round(spacing, 3)
    x, y, z = (turned(angle, axis) for axis, angle in enumerate(angles))
    affine = x @ y @ z @ np.diag([-spacing[0], -spacing[1], spacing[2], 1])
    array = noise(seed=seed)
    expected = read_slices(save(folder / "v.nii", array, affine), 4, (2, 3, 4), (-1000, 1000))
    for path in (write(folder / "d", slices(array, affine)), metaimage(array, affine, folder / "v.mha")):
        np.testing.assert_array_equal(read_scan(path).slices(**GRID)[0], expected)


def test_a_volume_is_named_by_nothing_of_its_path(tmp_path):
    folder = write(tmp_path / "DOE_JANE", slices(marked_volume(), AFFINE))
    paths = [save(tmp_path / "DOE_JANE.nii.gz", marked_volume(), AFFINE), folder, packed(folder, tmp_path / "DOE.zip")]
    names = [read_scan(path).name for path in paths]
    assert names == ["the scan", "series 1 of the scan", "series 1 of the scan"]


def test_one_of_several_series_is_chosen_in_a_folder_and_a_zip_and_nowhere_else(tmp_path):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    write(folder, slices(marked_volume(), AFFINE, series=2))
    for path in (folder, packed(folder, tmp_path / "d.zip")):
        assert_refused(path, "2 of its 2 series are axial CT(.|\n)*2: CT, 12 slices")
        assert read_scan(path, series=2).stored.max() == 300
    assert_refused(save(tmp_path / "v.nii", noise(), AFFINE), "single volume", series=2)


@pytest.mark.parametrize("degrees", [0, 7])
@pytest.mark.parametrize("flips", [(), (2,), (0, 1)])
def test_itk_reads_the_same_slices_from_the_same_series(tmp_path, degrees, flips):
    tilted = turned(degrees, 0) @ turned(degrees, 2) @ AFFINE
    image = nib.Nifti1Image(noise(), tilted).as_reoriented([[axis, -1 if axis in flips else 1] for axis in range(3)])
    folder = write(tmp_path / "d", slices(np.asarray(image.dataobj), image.affine))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    sitk.WriteImage(sitk.ReadImage(names), str(tmp_path / "itk.nii.gz"))
    np.testing.assert_array_equal(
        read_scan(folder).slices(**GRID)[0], read_slices(tmp_path / "itk.nii.gz", 4, (2, 3, 4))
    )


def test_guards_of_the_nifti_hold_for_every_format(tmp_path):
    tilted, flat = turned(25, 0) @ AFFINE, AFFINE @ np.diag([1, 1, 0.2, 1])
    for affine, cause in ((tilted, "25 degrees"), (flat, "cannot be a chest")):
        assert_refused(metaimage(marked_volume(), affine, tmp_path / "DOE.mha"), f"the scan.*{cause}")
        folder = write(tmp_path / cause, slices(marked_volume(), affine))
        assert_refused(folder, f"series 1.*{cause}")


def test_files_that_cannot_be_read_are_not_named(tmp_path, capfd):
    whole = save(tmp_path / "DOE_JANE.nii.gz", noise(), AFFINE).read_bytes()
    meta = metaimage(noise(), AFFINE, tmp_path / "DOE_JANE.mha").read_bytes()
    (tmp_path / "DOE_EMPTY").mkdir()
    assert_refused(tmp_path / "DOE_EMPTY", "no DICOM image among its 0 files", capfd)
    for name, data, cause in (
        ("DOE_1.nii.gz", whole[:-200], "truncated"),
        ("DOE_2.nii", b"<html>" * 100, "not a NIfTI"),
        ("DOE_3.mha", meta[:-100], "file ends early"),
        ("DOE_4.mha", b"<html>" * 100, "not a MetaImage"),
        ("DOE_5.zip", b"PK" + bytes(100), "zip is truncated"),
        ("DOE_6.dcm", bytes(200), "single DICOM file is one slice"),
        ("DOE_7.JANE", b"", "give a .nii.gz"),
    ):
        (tmp_path / name).write_bytes(data)
        assert_refused(tmp_path / name, cause, capfd)
        assert_refused(tmp_path / f"absent_{name}", "no such file", capfd)


def test_a_file_that_cannot_be_opened_is_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as closed:  # opening it fails, for root too
        closed.bind("DOE.nii")
        assert_refused(Path("DOE.nii"), "the scan: cannot be read")


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((8, 8), np.int16), "three dimensions"),
        (np.zeros((12, 16, 20, 3), np.uint8), "one number per voxel"),
        (np.zeros((12, 16, 20), np.complex64), "one number per voxel"),
    ],
)
def test_a_metaimage_that_is_no_volume_is_refused(tmp_path, array, cause):
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 4), str(tmp_path / "DOE.mha"))
    assert_refused(tmp_path / "DOE.mha", cause)


@pytest.mark.parametrize("dimensions", ["-1", "0", "x", "1e9"])
def test_a_metaimage_of_impossible_dimensions_does_not_end_the_process(tmp_path, dimensions):
    path = metaimage(noise(), AFFINE, tmp_path / "DOE.mha")
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", f"NDims = {dimensions}".encode()))
    assert_refused(path, "its header has no number of dimensions")


def test_a_metaimage_of_impossible_size_asks_for_no_memory(tmp_path):
    path = metaimage(noise(), AFFINE, tmp_path / "DOE.mha")
    path.write_bytes(path.read_bytes().replace(b"DimSize = 20 16 12", b"DimSize = 9999 9999 9999"))
    assert_refused(path, "more than any CT has")


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


def bomb(**elements) -> bytes:
    """A slice with further bytes, such as a bomb would inflate to."""
    dataset = slices(noise(), AFFINE)[0]
    for keyword, size in elements.items():
        if keyword == "after":
            dataset.add_new(0xFFFCFFFC, "OB", bytes(size))
        else:
            dataset.add_new(keyword, "LT", "DOE " * (size // 4))
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore:The value")  # pydicom, of what it is asked to write
@pytest.mark.parametrize(
    ("elements", "cause"),
    [
        ({"after": 2**21}, r"file 13 of the scan has more than \d+ MB, but its header describes 0.0 MB of pixels"),
        ({"StudyInstanceUID": 2**21}, "file 13 of the scan has more than 1 MB of elements before its pixels"),
    ],
)
def test_a_slice_that_holds_more_than_a_slice_can_is_refused_in_a_folder_and_a_zip(
    tmp_path, monkeypatch, elements, cause
):
    monkeypatch.setattr("ct_rate_pairs.volumes.dicom.plain_files.MOST_HEADER", 2**20)
    monkeypatch.setattr("ct_rate_pairs.volumes.dicom.headers._MOST_BESIDE", 2**20)
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    (folder / "z.dcm").write_bytes(bomb(**elements))
    assert_refused(folder, cause)
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    assert_refused(tmp_path / "d.zip", cause)


@pytest.mark.filterwarnings("ignore:The value")  # pydicom, of what it is asked to write
def test_an_element_that_is_not_needed_may_be_long(tmp_path, monkeypatch):
    monkeypatch.setattr("ct_rate_pairs.volumes.dicom.plain_files.MOST_HEADER", 2**20)
    folder = write(tmp_path / "d", slices(noise(), AFFINE, AdditionalPatientHistory="DOE " * 2**19))
    assert len(read_scan(folder).stored) == 12


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


def test_a_file_larger_than_any_scan_is_refused_before_it_is_read_or_hashed(tmp_path):
    with (tmp_path / "DOE.nii").open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no place on the disk
    assert_refused(tmp_path / "DOE.nii", "the scan: a file of 1024 GB, which is more than any scan has")
    with pytest.raises(VolumeError, match="1024 GB"):
        digest(tmp_path / "DOE.nii")


def raises(error):
    def read(*_):
        raise error

    return read


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (IndexError("DOE"), "damaged, or not what its name says (IndexError). Download or export it again."),
        (RuntimeError("DOE"), "damaged, or not what its name says (RuntimeError). Download or export it again."),
        (RecursionError("DOE"), "damaged, or not what its name says (RecursionError). Download or export it again."),
        (MemoryError("DOE"), "there is not enough memory to read it. Leave it out, or read it on a larger machine."),
        (OSError("DOE"), "cannot be read: OSError."),
        (PermissionError(13, "Permission denied", "DOE"), "cannot be read: Permission denied."),
    ],
)
def test_whatever_a_library_raises_costs_that_scan_alone_and_names_nobody(
    tmp_path, monkeypatch, reads_apart, error, told
):
    path = save(tmp_path / "DOE.nii", noise(), AFFINE)
    monkeypatch.setattr("ct_rate_pairs.volumes.nifti.grid_of_header", raises(error))
    assert_refused(path, f"^{re.escape(f'the scan: {told}')}$")
    with pytest.raises(VolumeError) as raised:  # a dataset's volume: with its cause, for who looks for a fault
        read_volume(path)
    assert str(raised.value) == f"{path}: {told}"
    assert traceback.format_exception_only(error)[-1] in raised.value.__notes__[0]


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


def test_a_name_in_capitals_is_read(tmp_path):
    path = save(tmp_path / "v.nii", noise(), AFFINE)
    (tmp_path / "V.NII.GZ").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_scan(tmp_path / "V.NII.GZ").stored, read_scan(str(path)).stored)


def test_voxels_in_a_second_file_are_refused(tmp_path):
    """A scan is known by the bytes of one file; and a header could name any file."""
    header = metaimage(noise(), AFFINE, tmp_path / "DOE.mhd")
    assert_refused(header, r"A \.mhd has its voxels in a second file: write both as one \.mha")
    header.rename(tmp_path / "DOE.mha")
    assert_refused(tmp_path / "DOE.mha", "not a MetaImage that holds its own voxels")


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


def test_a_metaimage_whose_path_is_no_utf8_is_read(tmp_path):
    path = metaimage(noise(), AFFINE, tmp_path / "a.mha")
    assert len(read_scan(path.rename(tmp_path / os.fsdecode(b"M\xdcLLER.mha"))).stored) == 12


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


@pytest.mark.parametrize("name", ["DOE.dcm", "DOE", "DOE.IMA"])
def test_an_enhanced_ct_is_a_scan_of_one_file(tmp_path, name):
    folder = tmp_path / "DOE_JANE"
    folder.mkdir()
    dcmwrite(folder / name, enhanced(slices(noise(), AFFINE)), enforce_file_format=True)
    expected = read_slices(save(tmp_path / "v.nii.gz", noise(), AFFINE), **GRID)
    for path in (folder / name, folder, packed(folder, tmp_path / "d.zip")):
        np.testing.assert_array_equal(read_scan(path).slices(**GRID)[0], expected)
    assert find_scans([folder / name]) == ([folder / name], False)
    assert_refused(folder / name, "there is no series=2", series=2)


def test_a_single_slice_is_no_scan(tmp_path):
    (file,) = write(tmp_path, slices(noise(), AFFINE)[:1]).iterdir()
    assert_refused(file, "series 1 of the scan: one slice is no volume. Give the whole series")


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


def link_in_zip(archive: Path, name: str, target: str) -> None:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(entry, target)


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


def test_a_folder_that_cannot_be_read_is_told_and_not_named(tmp_path, monkeypatch):
    def refuse(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr("ct_rate_pairs.volumes.scan_files.os.walk", refuse)
    assert_refused(tmp_path, "the scan: one of its folders cannot be read: Permission denied")


def test_a_zip_of_another_volume_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "DOE.zip", "w") as archive:
        archive.write(save(tmp_path / "DOE.nii.gz", noise(), AFFINE), "DOE.nii.gz")
    assert_refused(tmp_path / "DOE.zip", "no DICOM image among its 1 files.*Unpack a zip of a volume")


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


def gzipped(folder: Path, number: int | None = None) -> Path:
    """The folder, after its first files were packed by gzip."""
    for path in sorted(folder.iterdir())[:number]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return folder


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


@pytest.mark.parametrize("series", ["1", 1.0, True, b"1", [1]])
def test_a_series_that_is_no_whole_number_is_refused(tmp_path, series):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    assert_refused(folder, f"series is {re.escape(repr(series))}, which is no whole number.*series=1", series=series)
    assert read_scan(folder, series=np.int64(1)).stored.shape == noise().shape[::-1]


def test_a_folder_of_slices_without_preamble_is_a_scan(tmp_path):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert find_scans([folder]) == ([folder], False)
    shape = noise().shape[::-1]
    assert read_scan(folder).stored.shape == read_scan(packed(folder, tmp_path / "d.zip")).stored.shape == shape


def test_a_page_in_the_place_of_a_slice_is_refused_in_a_zip_too(tmp_path):
    folder = write(tmp_path / "d", slices(noise(), AFFINE)[:11])
    (folder / "DOE_JANE_1_999.dcm").write_text("<html>404")
    assert_refused(packed(folder, tmp_path / "d.zip"), "file .* is a text or a page of HTML, though it is named as")


def test_without_the_reader_of_dicom_a_nifti_is_read_and_the_reader_is_named(tmp_path, monkeypatch):
    """pydicom is an extra."""
    (tmp_path / "nifti").mkdir()
    nifti = save(tmp_path / "nifti" / "scan.nii.gz", marked_volume(), AFFINE)
    (nifti.parent / "labels.csv").write_text("nothing")
    series = write(tmp_path / "series", slices(marked_volume(), AFFINE))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for name in [name for name in sys.modules if name.startswith("ct_rate_pairs.volumes.dicom")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ct_rate_pairs.volumes.dicom", raising=False)
    assert find_scans([nifti.parent]) == ([nifti], True)
    assert read_scan(nifti).stored.shape == marked_volume().shape[::-1]
    assert_refused(series, r"pip install 'ct-rate-pairs\[dicom\]'")
    assert_refused(packed(series, tmp_path / "series.zip"), r"pip install 'ct-rate-pairs\[dicom\]'")
    with pytest.raises(VolumeError, match=r"pip install 'ct-rate-pairs\[dicom\]'"):
        find_scans([series])


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


def test_the_headers_alone_tell_shape_and_voxel_size_in_every_format(tmp_path):
    folder = write(tmp_path / "d", slices(noise(), AFFINE))
    paths = [folder, packed(folder, tmp_path / "a.zip"), save(tmp_path / "a.nii", noise(), AFFINE)]
    paths += [metaimage(noise(), AFFINE, tmp_path / f"{packing}.mha", packing) for packing in (False, True)]
    paths += [save(tmp_path / "a.nii.gz", noise(), AFFINE)]
    for path in paths:
        header, whole = read_scan(path, headers_only=True), read_scan(path)
        assert (header.stored.shape, header.spacing) == (whole.stored.shape, whole.spacing)
        assert whole.stored.any() and not header.stored.any()
        header.check(4, (2, 3, 4), "paper", (0, 1))
        with pytest.raises(VolumeError, match="13 slices are asked for"):
            header.check(13, (2, 3, 4), "paper", (0, 1))


def test_the_headers_alone_do_not_miss_a_tilt_nor_read_a_voxel(tmp_path):
    with pytest.raises(VolumeError, match="25 degrees"):
        read_scan(save(tmp_path / "v.nii.gz", noise(), turned(25, 0) @ AFFINE), headers_only=True)
    path = save(tmp_path / "v.nii", noise(), AFFINE)
    path.write_bytes(path.read_bytes()[:1000])
    assert read_scan(path, headers_only=True).stored.shape == (12, 16, 20)
    assert_refused(path, "ends early")
