"""A codestream that states another size than the header is refused before a decoder takes memory for it."""

import struct

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, assert_refused, compress, hu, read, slices, write
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from ct_rate_pairs.volumes.dicom import voxels
from ct_rate_pairs.volumes.dicom.codestreams import Stated, _read_jpeg, _read_jpeg_2000


HU = np.random.default_rng(0).integers(-1000, 1000, (40, 36, 12), dtype=np.int16)  # JPEG 2000 needs 32 pixels
SIZE = {JPEG2000Lossless: b"\xff\x51", JPEGLosslessSV1: b"\xff\xc3", JPEGLSLossless: b"\xff\xf7"}


@pytest.fixture
def coded(tmp_path):
    """Writes a series in a transfer syntax, after `change` of the pixels of its sixth slice."""

    def write_coded(syntax, change):
        folder = write(tmp_path, slices(HU, AFFINE))
        for number, path in enumerate(sorted(folder.iterdir())):
            compress(path, syntax)
            if number == 5:
                dataset = dcmread(path)
                dataset.PixelData = change(bytearray(dataset.PixelData))
                dataset.save_as(path)
        return folder

    return write_coded


def other_size(syntax, rows, columns):
    def change(pixels):
        place = pixels.index(SIZE[syntax])
        if syntax == JPEG2000Lossless:
            struct.pack_into(">II", pixels, place + 6, columns, rows)
            struct.pack_into(">II", pixels, place + 22, columns, rows)  # of its one tile
        else:
            struct.pack_into(">HH", pixels, place + 5, rows, columns)
        return bytes(pixels)

    return change


@pytest.mark.parametrize("syntax", SIZE)
@pytest.mark.parametrize(("rows", "columns"), [(60_000, 60_000), (36, 41), (37, 40), (65_535, 1), (0, 40)])
def test_a_size_that_is_not_that_of_the_header_is_refused_and_not_decoded(coded, monkeypatch, syntax, rows, columns):
    folder = coded(syntax, other_size(syntax, rows, columns))
    decoded = []
    monkeypatch.setattr(voxels, "iter_pixels", lambda *_, iter_pixels=voxels.iter_pixels, **given: (
        decoded.append(1) or iter_pixels(*_, **given)
    ))  # fmt: skip
    assert_refused(
        folder,
        f"slice [0-9]+ state {rows} x {columns} x 1 values of 16 bits, but its header 36 x 40 x 1",
        of_file=True,
    )
    assert len(decoded) < 2 * 12


@pytest.mark.parametrize("syntax", SIZE)
@pytest.mark.parametrize("bits", [1, 17, 38])
def test_bits_that_no_decoder_knows_are_refused_and_not_decoded(coded, syntax, bits):
    """Decoders end the process for more than 16."""

    def change(pixels):
        place = pixels.index(SIZE[syntax])
        pixels[place + (40 if syntax == JPEG2000Lossless else 4)] = bits - (syntax == JPEG2000Lossless)
        return bytes(pixels)

    assert_refused(coded(syntax, change), f"state 36 x 40 x 1 values of {bits} bits, but its header", of_file=True)


@pytest.mark.parametrize("syntax", SIZE)
@pytest.mark.parametrize("bits", [8, 24, 32, 64])
def test_compressed_pixels_in_other_bits_than_a_decoder_writes_are_refused_and_not_decoded(coded, syntax, bits):
    folder = coded(syntax, bytes)
    for path in folder.iterdir():
        dataset = dcmread(path)
        dataset.BitsAllocated, dataset.BitsStored = bits, min(bits, 16)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.save_as(path)
    told = f"values of 16 bits, but its header 36 x 40 x 1 of {bits} bits, which can be 8 or 16"
    # No CT has 24 or 64 bits, compressed or not.
    assert_refused(folder, told if bits in (8, 32) else f"BitsAllocated is {bits} in 12 of its 12 slices")


@pytest.mark.parametrize("syntax", SIZE)
def test_a_true_size_is_decoded(coded, syntax):
    np.testing.assert_array_equal(hu(read(coded(syntax, bytes))), HU)


@pytest.mark.parametrize("syntax", SIZE)
def test_pixels_that_state_no_size_are_refused(coded, syntax):
    folder = coded(syntax, lambda pixels: bytes(pixels.replace(SIZE[syntax], b"\xff\xfe")))
    assert_refused(folder, "slice [0-9]+ cannot be decoded", of_file=True)


def stated_by(read, frame: bytes) -> Stated:
    read(frame, stated := Stated())
    return stated


def test_every_size_before_the_pixels_counts():
    start, size, other = (
        b"\xff\xd8",
        b"\xff\xc3\0\x0b\x10\0\x24\0\x28\1\1\x11\0",
        b"\xff\xf7\0\x0b\x10\xff\xff\xff\xff\1\1\x11\0",
    )
    scan = b"\xff\xda\0\x08\1\1\0\1\0\0"
    assert stated_by(_read_jpeg, start + size + scan) == Stated({(36, 40, 1, 16)}, 1)
    assert stated_by(_read_jpeg, start + b"\xff\xfe\0\x04ab" + b"\xff" + size + other + scan).sizes == {
        (36, 40, 1, 16),
        (65535, 65535, 1, 16),
    }
    for broken in (b"", b"ab", start, start + scan, start + b"\xff\xc3\0\0" + scan, start + size):
        with pytest.raises((ValueError, struct.error)):
            stated_by(_read_jpeg, broken)
    fields = struct.pack(">HHIIIIIIIIHB", 41, 0, 40, 36, 0, 0, 40, 36, 0, 0, 1, 128 + 15) + b"\1\1"
    codestream = b"\xff\x4f\xff\x51" + fields + b"\xff\x52\0\x0c\0\0\0\1\0\5\4\4\0\1" + b"\xff\x93\0\0"
    assert stated_by(_read_jpeg_2000, codestream) == Stated({(36, 40, 1, 16)}, 1)
    large = codestream[:8] + b"\x7f" + codestream[9:]
    both = stated_by(_read_jpeg_2000, b"\0\0\0\x0cjP  " + codestream + large)
    assert (both.number, len(both.sizes)) == (2, 2)
    for broken in (b"", b"jP  ", codestream[:30], codestream[:-4], codestream.replace(b"\0\x0c", b"\0\0")):
        with pytest.raises((ValueError, struct.error)):
            stated_by(_read_jpeg_2000, broken)
