"""What the headers of a series say of it: what is no CT in HU is refused, and what contradicts the slices is told."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.dicom_series import ROOT, assert_refused, enhanced, hu, read, series, write
from helpers.marked_volume import marked_volume
from pydicom import dcmwrite
from pydicom.uid import JPEGLSLossless, RLELossless

from ct_rate_pairs.volumes.dicom import checks


@pytest.mark.parametrize(
    "keyword",
    [
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"),
        *("Columns", "BitsStored", "SamplesPerPixel"),
    ],
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
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient is 1 0 0 1 0 0, which spans no"),
        (
            {"ImageOrientationPatient": [2, 0, 0, 0, 0.5, 0]},
            "ImageOrientationPatient is 2 0 0 0 0.5 0, which spans no",
        ),
        ({"PixelSpacing": [0, 0]}, "PixelSpacing is 0 0, which spans no plane"),
        ({"PixelSpacing": [2]}, "PixelSpacing is missing or unreadable in 12 of its 12 slices: '2.0'"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "SamplesPerPixel is 3 in 12 of its 12 .*but a CT has 1"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12 in 12 of its 12 .*but a CT has 8 or 16 or 32"),
        ({"BitsStored": 17}, "BitsStored is 17 in 12 of its 12 .*but a CT has 1 to 16"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2 in 12 of its 12 .*but a CT has 0 or 1"),
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
            *("UH", "uh", "U.H.", "HE", "H", "HÜ", "CT Number", "ct numbers", "CT value", "Unità Hounsfield"),
            *("Unités Hounsfield (UH)", "Unidades Hounsfield [UH]", "Jednostki Hounsfielda", "ед. Хаунсфилда"),
            "US",
            "us",
            "",
            "unspecified",
        ),
    ],
)
def test_hu_is_known_in_every_spelling(tmp_path, word):
    datasets = series(RescaleType=word, SpecificCharacterSet="ISO_IR 192")
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        *((word, repr(word)) for word in ("HU_MOD", "normalized", "Normalised", "MGML", "Z_EFF", "ED", "OD", "PCT")),
        *((word, re.escape(repr(word))) for word in ("US HU", "kHU", "HU/10", "?", "not HU", "-HU", "1/HU", "CT/2")),
        *((word, f"an unknown word of {len(word)} char") for word in ("DOE^JANE", "DOE", "4711-08", "HU 19450102")),
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


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        *((word, word) for word in ("MIP", "VNC", "MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "MAT_MODIFIED")),
        *(
            (word, word)
            for word in ("MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MD_IODINE", "PERFUSION")
        ),
        *((word, word) for word in ("SUBTRACTION", "Z_EFF", "STD_DEVIATION", "MAXIMUM")),
        *(("DE_IODINE_MAP", "IODINE"), ("VNC_2", "VNC"), ("MONO_70", "MONO")),
    ],
)
def test_a_projection_or_a_computed_image_is_told(tmp_path, caplog, word, shown):
    read(write(tmp_path, series(ImageType=["DERIVED", "SECONDARY", "AXIAL", word])))
    assert caplog.messages == [f"series 1 of the scan: its ImageType has {shown}, so its values may be no plain HU."]


@pytest.mark.parametrize("word", ["CT_SOM5 SPI", "HELIX", "DIXON", "JP2K LOSSLESS", "RESAMPLED", "NORM", "DRT"])
def test_a_plain_image_is_not_told_as_computed(tmp_path, caplog, word):
    read(write(tmp_path, series(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", word])))
    assert not caplog.messages


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("RescaleIntercept", -1024, "2 values of RescaleIntercept, from -1024 to 0 (-1024 in 1 of its 12 slices"),
        ("RescaleSlope", 2, "2 values of RescaleSlope, from 1 to 2 (2 in 1 of its 12 slices"),
        ("GantryDetectorTilt", 15, "GantryDetectorTilt is 15 degrees in 1 of its 12 slices"),
        ("PatientPosition", "HFP", "PatientPosition is HFP, but ImageOrientationPatient (1 0 0 0 1 0) does not show"),
        ("PatientPosition", "FFDR", "PatientPosition is FFDR, but ImageOrientationPatient (1 0 0 0 1 0) does not"),
    ],
)
def test_what_contradicts_the_slices_is_told(tmp_path, caplog, keyword, value, told):
    datasets = series()
    setattr(datasets[11], keyword, value)
    read(write(tmp_path, datasets))
    assert told in caplog.text


@pytest.mark.parametrize(
    "attributes", [{"PatientPosition": "HFS"}, {"PatientPosition": "FFS", "GantryDetectorTilt": 0}]
)
def test_what_agrees_with_the_slices_is_not_told(tmp_path, caplog, attributes):
    read(write(tmp_path, series(**attributes)))
    assert not caplog.messages


@pytest.mark.parametrize("as_one", [False, True], ids=["series", "Enhanced CT"])
@pytest.mark.parametrize(("value", "is_told"), [("YES", True), ("yes ", True), ("NO", False), (None, False)])
def test_text_in_the_pixels_is_told(tmp_path, caplog, as_one, value, is_told):
    datasets = series()
    if as_one:
        datasets = [enhanced(datasets)]
    if value:
        datasets[0].BurnedInAnnotation = value
    read(write(tmp_path, datasets))
    told = "BurnedInAnnotation is YES in 12 of its 12 slices" if as_one else "BurnedInAnnotation is YES in 1 of its 12"
    assert any(told in message for message in caplog.messages) == is_told == bool(caplog.messages)


@pytest.mark.parametrize(
    ("value", "is_told"),
    [("HEAD", True), ("DOE^JANE", True), ("Tspine", True), ("CHEST", False), ("Torax ", False), ("WHOLEBODY", False)],
)
def test_another_part_of_the_body_is_told_without_its_words(tmp_path, caplog, value, is_told):
    folder = write(tmp_path, series(BodyPartExamined=value))
    caplog.clear()  # pydicom tells what it was given to write
    read(folder)
    assert any("another part of the body" in message for message in caplog.messages) == is_told
    assert bool(caplog.messages) == is_told and "DOE" not in caplog.text


def test_values_in_other_bits_than_the_lowest_are_refused(tmp_path):
    assert_refused(
        write(tmp_path, series(BitsStored=12, HighBit=15)), "HighBit is 15, but BitsStored 12, in 12 of its"
    )


def test_a_compression_without_its_plug_in_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "get_decoder", lambda syntax: SimpleNamespace(is_available=False))
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
