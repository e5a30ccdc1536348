"""Files of a series without a preamble are read; what lies beside a series and is no slice is told, or refused."""

import bz2
import lzma

import numpy as np
import pytest
from helpers.dicom_series import assert_refused, enhanced, hu, read, series, write
from helpers.marked_volume import marked_volume
from pydicom import dcmwrite
from pydicom.uid import (
    BasicTextSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)


def test_files_that_are_no_images_are_passed_over_with_a_warning(tmp_path, caplog):
    write(tmp_path / "DOE", series())
    (tmp_path / "readme.txt").write_text("DOE^JANE " * 100)
    (tmp_path / "empty").touch()
    for name, kind in (("DICOMDIR", MediaStorageDirectoryStorage), ("report.dcm", BasicTextSRStorage)):
        other = series(SOPClassUID=kind)[0]
        del other.Rows, other.PixelData
        dcmwrite(tmp_path / name, other, enforce_file_format=True)
    np.testing.assert_array_equal(hu(read(tmp_path)), marked_volume())
    assert caplog.messages == [
        "4 of the scan's 16 files are not DICOM images and were skipped: 1 .txt, 2 DICOM without an image, such as a "
        "report, 1 without a suffix."
    ]
    for path in (tmp_path / "DOE").iterdir():
        path.unlink()
    assert_refused(tmp_path, r"no DICOM image among its 4 files \(1 .txt, 1 without a suffix\)")


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("meta", ["with meta information", "without"])
@pytest.mark.parametrize("some", [12, 1])
def test_files_without_a_preamble_are_read(tmp_path, caplog, syntax, meta, some):
    datasets = series()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            values = np.frombuffer(dataset.PixelData, np.int16)
            dataset["PixelData"].value = values.astype(">i2").tobytes()
    folder = write(tmp_path, datasets)
    for path in sorted(folder.iterdir())[:some]:
        data = path.read_bytes()
        length = 132 if meta.startswith("with ") else 144 + int.from_bytes(data[140:144], "little")
        path.write_bytes(data[length:])
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert not caplog.messages


def test_an_enhanced_ct_without_a_preamble_is_read(tmp_path):
    folder = write(tmp_path, [enhanced(series())])
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())


@pytest.mark.parametrize("size", [100, 300, 500])
def test_a_slice_without_a_preamble_that_is_cut_short_is_not_silently_left_out(tmp_path, size):
    path = sorted(write(tmp_path, series()).iterdir())[0]
    path.write_bytes(path.read_bytes()[132:][:size])
    assert_refused(tmp_path, r"file \d+ of the scan", of_file=True)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), (b"<!doctype html><p>404", "is a text or a page of HTML"), (bytes(900), "is no DICOM")],
)
@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{}.dcm", "11.dcm"),
        ("{}.dcm", "other.DCM"),
        ("{}.dcm", "11.dcm.part"),
        ("{}.dcm", "11.dcm.gz"),
        ("IM{:06}", "IM000011"),
        ("{:x}f", "3fa"),
        ("1.2.{}", "1.2.99"),
        ("{}.IMA", "x.ima"),
    ],
)
def test_a_file_that_is_no_dicom_and_is_named_as_a_slice_is_refused(tmp_path, content, told, pattern, name):
    folder = write(tmp_path, series()[:11])
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / pattern.format(1000 + number))
    (folder / name).write_bytes(content)
    assert_refused(folder, rf"file \d+ of the scan {told}, though it is named as its images are", of_file=True)


@pytest.mark.parametrize(
    ("suffix", "compress", "told"), [(".bz2", bz2.compress, "bzip2"), (".xz", lzma.compress, "xz")]
)
def test_a_slice_that_is_packed_otherwise_is_refused(tmp_path, suffix, compress, told):
    path = sorted(write(tmp_path, series()).iterdir())[0]
    path.with_name(path.name + suffix).write_bytes(compress(path.read_bytes()))
    path.unlink()
    assert_refused(tmp_path, rf"is packed by {told}, though.*Unpack it, or pack it by gzip", of_file=True)


@pytest.mark.parametrize("name", ["README", "labels.csv", "11.txt", "11.json", "a/11.xml", "preview.jpg", "x.DOE"])
def test_what_is_named_otherwise_is_passed_over_and_told(tmp_path, caplog, name):
    folder = write(tmp_path, series())
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"DOE^JANE")
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert len(caplog.messages) == 1 and "1 of the scan's 13 files are not DICOM images" in caplog.text
    assert "DOE" not in caplog.messages[0]


def test_a_file_that_only_begins_like_dicom_is_none(tmp_path, caplog):
    folder = write(tmp_path, series())
    (folder / "labels.bin").write_bytes(b"\x08\0\x05\0\x02\0\0\0AB")
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert "1 .bin" in caplog.text
