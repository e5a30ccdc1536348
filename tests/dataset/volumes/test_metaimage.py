"""A MetaImage gives the voxels that SimpleITK reads from an undamaged file, or it is refused: never other voxels."""

import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from ct_rate_pairs.volumes.metaimage import read_metaimage
from ct_rate_pairs.volumes.slicing import VolumeError


SHAPE = (20, 16, 12)
VOXELS = np.random.default_rng(0).integers(-1000, 1000, SHAPE[::-1], dtype=np.int16)  # [Z, Y, X]


def fields(path) -> tuple[bytes, bytes]:
    """Header and voxels."""
    header, mark, body = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    return header + mark, body


@pytest.fixture
def scan(tmp_path):
    """Writes voxels as SimpleITK does, and header or voxels otherwise."""

    def write(voxels=VOXELS, compressed=False, replace=None, body=None, more=""):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((2, 3, 4))
        path = tmp_path / "DOE.mha"
        sitk.WriteImage(image, path, compressed)
        header, voxels = fields(path)
        for old, new in (replace or {}).items():
            header, count = re.subn(old.encode(), new.encode(), header)
            assert count == 1
        path.write_bytes(more.encode() + header + (voxels if body is None else body))
        return path

    return write


def read(path) -> np.ndarray:
    return read_metaimage(path, "the scan").stored[::-1]  # superior first, which the file has last


def refused(path, match: str) -> None:
    with pytest.raises(VolumeError, match=f"^the scan: .*{match}") as raised:
        read(path)
    assert "DOE" not in str(raised.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_of_number_is_read_as_simpleitk_reads_it(scan, kind, compressed):
    path = scan(VOXELS.astype(kind), compressed)
    np.testing.assert_array_equal(read(path), sitk.GetArrayFromImage(sitk.ReadImage(path)))


def test_voxels_of_the_other_byte_order_are_read_as_simpleitk_reads_them(scan):
    for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        path = scan(VOXELS.byteswap(), replace={"BinaryDataByteOrderMSB = False": f"{name} = True"})
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), VOXELS)
        np.testing.assert_array_equal(read(path), VOXELS)


def test_gzip_in_the_place_of_zlib_is_read_as_itk_reads_it(scan):
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(VOXELS.tobytes()) + packer.flush()
    path = scan(compressed=True, body=body, replace={r"CompressedDataSize = \d+": f"CompressedDataSize = {len(body)}"})
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), VOXELS)
    np.testing.assert_array_equal(read(path), VOXELS)


def test_a_flipped_bit_in_compressed_voxels_is_refused_or_changes_nothing(scan):
    path = scan(compressed=True)
    header, body = fields(path)
    outcomes = set()
    for place in range(0, 8 * len(body), 8 * len(body) // 300):
        damaged = bytearray(body)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(header + damaged)
        try:
            np.testing.assert_array_equal(read(path), VOXELS)  # a bit that zlib does not look at
        except VolumeError as error:
            outcomes.add(str(error))
    assert "the scan: its compressed voxels are damaged. Download or write it again." in outcomes


@pytest.mark.parametrize("lost", [1, 4, 5, 100, 1000])
def test_a_cut_stream_is_refused(scan, lost):
    path = scan(compressed=True)
    path.write_bytes(path.read_bytes()[:-lost])
    refused(path, "its compressed voxels are cut short")


@pytest.mark.parametrize("size", ["-1", "0", "100", "99999999", "1e3", "x", ""])
def test_a_size_of_compressed_voxels_that_is_not_true_is_refused(scan, size):
    refused(scan(compressed=True, replace={r"CompressedDataSize = \d+": f"CompressedDataSize = {size}"}), "Size")


def test_bytes_after_compressed_voxels_are_told(scan, caplog):
    path = scan(compressed=True)
    path.write_bytes(path.read_bytes() + b"DOE")
    np.testing.assert_array_equal(read(path), VOXELS)
    assert caplog.messages == ["the scan: bytes follow its compressed voxels and were not read. The volume is whole."]


def test_a_stream_that_inflates_to_more_than_any_ct_is_left(scan, monkeypatch):
    body = zlib.compress(VOXELS.tobytes() + bytes(2**24))
    path = scan(compressed=True, body=body, replace={r"CompressedDataSize = \d+": f"CompressedDataSize = {len(body)}"})
    np.testing.assert_array_equal(read(path), VOXELS)
    monkeypatch.setattr("ct_rate_pairs.volumes.files.MOST_BYTES", 2**20)
    refused(path, "more than 0 GB follow the")


@pytest.mark.parametrize(
    "other", ["/etc/passwd", "LIST", "other.raw", "slice%03d.raw 1 12 1", "../DOE.raw", "LOCAL LIST", ""]
)
def test_no_other_file_is_opened(scan, tmp_path, other):
    (tmp_path / "other.raw").write_bytes(VOXELS.tobytes())
    refused(scan(replace={"ElementDataFile = LOCAL": f"ElementDataFile = {other}"}), "holds its own voxels")


@pytest.mark.parametrize("dimensions", ["-1", "100", "100000000000", "0", "3.0", "2", "4", "", "3 3", "³"])
def test_whatever_number_of_dimensions_a_header_has_the_process_lives(scan, dimensions):
    refused(scan(replace={"NDims = 3": f"NDims = {dimensions}"}), "dimensions|NDims")


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("DimSize = 20 16 12", "DimSize = 20 16 -12", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", "DimSize = 20 16 0", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", "DimSize = 20 16", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", "DimSize = 20 16 1_2", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", "DimSize = 20 16 12 1", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", f"DimSize = 20 16 {'9' * 5000}", "no three sizes in DimSize"),
        ("DimSize = 20 16 12", "DimSize = 99999 99999 2", "more than any CT has"),
        ("DimSize = 20 16 12", "DimSize = 20 16 13", "the file ends early"),
        ("ElementType = MET_SHORT", "ElementType = MET_SHORT_ARRAY", "not one number per voxel"),
        ("ElementType = MET_SHORT", "ElementType = DOE", "not one number per voxel"),
        ("BinaryData = True", "BinaryData = False", "written as text"),
        ("BinaryData = True", "BinaryData = DOE", "neither True nor False in BinaryData"),
        ("BinaryData = True", "BinaryData = True\nHeaderSize = 10", "do not follow its header"),
        ("CompressedData = False", "CompressedData = True", "compressed voxels are damaged"),
        ("CompressedData = False", "compresseddata = True", "CompressedData in other letters"),
        ("ObjectType = Image", "ObjectType = Scene", "its ObjectType is no Image"),
        ("MSB = False", "MSB = False\nElementByteOrderMSB = True", "two values of BinaryData.* and ElementByteOrder"),
        ("NDims = 3", "NDims = 3\nDistanceUnits = DOE", "an unknown word as its unit of length"),
        ("NDims = 3", "NDims = 3\nDimSize = 9 9 9", "two values of DimSize"),
    ],
)
def test_a_header_that_means_something_else_is_refused(scan, old, new, cause):
    refused(scan(replace={old: new}), cause)


def test_fields_of_others_are_passed_over_and_not_told(scan, caplog):
    path = scan(
        more="0010|0010 = DOE^JANE\nDOE = 1\nDOE = 2\n\nno field at all\nComment = a = b : c\n"
        + "x" * 2**17
        + " = 1\n"
    )
    np.testing.assert_array_equal(read(path), VOXELS)
    assert "DOE" not in caplog.text


@pytest.mark.parametrize(
    "line", ["DOE", "DOE\r", "DOE\n\n", "DOE\nb = 2\nDOE", "\0", "\xa0", "Color = 1 1 1", "ElementMax ="]
)
@pytest.mark.parametrize("field", ["ElementSpacing", "TransformMatrix", "CompressedData"])
def test_a_field_that_itk_passes_over_because_of_the_line_before_is_not_read(scan, line, field):
    refused(scan(replace={f"{field} =": f"{line}\n{field} ="}), f"line of its header before {field} has neither")


@pytest.mark.parametrize("blank", ["\xa0", "\x1c", "\x85"])
def test_what_is_a_blank_for_python_alone_is_none(scan, blank):
    refused(
        scan(replace={"ElementSpacing = 2 3 4": f"ElementSpacing = 2{blank}3{blank}4"}), "other than ASCII in Elem"
    )
    refused(scan(replace={"ElementSpacing = ": f"{blank}ElementSpacing = "}), "no ElementSpacing")


def test_a_header_without_an_end_is_left(scan):
    refused(scan(more="DOE = " + " " * 2**21 + "x\n"), "no ElementDataFile")


def test_an_orientation_that_is_no_word_of_the_format_is_not_quoted(scan, caplog):
    read(scan(replace={"AnatomicalOrientation = RAI": "AnatomicalOrientation = DOE"}))
    assert "its AnatomicalOrientation is an unknown word" in caplog.text and "DOE" not in caplog.text
