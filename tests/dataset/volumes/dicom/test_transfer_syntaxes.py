"""Every transfer syntax that keeps the pixels gives the voxels of the uncompressed series, bit by bit."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, assert_refused, compress, enhanced, read, slices, store, write
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)


# How a file gets each transfer syntax: by a command of Debian's dcmtk, by pydicom or by GDCM.
LOSSLESS = {
    ImplicitVRLittleEndian: ["dcmconv", "+ti"],
    ExplicitVRBigEndian: ["dcmconv", "+tb"],
    DeflatedExplicitVRLittleEndian: ["dcmconv", "+td"],
    RLELossless: ["dcmcrle"],
    JPEGLossless: ["dcmcjpeg", "+el"],
    JPEGLosslessSV1: ["dcmcjpeg", "+e1"],
    JPEGLSLossless: ["dcmcjpls", "+el"],
    JPEG2000Lossless: ["gdcm"],
    JPEG2000: ["gdcm"],
}
WITHOUT_DCMTK = {
    RLELossless: ["pydicom"],
    JPEGLosslessSV1: ["gdcm"],
    JPEGLSLossless: ["gdcm"],
    JPEG2000Lossless: ["gdcm"],
}


def rewrite(folder: Path, syntax: UID, command: list[str]) -> Path:
    """Writes the files of a folder again, in another transfer syntax."""
    for path in folder.iterdir():
        if command == ["pydicom"]:
            dataset = dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
        elif command == ["gdcm"]:
            compress(path, syntax)
        else:
            if shutil.which(command[0]) is None:
                pytest.skip(f"{command[0]} is not here: apt-get install dcmtk")
            subprocess.run([*command, path, path], check=True, capture_output=True)
        assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    return folder


def assert_same(folder: Path, datasets: list[Dataset], syntax: UID, command: list[str]) -> None:
    plain = read(write(folder / "plain", datasets))
    coded = read(rewrite(write(folder / "coded", datasets), syntax, command))
    np.testing.assert_array_equal(coded.stored, plain.stored)
    assert coded.stored.dtype == plain.stored.dtype
    assert (coded.slope, coded.intercept) == (plain.slope, plain.intercept)
    np.testing.assert_allclose(coded.affine, plain.affine)


def scanner_slices() -> list[Dataset]:
    """Slices with the header and the noise of a real scanner: pydicom's CT (GE, with padding), shifted."""
    datasets = []
    for k in range(3):
        dataset = dcmread(get_testdata_file("CT_small.dcm"))
        dataset.SOPInstanceUID += f".{k}"
        dataset.ImagePositionPatient[2] += 5 * k
        store(dataset, np.roll(dataset.pixel_array, 11 * k, axis=0))
        datasets.append(dataset)
    return datasets


def made_slices(signed: bool, bits: int) -> list[Dataset]:
    """Slices of all values that fit into the bits, rescaled to HU."""
    rng = np.random.default_rng(0)
    low = -(2 ** (bits - 1)) if signed else 0
    datasets = slices(np.zeros((24, 16, 3), np.int16), AFFINE, BitsStored=bits, HighBit=bits - 1)
    for dataset in datasets:
        values = np.sort(rng.integers(low, low + 2**bits, (16, 24)), axis=1)
        values[0, :2] = low, low + 2**bits - 1
        dataset.RescaleIntercept = -1024 - low
        store(dataset, values.astype(np.int16 if signed else np.uint16))
    return datasets


@pytest.mark.parametrize(("syntax", "command"), [*LOSSLESS.items(), *WITHOUT_DCMTK.items()], ids=str)
def test_a_scanner_s_slices_are_the_same_in_every_transfer_syntax(tmp_path, syntax, command):
    assert_same(tmp_path, scanner_slices(), syntax, command)


@pytest.mark.parametrize(("signed", "bits"), [(True, 16), (False, 16), (True, 12), (False, 12)])
@pytest.mark.parametrize(("syntax", "command"), LOSSLESS.items(), ids=str)
def test_signed_and_unsigned_pixels_of_any_depth_are_the_same(tmp_path, syntax, command, signed, bits):
    assert_same(tmp_path, made_slices(signed, bits), syntax, command)


@pytest.mark.parametrize(("syntax", "command"), LOSSLESS.items(), ids=str)
def test_the_frames_of_an_enhanced_ct_are_the_same(tmp_path, syntax, command):
    assert_same(tmp_path, [enhanced(made_slices(False, 12))], syntax, command)


@pytest.mark.parametrize(
    ("syntax", "command", "most"),
    [
        (JPEGLSNearLossless, ["dcmcjpls", "+en", "+md", "2"], 2),
        (JPEGBaseline8Bit, ["dcmcjpeg", "+eb", "+q", "100"], 40),
    ],
    ids=str,
)
def test_pixels_that_lost_something_are_read_and_told(tmp_path, caplog, syntax, command, most):
    plain = read(write(tmp_path / "plain", made_slices(False, 12)))
    assert not caplog.messages
    coded = read(rewrite(write(tmp_path / "coded", made_slices(False, 12)), syntax, command))
    lost = coded.stored * coded.slope + coded.intercept - (plain.stored * plain.slope + plain.intercept)
    assert 0 < np.abs(lost).max() <= most
    assert "compressed with loss" in caplog.text


def test_the_lossy_jpeg_of_12_bits_names_the_decoder_that_it_needs(tmp_path):
    folder = write(tmp_path, made_slices(False, 12))
    rewrite(folder, JPEGExtended12Bit, ["dcmcjpeg", "+ee"])
    assert_refused(folder, "JPEG Extended.*of 12 bits.*pip install pylibjpeg-libjpeg.*dcmdjpeg")
