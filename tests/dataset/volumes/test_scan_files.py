"""One volume, whichever format it comes in: the same slices; and no path, name or UID in what is said of it."""

import gzip
import io
import os
import re
import socket
import sys
import traceback
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom_series import AFFINE, enhanced, slices, write
from helpers.marked_volume import marked_volume, save
from helpers.scans import assert_refused, metaimage, noise, packed
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmwrite

from ct_rate_pairs.volumes.nifti import read_slices, read_volume
from ct_rate_pairs.volumes.scan_files import digest, find_scans, read_scan
from ct_rate_pairs.volumes.slicing import VolumeError


GRID = {"num_slices": 4, "spacing": (2, 3, 4), "window": (-1000, 1000)}


def turned(degrees: float, axis: int) -> np.ndarray:
    turn, angle = np.eye(4), np.radians(degrees)
    i, j = (other for other in range(3) if other != axis)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


DISPLAY = nib.orientations.axcodes2ornt("LPI")


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


def test_a_metaimage_whose_path_is_no_utf8_is_read(tmp_path):
    path = metaimage(noise(), AFFINE, tmp_path / "a.mha")
    assert len(read_scan(path.rename(tmp_path / os.fsdecode(b"M\xdcLLER.mha"))).stored) == 12


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
