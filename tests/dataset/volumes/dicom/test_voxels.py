"""A file has the pixels that its header describes, written as they are written: else it is refused, or it is told."""

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_series import assert_refused, enhanced, hu, read, series, write
from helpers.marked_volume import marked_volume
from helpers.shares import mostly_slow
from pydicom import dcmread, dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from ct_rate_pairs.volumes.dicom.headers import _WRONG_PIXELS


BYTES = 16 * 20 * 2


def restated(folder, stated, some=slice(None)):
    """The files of a folder, whose meta information says another transfer syntax than they are written in."""
    for path in sorted(folder.iterdir())[some]:
        data = path.read_bytes()
        meta = dcmread(path).file_meta
        written = meta.TransferSyntaxUID
        length = max(len(stated), len(written)) + max(len(stated), len(written)) % 2
        start = data.index(b"\x02\0\x10\0UI")
        end = start + 8 + len(written) + len(written) % 2
        value = stated.encode().ljust(length, b"\0")
        path.write_bytes(data[:start] + b"\x02\0\x10\0UI" + length.to_bytes(2, "little") + value + data[end:])
    return folder


@pytest.mark.parametrize(
    ("written", "stated", "told"),
    [
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "TransferSyntaxUID is Implicit VR Little Endian, but"),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian, "TransferSyntaxUID is Explicit VR Little Endian, but"),
    ],
)
@pytest.mark.parametrize("some", [slice(None), slice(3, 4)])
@pytest.mark.parametrize("frames", [False, True])
def test_elements_written_in_another_way_than_stated_are_read_as_written_and_told(
    tmp_path, caplog, written, stated, told, some, frames
):
    datasets = [enhanced(series())] if frames else series()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = written
    folder = restated(write(tmp_path, datasets), stated, slice(0, 1) if frames else some)
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert len(caplog.messages) == 1 and told in caplog.text
    assert f"in {12 if frames or some == slice(None) else 1} of its 12 slices" in caplog.text


@pytest.mark.parametrize("stated", [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_another_order_of_bytes_than_stated_is_refused(tmp_path, stated):
    datasets = series()
    written = ExplicitVRLittleEndian if stated == ExplicitVRBigEndian else ExplicitVRBigEndian
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = written
        if written == ExplicitVRBigEndian:
            dataset["PixelData"].value = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    assert_refused(
        restated(write(tmp_path, datasets), stated), "written in another way than its TransferSyntaxUID", of_file=True
    )


@pytest.mark.parametrize("written", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_transfer_syntax_is_told_by_how_the_file_is_written(tmp_path, caplog, written, value):
    datasets = series()
    for number, dataset in enumerate(datasets):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if value is not None:
            dataset.file_meta.TransferSyntaxUID = value
        if written == ExplicitVRBigEndian:
            dataset["PixelData"].value = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.preamble = bytes(128)
        dcmwrite(
            tmp_path / f"{number}.dcm",
            dataset,
            implicit_vr=written == ImplicitVRLittleEndian,
            little_endian=written != ExplicitVRBigEndian,
            force_encoding=True,
        )
    if written == ExplicitVRBigEndian and value == "":
        assert_refused(tmp_path, "damaged", of_file=True)  # as pydicom has it, an empty one is of little endian
    else:
        np.testing.assert_array_equal(hu(read(tmp_path)), marked_volume())
        assert not caplog.messages


@pytest.mark.parametrize("stated", [ExplicitVRLittleEndian, ""])
def test_compressed_pixels_without_the_name_of_their_compression_are_refused(tmp_path, stated):
    """RLE of noise is longer than the pixels themselves, so its length does not show it."""
    datasets = series()
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    folder = restated(write(tmp_path, datasets), stated)
    assert_refused(folder, "slice [0-9]+ has compressed pixels, but no TransferSyntaxUID that says how", of_file=True)


def test_pydicom_warns_of_wrong_pixels_in_the_words_that_are_known():
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pydicom.__file__).parent.rglob("*.py"))
    sources = re.sub(r'"\s+f?"', "", sources)  # texts over several lines
    assert not [words for words in _WRONG_PIXELS if words not in sources]


def surplus(dataset, kind):
    dataset.PixelData = {
        "a row in front": bytes(40) + dataset.PixelData,
        "two bytes in front": bytes(2) + dataset.PixelData,
        "a row behind": dataset.PixelData + bytes(40),
        "two bytes behind": dataset.PixelData + bytes(2),
        "doubled": dataset.PixelData * 2,
        "a byte less": dataset.PixelData[:-1],
        "a row less": dataset.PixelData[40:],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("a row in front", BYTES + 40),
        ("two bytes in front", BYTES + 2),
        ("a row behind", BYTES + 40),
        ("two bytes behind", BYTES + 2),
        ("doubled", 2 * BYTES),
        ("a row less", BYTES - 40),
    ],
)
@pytest.mark.parametrize("every", mostly_slow([False, True]))
def test_more_or_fewer_pixels_than_described_are_refused(tmp_path, kind, size, every):
    datasets = series()
    for dataset in datasets if every else datasets[5:6]:
        surplus(dataset, kind)
    told = f"slice [0-9]+ has {size} bytes of pixels, but its header describes 640: 1 x 16 x 20 values of 16 bits"
    assert_refused(write(tmp_path, datasets), told, of_file=True)


@pytest.mark.parametrize(
    "kind", ["a frame in front", "a frame behind", "a frame less described", "two bytes in front"]
)
def test_more_pixels_than_the_frames_of_an_enhanced_ct_are_refused(tmp_path, kind):
    datasets = series()
    file = enhanced(datasets)
    if kind == "a frame less":
        del file.PerFrameFunctionalGroupsSequence[-1]
        file.NumberOfFrames = 11
    else:
        extra = datasets[0].PixelData if "frame" in kind else bytes(2)
        file.PixelData = extra + file.PixelData if "front" in kind else file.PixelData + extra
    assert_refused(write(tmp_path, [file]), "bytes of pixels, but its header describes [0-9]+: 1[12] x 16 x 20 values")


def test_a_byte_that_makes_the_length_even_is_padding(tmp_path):
    datasets = series()
    for dataset in datasets:
        values = np.frombuffer(dataset.PixelData, np.int16).reshape(16, 20)[:15, :19]
        dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 15, 19, 8, 8, 7
        dataset.PixelData = np.clip(values, -128, 127).astype(np.int8).tobytes() + b"\0"
    assert read(write(tmp_path, datasets)).stored.shape == (12, 15, 19)


@pytest.mark.parametrize("keyword", ["PixelData", "PixelRepresentation", "Rows"])
def test_what_stands_behind_the_pixels_once_more_is_refused(tmp_path, keyword):
    """One reader takes the first one, another reader the last one."""
    folder = write(tmp_path, series())
    path = sorted(folder.iterdir())[4]
    data = path.read_bytes()
    pixels = data.index(b"\xe0\x7f\x10\0OW")
    again = data[pixels:] if keyword == "PixelData" else b"\x28\0\x03\x01US\2\0\0\0"
    path.write_bytes(data + (again if keyword != "Rows" else b"\x28\0\x10\0US\2\0\x08\0"))
    assert_refused(folder, "has pixels twice, or more of its header behind them", of_file=True)


@pytest.mark.parametrize("tail", [bytes(512), bytes(3), b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0", b"\xff" * 100])
def test_what_lies_behind_the_last_element_changes_nothing(tmp_path, tail):
    folder = write(tmp_path, series())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "PixelSpacing", "Rows"])
def test_an_element_that_stands_twice_is_refused(tmp_path, keyword):
    folder = write(tmp_path, series())
    path = sorted(folder.iterdir())[4]
    data = path.read_bytes()
    tag = tag_for_keyword(keyword)
    start = data.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"))
    end = start + 8 + int.from_bytes(data[start + 6 : start + 8], "little")
    path.write_bytes(data[:end] + data[start:end] + data[end:])
    assert_refused(folder, f"file [0-9]+ of the scan is damaged: it has {keyword} twice", of_file=True)


@pytest.mark.parametrize("kind", ["in front", "behind"])
def test_rle_of_more_values_than_a_slice_has_is_refused(tmp_path, kind):
    datasets = series()
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    frame = next(generate_frames(datasets[5].PixelData, number_of_frames=1))
    starts = [int.from_bytes(frame[4 * i : 4 * i + 4], "little") for i in (1, 2)]
    extra = b"\x0f" + bytes(16)  # a run of 16 values
    segments = [frame[starts[0] : starts[1]], frame[starts[1] :]]
    segments = [extra + b"\x80" + part if kind == "in front" else part + extra + b"\x80" for part in segments]
    head = b"".join(n.to_bytes(4, "little") for n in (2, 64, 64 + len(segments[0]))) + bytes(52)
    datasets[5].PixelData = encapsulate([head + b"".join(segments)])
    assert_refused(write(tmp_path, datasets), r"slice 6 cannot be decoded", of_file=True)


@pytest.mark.parametrize(
    ("keyword", "value"), [("RescaleIntercept", None), ("PixelRepresentation", None), ("SamplesPerPixel", None)]
)
def test_an_empty_element_is_called_empty(tmp_path, keyword, value):
    folder = write(tmp_path, series())
    for path in folder.iterdir():
        dataset = dcmread(path)
        setattr(dataset, keyword, value)
        dataset.save_as(path)
    assert_refused(folder, f"{keyword} is missing or unreadable in 12 of its 12 slices: empty. Choose")


@pytest.mark.parametrize(("intercept", "shift"), [(0, 0), (-1024, 1024)])
def test_negative_values_without_their_sign_are_told(tmp_path, caplog, intercept, shift):
    datasets = series(RescaleIntercept=intercept)
    for dataset in datasets:
        values = np.frombuffer(dataset.PixelData, np.int16) - 500 + shift
        dataset.PixelData, dataset.PixelRepresentation = values.astype(np.int16).tobytes(), 0
    read(write(tmp_path, datasets))
    assert "of its voxels are above 32767 HU, as in no CT. PixelRepresentation 0 may be wrong" in caplog.text


@pytest.mark.parametrize("slope", [1, -1])
def test_metal_is_not_told(tmp_path, caplog, slope):
    datasets = series(RescaleSlope=slope)
    datasets[5].PixelData = np.full(16 * 20, slope * 30_000, np.int16).tobytes()
    read(write(tmp_path, datasets))
    assert not caplog.messages
