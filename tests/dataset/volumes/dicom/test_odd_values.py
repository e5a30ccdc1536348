"""Values that no header should hold are named without being quoted if they may name a patient."""

import warnings

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, PLANTED, ROOT, assert_refused, enhanced, read, series, slices, write
from helpers.marked_volume import marked_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement

from ct_rate_pairs.volumes.slicing import VolumeError


def test_a_modality_that_looks_like_free_text_is_not_listed(tmp_path):
    write(tmp_path, series())
    write(tmp_path, slices(marked_volume(), AFFINE, 2, Modality="JANE DOE"))
    write(tmp_path, slices(marked_volume(), AFFINE, 3))
    assert_refused(tmp_path, r"2 of its 3 series")


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        (
            "PixelSpacing",
            r"0,703\0,703",
            r"'0,703\\0,703', which is not two numbers. DICOM writes decimals with a point",
        ),
        ("PixelSpacing", "0.703\\", r"'0.703\\', which is not two numbers. Correct it"),
        ("RescaleSlope", "1,0", "'1,0', which is not a number. DICOM writes decimals with a point"),
        ("RescaleIntercept", "-1.024,0", "'-1.024,0', which is not a number. DICOM"),
        ("ImagePositionPatient", r"-30,5\-20\1", r"'-30,5\\-20\\1', which is not three numbers"),
        ("ImageOrientationPatient", r"1\0\0\0\\0", r"'1\\0\\0\\0\\\\0', which is not six numbers"),
    ],
)
def test_a_number_that_is_none_is_named_with_its_value(tmp_path, keyword, value, told):
    datasets = series()
    for dataset in datasets:
        tag = dataset[keyword].tag
        dataset[tag] = RawDataElement(tag, "DS", len(value), value.encode(), 0, False, True)
    assert_refused(write(tmp_path, datasets), f"file 1 of the scan: {keyword} is {told}")


@pytest.mark.parametrize("value", ["4711-0815", "1945-01-02", "29.02.2024", "19450102-1", "DOE^JANE"])
def test_a_date_or_an_identifier_in_the_place_of_a_number_is_not_shown(tmp_path, value):
    datasets = series()
    for dataset in datasets:
        tag = dataset["PixelSpacing"].tag
        dataset[tag] = RawDataElement(tag, "DS", len(value), value.encode(), 0, False, True)
    told = f"file 1 of the scan: PixelSpacing is a text of {len(value)} characters, which is not two numbers"
    assert_refused(write(tmp_path, datasets), told)


def test_slices_without_pixels_are_refused(tmp_path):
    datasets = series()
    del datasets[4].PixelData
    assert_refused(write(tmp_path, datasets), "PixelData is missing in 1 of its 12 slices", of_file=True)


def test_a_character_set_that_is_none_is_not_quoted(tmp_path, recwarn, caplog, capfd):
    write(tmp_path, series(SpecificCharacterSet="DOE_JANE"))
    recwarn.clear()  # what pydicom said when it was written
    caplog.clear()
    assert len(read(tmp_path).stored) == 12
    assert not recwarn.list and not caplog.records and not capfd.readouterr().err


@pytest.mark.parametrize("kernel", ["DOE^JANE", "DOE JANE", "DOE", "19450102"])
def test_a_kernel_that_may_be_a_name_or_a_date_is_not_listed(tmp_path, kernel):
    write(tmp_path, series(ConvolutionKernel=kernel))
    write(tmp_path, slices(marked_volume(), AFFINE, 2, ConvolutionKernel="BONEPLUS"))
    assert_refused(tmp_path, r"  1: CT, 12 slices, 4 mm apart, pixels of 3 x 2 mm\n  2: .*, kernel BONEPLUS$")


def test_malformed_values_are_read_without_a_warning_that_quotes_them(tmp_path, recwarn, caplog):
    folder = write(tmp_path, series())
    for path in folder.iterdir():
        data = path.read_bytes().replace(b"THORAX DOE^JANE", b"THORAX DOE^JAN\xe9").replace(b"B30f", b"\xc4\tX\n")
        path.write_bytes(data.replace(b"AXIAL", b"d%$oe").replace(f"{ROOT}.1\0".encode(), f"{ROOT}.d\0".encode()))
    assert len(read(folder).stored) == 12
    assert not recwarn.list and not caplog.records


def test_values_that_are_no_numbers_are_not_quoted(tmp_path):
    folder = write(tmp_path, series()[:1])
    path = next(folder.iterdir())
    path.write_bytes(path.read_bytes().replace(b"-120.000000", b"DOE^JANE451"))
    assert_refused(
        folder, "file 1 of the scan: ImagePositionPatient is a text of 33 characters, which is not three numbers"
    )


def test_numbers_beyond_all_measure_are_unreadable(tmp_path):
    datasets = series()
    datasets[3].ImagePositionPatient[2], datasets[4].ImagePositionPatient[2] = "1e308", "-1e308"
    assert_refused(write(tmp_path, datasets), "ImagePositionPatient is missing or unreadable in 2")


def test_headers_of_impossible_size_ask_for_no_memory(tmp_path):
    folder = write(tmp_path, series(Rows=65535, Columns=65535))
    assert_refused(folder, "more than any CT has")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(place=st.integers(128, 2800), junk=st.binary(min_size=1, max_size=6), frames=st.booleans())
def test_whatever_its_header_holds_a_series_is_read_or_refused(tmp_path_factory, place, junk, frames):
    datasets = series()[:3]
    folder = write(tmp_path_factory.mktemp("d"), [enhanced(datasets)] if frames else datasets)
    path = sorted(folder.iterdir())[-1]
    data = bytearray(path.read_bytes())
    data[place : place + len(junk)] = junk
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            stack = read(folder)
        except VolumeError as error:
            told = str(error) + str(caught)
        else:
            assert np.isfinite([stack.slope, stack.intercept, *stack.affine.flat]).all()
            told = stack.name + str(caught)
    assert not [word for word in PLANTED if word in told]
