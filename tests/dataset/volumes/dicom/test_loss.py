"""Pixels that lost something are told, whether their header says so or not: their codestream does."""

import gdcm
import numpy as np
import pytest
from helpers.dicom_series import AFFINE, assert_refused, compress, enhanced, hu, read, series, slices, write
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ct_rate_pairs.volumes.dicom.codestreams import Stated, _read_jpeg


HU = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 12), dtype=np.int16)  # JPEG 2000 needs 32 pixels
TOLD = "series 1 of the scan: {} of its 12 slices were compressed with loss."


@pytest.mark.parametrize(
    "attributes",
    [
        {"LossyImageCompression": "01"},
        {"LossyImageCompression": "1"},
        {"LossyImageCompression": "YES"},
        {"LossyImageCompressionRatio": 6},
        {"LossyImageCompressionRatio": [1.5, 6]},
        {"LossyImageCompression": "00", "LossyImageCompressionRatio": "6.00"},
        {"LossyImageCompressionMethod": "ISO_10918_1"},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "JP2K LOSSY 6:1"]},
    ],
    ids=str,
)
def test_a_header_that_says_so_is_told(tmp_path, caplog, attributes):
    datasets = series()
    for dataset in datasets[2:6]:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    read(write(tmp_path, datasets))
    assert TOLD.format(4) in caplog.messages


@pytest.mark.parametrize(
    "attributes",
    [
        {"LossyImageCompression": "00"},
        {"LossyImageCompression": "0"},
        {"LossyImageCompression": "NO"},
        {"LossyImageCompression": ""},
        {"LossyImageCompression": "00", "LossyImageCompressionRatio": 1, "LossyImageCompressionMethod": "ISO_15444_1"},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "JP2K LOSSLESS"]},
    ],
    ids=str,
)
def test_a_header_that_denies_it_is_not_told(tmp_path, caplog, attributes):
    read(write(tmp_path, series(**attributes)))
    assert not caplog.messages


def lossy_jpeg_2000(path, stated):
    dataset = dcmread(path)
    dataset.compress(JPEG2000, j2k_cr=[8], generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = stated
    dataset.save_as(path)


def near_lossless(path, stated):
    codec = gdcm.JPEGLSCodec()
    codec.SetLossless(False)
    codec.SetLossyError(3)
    compress(path, JPEGLSNearLossless, codec)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = stated
    dataset.save_as(path)


def silent(path):
    """Takes from a header what says that its pixels lost something."""
    dataset = dcmread(path)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.StudyTime = "101500"  # where a file has none, GDCM writes the time at which it writes the file
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("make", "stated"),
    [
        (lossy_jpeg_2000, JPEG2000),
        (lossy_jpeg_2000, JPEG2000Lossless),
        (near_lossless, JPEGLSNearLossless),
        (near_lossless, JPEGLSLossless),
    ],
)
def test_a_codestream_with_loss_is_told_whatever_the_header_says(tmp_path, caplog, make, stated):
    smooth = np.cumsum(HU // 100, axis=0, dtype=np.int16)
    folder = write(tmp_path, slices(smooth, AFFINE))
    for path in sorted(folder.iterdir())[:5]:
        make(path, stated)
        silent(path)
    stack = read(folder)
    lost = np.abs(stack.stored.transpose(2, 1, 0) * stack.slope + stack.intercept - smooth).max()
    assert lost > 0
    assert TOLD.format(5) in caplog.messages


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_codestream_without_loss_is_not_told(tmp_path, caplog, syntax):
    folder = write(tmp_path, slices(HU, AFFINE))
    for path in folder.iterdir():
        compress(path, syntax)
        silent(path)
    read(folder)
    assert not caplog.messages


def test_rle_keeps_everything(tmp_path, caplog):
    datasets = slices(HU, AFFINE)
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    read(write(tmp_path, datasets))
    assert not caplog.messages


@pytest.mark.parametrize(
    ("process", "parameters", "is_lossy"),
    [
        (0xC0, b"\0\x3f\0", True),  # baseline
        (0xC1, b"\0\x3f\0", True),  # extended
        (0xC2, b"\0\0\0", True),  # progressive
        (0xC3, b"\1\0\0", False),
        (0xC3, b"\7\0\2", True),  # without the two lowest bits
        (0xCB, b"\1\0\0", False),  # lossless, arithmetic
        (0xF7, b"\0\0\0", False),
        (0xF7, b"\2\0\0", True),
        (0xF7, b"\0\0\1", True),
    ],
)
def test_the_loss_of_a_jpeg_is_that_of_its_process_and_its_scan(process, parameters, is_lossy):
    size = bytes([0xFF, process]) + b"\0\x0b\x10\0\x24\0\x28\1\1\x11\0"
    stated = Stated()
    _read_jpeg(b"\xff\xd8" + size + b"\xff\xda\0\x08\1\1\0" + parameters, stated)
    assert stated.is_lossy is is_lossy


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("fragments", [1, 2])
def test_a_file_with_a_codestream_too_many_is_refused(tmp_path, syntax, fragments):
    folder = write(tmp_path, slices(HU, AFFINE))
    for path in folder.iterdir():
        compress(path, syntax)
    path = sorted(folder.iterdir())[4]
    dataset = dcmread(path)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame] * 2 if fragments == 2 else [frame + frame], has_bot=False)
    dataset.save_as(path)
    assert_refused(
        folder, "the compressed pixels of slice [0-9]+ are 2 images, but its header describes 1", of_file=True
    )


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("order", ["as stored", "reversed", "one twice"])
def test_a_table_that_shuffles_the_frames_is_refused(tmp_path, syntax, order):
    file = enhanced(slices(HU, AFFINE))
    file.compress(syntax, generate_instance_uid=False, encapsulate_ext=True)
    places, lengths = (
        np.frombuffer(file[keyword].value, "<u8") for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    )
    chosen = {"as stored": range(12), "reversed": range(11, -1, -1), "one twice": [0, 1, 2, 3, 3, *range(5, 12)]}[
        order
    ]
    file.ExtendedOffsetTable, file.ExtendedOffsetTableLengths = (
        values[list(chosen)].tobytes() for values in (places, lengths)
    )
    folder = write(tmp_path, [file])
    if order == "as stored":
        np.testing.assert_array_equal(hu(read(folder)), HU)
    else:
        assert_refused(folder, "cannot be decoded .ValueError")
