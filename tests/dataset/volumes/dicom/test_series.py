"""DICOM series as they come: shuffled, doubled, cut, tilted, several at once. What is read is right or refused."""

import bz2
import logging
import lzma
import re
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
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    BasicTextSRStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from ct_rate_pairs.volumes.dicom import checks
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
    assert caplog.messages == [
        "4 of the scan's 16 files are not DICOM images and were skipped: 1 .txt, 2 DICOM without an image, such as a "
        "report, 1 without a suffix."
    ]
    for path in (tmp_path / "DOE").iterdir():
        path.unlink()
    assert_refused(tmp_path, r"no DICOM image among its 4 files \(1 .txt, 1 without a suffix\)")


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


def test_a_cut_file_is_named_by_its_number(tmp_path):
    datasets = series()
    folder = write(tmp_path, datasets)
    path = next(path for path in folder.iterdir() if dcmread(path).ImagePositionPatient[2] == -112)
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(folder, "series 1 of the scan: the file of slice 3 has 540 bytes of pixels, but .* describes 640")


@pytest.mark.parametrize("size", [200, 300, 500])
def test_a_slice_cut_short_at_an_end_of_the_stack_is_not_silently_left_out(tmp_path, size):
    folder = write(tmp_path, series())
    path = max(folder.iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(VolumeError, match=r"file \d+ of the scan is damaged") as raised:
        read(folder)
    assert not [word for word in PLANTED if word in str(raised.value)]


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
