"""DICOM series as they come: shuffled, doubled, cut, tilted, several at once. What is read is right or refused."""

import logging
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.dicom_series import (
    AFFINE,
    PLANTED,
    ROOT,
    assert_refused,
    enhanced,
    hu,
    read,
    series,
    slices,
    store,
    write,
)
from helpers.marked_volume import marked_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.uid import (
    BasicTextSRStorage,
    EnhancedCTImageStorage,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from ct_rate_pairs.volumes.dicom import series as dicom_series
from ct_rate_pairs.volumes.slicing import VolumeError


def test_slices_are_ordered_by_their_place_whatever_files_and_numbers_say(tmp_path):
    stack = read(write(tmp_path, series()))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    np.testing.assert_allclose(stack.affine[:3, :3], AFFINE[:3, :3])
    assert stack.stored.dtype == np.int16  # as it is stored: no second copy in float32
    assert stack.name == "series 1 of the scan"


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(12)))
def test_the_order_of_the_files_is_of_no_account(tmp_path_factory, order):
    stack = read(write(tmp_path_factory.mktemp("d"), series(), order))
    np.testing.assert_array_equal(hu(stack), marked_volume())


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept(tmp_path):
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + k % 3, -1024 + k
        store(dataset, np.round((marked_volume()[:, :, k].T + 1024 - k) / (1 + k % 3)).astype(np.uint16))
    np.testing.assert_allclose(hu(read(write(tmp_path, datasets))), marked_volume(), atol=1.5)
    for k, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        store(dataset, (marked_volume()[:, :, k].T + 1024).astype(np.uint16))
    stack = read(write(tmp_path, datasets))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    assert (stack.stored.dtype, stack.slope, stack.intercept) == (np.uint16, 1, -1024)


def test_a_slice_that_is_there_twice_is_dropped_with_a_warning(tmp_path, caplog):
    datasets = series()
    copy = slices(marked_volume(), AFFINE)[4]
    copy.SOPInstanceUID = f"{ROOT}.99"
    with caplog.at_level(logging.WARNING):
        stack = read(write(tmp_path, [*datasets, copy]))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    assert "1 files repeat a slice" in caplog.text and not [word for word in PLANTED if word in caplog.text]
    store(copy, marked_volume()[:, :, 4].T + np.int16(1))
    assert_refused(write(tmp_path, [*datasets, copy]), r"slice 5 \(of 12\) is there 2 times, with different pixels")


@pytest.mark.parametrize(
    "keyword",
    ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "Columns"],
)
def test_a_missing_element_is_named_with_how_many_files_lack_it(tmp_path, keyword):
    datasets = series()
    for dataset in datasets[2:5]:
        delattr(dataset, keyword)
    assert_refused(write(tmp_path, datasets), f"series 1.*{keyword} is missing or unreadable in 3 of its 12")


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"Modality": "MR"}, "series 1 of the scan is MR, 12 slices.*no CT"),
        (
            {"PhotometricInterpretation": "MONOCHROME1"},
            "PhotometricInterpretation is 'MONOCHROME1' in 12.*MONOCHROME2",
        ),
        (
            {"RescaleType": "Z_EFF"},
            "RescaleType is 'Z_EFF' in 12 of its 12 slices .first in file 1 of the scan.*do not rescale to HU",
        ),
        ({"RescaleSlope": 0}, "RescaleSlope is 0.*do not rescale to HU"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "spans no plane"),
        ({"PixelSpacing": [0, 0]}, "spans no plane"),
        ({"NumberOfFrames": 2}, "a file holds 2 frames.*PerFrameFunctionalGroupsSequence"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "only localizers among its 12 files"),
    ],
)
def test_what_is_no_ct_in_hu_is_refused(tmp_path, attributes, match):
    assert_refused(write(tmp_path, series(**attributes)), match)


@pytest.mark.parametrize(
    "word",
    [
        *("HU", "hu", "Hu ", " HU", "H.U.", "[HU]", "(HU)", "'HU'", "H U", "HUs", "Hounsfield", "HOUNSFIELD UNITS"),
        *("Houndsfield Unit", "hounsfield_units", "Hounsfield-Unit", "Hounsfeld units", "HU (Hounsfield Units)"),
        *("Hounsfield Units [HU]", "Hounsfield Unit (HU)", "HU - Hounsfield", "CT number [HU]"),
        *(
            "HU: Hounsfield",
            "Hounsfield-Einheiten",
            "Unidades Hounsfield",
            "UNITES HOUNSFIELD",
            "US",
            "us",
            "",
            "unspecified",
        ),
    ],
)
def test_hu_is_known_in_every_spelling(tmp_path, word):
    np.testing.assert_array_equal(hu(read(write(tmp_path, series(RescaleType=word)))), marked_volume())


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        *((word, repr(word)) for word in ("HU_MOD", "normalized", "Normalised", "MGML", "Z_EFF", "ED", "OD", "PCT")),
        *((word, f"an unknown word of {len(word)} char") for word in ("DOE^JANE", "US HU", "HE", "kHU", "HU/10", "?")),
        *((word, f"an unknown word of {len(word)} char") for word in ("not HU", "-HU", "1/HU")),
    ],
)
def test_other_words_are_no_hu_and_named_with_the_file(tmp_path, word, shown):
    datasets = series()
    datasets[3].RescaleType = word
    refused = (
        rf"series 1 of the scan: RescaleType is {shown}.* in 1 of its 12 slices \(first in file \d+ of the scan\)"
    )
    assert_refused(write(tmp_path, datasets), refused, of_file=True)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("attributes", [{"Modality": "ct"}, {"PhotometricInterpretation": "monochrome2"}])
def test_other_words_of_a_closed_list_are_known_in_every_spelling(tmp_path, attributes):
    np.testing.assert_array_equal(hu(read(write(tmp_path, series(**attributes)))), marked_volume())


@pytest.mark.parametrize("word", ["MIP", "VNC"])
def test_a_projection_or_a_computed_image_is_told(tmp_path, caplog, word):
    read(write(tmp_path, series(ImageType=["DERIVED", "SECONDARY", "AXIAL", word])))
    assert caplog.messages == [f"series 1 of the scan: its ImageType has {word}, so its values may be no plain HU."]


def test_values_in_other_bits_than_the_lowest_are_refused(tmp_path):
    assert_refused(
        write(tmp_path, series(BitsStored=12, HighBit=15)), "HighBit is 15, but BitsStored 12, in 12 of its"
    )


def test_an_enhanced_ct_without_positions_is_refused(tmp_path):
    enhanced = series(SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=12)[0]
    enhanced.PixelData *= 12
    del enhanced.ImagePositionPatient, enhanced.ImageOrientationPatient, enhanced.PixelSpacing, enhanced.RescaleSlope
    assert_refused(write(tmp_path, [enhanced]), "series 1.*a file holds 12 frames, but not where each frame lies")


def test_one_slice_is_no_volume(tmp_path):
    assert_refused(write(tmp_path, series()[:1]), "one slice is no volume")


def test_files_that_are_no_images_are_passed_over_with_a_warning(tmp_path, caplog):
    write(tmp_path / "DOE", series())
    (tmp_path / "readme.txt").write_text("DOE^JANE " * 100)
    (tmp_path / "empty").touch()
    for name, kind in (("DICOMDIR", MediaStorageDirectoryStorage), ("report.dcm", BasicTextSRStorage)):
        other = series(SOPClassUID=kind)[0]
        del other.Rows, other.PixelData
        dcmwrite(tmp_path / name, other, enforce_file_format=True)
    np.testing.assert_array_equal(hu(read(tmp_path)), marked_volume())
    assert caplog.messages == ["4 of the scan's 16 files are not DICOM images and were skipped."]
    for path in (tmp_path / "DOE").iterdir():
        path.unlink()
    assert_refused(tmp_path, "no DICOM image among its 4 files")


def test_the_only_axial_ct_is_chosen_and_the_localizer_left_out(tmp_path):
    write(tmp_path, series(series=3))
    write(tmp_path, slices(marked_volume(), AFFINE, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2])
    write(tmp_path, slices(marked_volume(), AFFINE, 2, Modality="MR"))
    write(tmp_path, slices(marked_volume(), AFFINE, 4)[:5])  # too few
    coronal = AFFINE[:, [0, 2, 1, 3]]
    write(tmp_path, slices(marked_volume(), coronal, 5))
    stack = read(tmp_path)
    np.testing.assert_array_equal(hu(stack), marked_volume())
    assert stack.name == "series 2 of the scan"  # the localizer is no longer counted


def test_of_several_series_one_is_chosen_by_its_number_in_the_list(tmp_path):
    write(tmp_path, series())
    other = marked_volume() + np.int16(5)
    write(tmp_path, slices(other, AFFINE, 7, ConvolutionKernel=["Br59d", "3"], SeriesDescription="DOE"))
    listed = (
        r"2 of its 2 series are axial CT.*series=1:\n"
        r"  1: CT, 12 slices, 4 mm apart, pixels of 3 x 2 mm, kernel B30f\n"
        r"  2: CT, 12 slices, 4 mm apart, pixels of 3 x 2 mm, kernel Br59d, 3$"
    )
    assert_refused(tmp_path, listed)
    assert_refused(tmp_path, r"no series=3\.(.|\n)*Br59d", number=3)
    assert_refused(tmp_path, r"no series=0\.", number=0)
    np.testing.assert_array_equal(hu(read(tmp_path, 1)), marked_volume())
    np.testing.assert_array_equal(hu(read(tmp_path, 2)), other)


def test_a_modality_that_looks_like_free_text_is_not_listed(tmp_path):
    write(tmp_path, series())
    write(tmp_path, slices(marked_volume(), AFFINE, 2, Modality="JANE DOE"))
    write(tmp_path, slices(marked_volume(), AFFINE, 3))
    assert_refused(tmp_path, r"2 of its 3 series")


def test_a_compression_without_its_plug_in_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_series, "get_decoder", lambda syntax: SimpleNamespace(is_available=False))
    datasets = series()
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    assert_refused(write(tmp_path, datasets), r"series 1.*JPEG-LS Lossless.*'ct-rate-pairs\[dicom\]'")


def test_an_unknown_encoding_is_refused(tmp_path):
    datasets = series()
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = f"{ROOT}.5"
    for dataset in datasets:
        dataset.set_original_encoding(False, True)
    folder = tmp_path / "private"
    folder.mkdir()
    for number, dataset in enumerate(datasets):
        dcmwrite(folder / f"{number}", dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    assert_refused(folder, "does not know its transfer syntax")


def test_a_cut_file_is_named_by_its_number(tmp_path):
    datasets = series()
    folder = write(tmp_path, datasets)
    path = next(path for path in folder.iterdir() if dcmread(path).ImagePositionPatient[2] == -112)
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(folder, r"series 1 of the scan: slice 3 cannot be decoded \(ValueError\)")


@pytest.mark.parametrize("size", [200, 300, 500])
def test_a_slice_cut_short_at_an_end_of_the_stack_is_not_silently_left_out(tmp_path, size):
    folder = write(tmp_path, series())
    path = max(folder.iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(VolumeError, match=r"file \d+ of the scan is damaged") as raised:
        read(folder)
    assert not [word for word in PLANTED if word in str(raised.value)]


def test_files_without_a_preamble_are_told_from_other_files(tmp_path):
    folder = write(tmp_path, series())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert_refused(folder, r"no DICOM image among its 12 files.*DICOM's preamble \(128 bytes, then DICM\)")


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
    assert_refused(folder, "file 1 of the scan is damaged")


def test_numbers_beyond_all_measure_are_unreadable(tmp_path):
    datasets = series()
    datasets[3].ImagePositionPatient[2], datasets[4].ImagePositionPatient[2] = "1e308", "-1e308"
    assert_refused(write(tmp_path, datasets), "ImagePositionPatient is missing or unreadable in 2")


def test_headers_of_impossible_size_ask_for_no_memory(tmp_path):
    folder = write(tmp_path, series(Rows=65535, Columns=65535))
    assert_refused(folder, "more than any CT has")


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
