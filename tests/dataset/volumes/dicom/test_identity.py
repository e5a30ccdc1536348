"""Slices of two patients, studies or days are never one volume. Spellings and midnight make no second one."""

import zipfile

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, ROOT, assert_refused, enhanced, hu, read, series, slices, write
from helpers.marked_volume import marked_volume
from helpers.shares import mostly_slow

from ct_rate_pairs.volumes.dicom.identity import IDENTITY
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import VolumeError


DIFFERENCES = [
    ("PatientID", "4711-0815", "4711-0816"),
    ("PatientName", "DOE^JANE", "DOE^JILL"),
    ("PatientName", "DOE^JANE=X", "DOE^JILL=X"),
    ("PatientBirthDate", "19450102", "19450201"),
    ("PatientBirthDate", "1945", "1946"),
    ("PatientSex", "F", "M"),
    ("IssuerOfPatientID", "DOE A", "DOE B"),
    ("ClinicalTrialSubjectID", "DOE 1", "DOE 2"),
    ("ClinicalTrialTimePointID", "DOE 1", "DOE 2"),
    ("StudyInstanceUID", f"{ROOT}.7", f"{ROOT}.8"),
    ("StudyID", "DOE 1", "DOE 2"),
    ("AccessionNumber", "DOE 1", "DOE 2"),
    ("StudyDate", "20240228", "20240229"),
    ("SeriesDate", "20240228", "20240229"),
    ("AcquisitionDate", "20240228", "20240229"),
    ("ContentDate", "20240228", "20240229"),
    ("AcquisitionDateTime", "20240228101500", "20240229101500"),
    ("FrameReferenceDateTime", "20240228101500", "20240229101500"),
]
SPELLINGS = [
    ("PatientID", "p-0815", "P-0815"),
    ("PatientID", "P 0815", "P  0815"),
    ("PatientName", "DOE^JANE", "Doe^Jane^^^"),
    ("PatientName", "DOE^JANE", "DOE, JANE"),
    ("PatientName", "DOE^JANE", "DOE^JANE=X^Y"),
    ("PatientBirthDate", "19450102", "1945.01.02"),
    ("PatientSex", "F", "f"),
    ("StudyDate", "20240229", "2024-02-29"),
    ("AccessionNumber", "doe 1", "DOE 1"),
]


def halves(keyword, one, two, **attributes):
    """A series of which the lower seven slices say `one`, and the upper five `two`; `None` is not said."""
    datasets = series(**attributes)
    for k, dataset in enumerate(datasets):
        value = one if k < 7 else two
        setattr(dataset, keyword, value)
        if value is None:
            delattr(dataset, keyword)
    return datasets


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("keyword", "one", "two"), DIFFERENCES)
def test_two_patients_studies_or_days_one_below_the_other_are_two(tmp_path, keyword, one, two):
    folder = write(tmp_path, halves(keyword, one, two))
    refusal = (
        rf"never one volume: if {keyword} should be equal.*series=1:\n.* 7 slices.* {keyword} 1 of 2\n.* 5 slices"
    )
    assert_refused(folder, refusal)
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume()[:, :, :7])


def test_each_element_of_the_identity_has_a_case():
    assert {keyword for keyword, _, _ in DIFFERENCES} == set(IDENTITY)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("keyword", "one", "two"), mostly_slow(DIFFERENCES))
@pytest.mark.parametrize("odd", [[5], [0, 4, 11], [1, 3, 5, 7, 9, 11]])
def test_single_slices_of_another_patient_study_or_day_are_not_kept(tmp_path, keyword, one, two, odd):
    datasets = series(**{keyword: one})
    for k in odd:
        setattr(datasets[k], keyword, two)
    assert_refused(write(tmp_path, datasets), rf"never one volume: if {keyword} should(.|\n)*{keyword} 2 of 2$")


def test_slices_without_a_patient_beside_two_patients_are_apart(tmp_path):
    datasets = halves("PatientID", "4711-0815", "4711-0816")
    del datasets[11].PatientID
    assert_refused(write(tmp_path, datasets), r"1 slices(.|\n)*7 slices(.|\n)*4 slices.*PatientID 3 of 3$")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("keyword", "one", "two"), mostly_slow(case for case in DIFFERENCES if not case[0].startswith("Frame"))
)
def test_two_files_of_enhanced_ct_are_compared_too(tmp_path, keyword, one, two):
    datasets = halves(keyword, one, two)
    files = [enhanced(datasets[:7]), enhanced(datasets[7:])]
    for number, file in enumerate(files, start=1):
        file.SOPInstanceUID = f"{ROOT}.{number}"
    assert_refused(write(tmp_path, files), rf"never one volume: if {keyword} should(.|\n)*{keyword} 2 of 2$")


def test_frames_of_two_days_are_two(tmp_path):
    file = enhanced(series())
    for k, frame in enumerate(file.PerFrameFunctionalGroupsSequence):
        day = "20240228" if k < 7 else "20240229"
        frame.FrameContentSequence[0].FrameAcquisitionDateTime = f"{day}101500"
    assert_refused(write(tmp_path, [file]), r"never one volume: if AcquisitionDateTime should be equal")


def test_two_patients_in_a_zip_are_two(tmp_path):
    folder = write(tmp_path / "series", halves("PatientName", "DOE^JANE", "DOE^JILL"))
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with pytest.raises(VolumeError, match="never one volume: if PatientName should be equal") as raised:
        read_scan(tmp_path / "scan.zip")
    assert "DOE" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("keyword", "one", "two"), SPELLINGS)
def test_another_spelling_is_the_same_patient_and_told(tmp_path, caplog, keyword, one, two):
    folder = write(tmp_path, halves(keyword, one, two))
    caplog.clear()  # pydicom's words about what was written
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert caplog.messages == [
        "series 1 of the scan: its slices are taken for one patient, study and day, but have 2 spellings of "
        f"{keyword}."
    ]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("keyword", "one", "two"), mostly_slow(DIFFERENCES))
@pytest.mark.parametrize("nothing", ["", None])
def test_an_element_that_some_slices_lack_is_told(tmp_path, caplog, keyword, one, two, nothing):
    folder = write(tmp_path, halves(keyword, one, nothing))
    caplog.clear()  # pydicom's words about what was written
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert caplog.messages == [
        f"series 1 of the scan: its slices are taken for one patient, study and day, but have no {keyword} in 5 of "
        "its 12 slices."
    ]


@pytest.mark.parametrize(
    "keyword", ["InstitutionName", "StationName", "DeviceSerialNumber", "PatientAge", "StudyTime"]
)
def test_another_place_or_device_is_told(tmp_path, caplog, keyword):
    values = {"PatientAge": ("040Y", "071Y"), "StudyTime": ("101500", "111500")}.get(keyword, ("DOE A", "DOE B"))
    np.testing.assert_array_equal(hu(read(write(tmp_path, halves(keyword, *values)))), marked_volume())
    assert caplog.messages == [
        f"series 1 of the scan: its slices are read as one volume, but have 2 values of {keyword}."
    ]


@pytest.mark.parametrize("keyword", ["StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"])
@pytest.mark.parametrize("days", [("20240229", "20240301"), ("20241231", "20250101")])
def test_days_around_midnight_are_one_scan_and_told(tmp_path, caplog, keyword, days):
    datasets = halves(keyword, *days)
    for k, dataset in enumerate(datasets):
        setattr(dataset, keyword.replace("Date", "Time"), "235958" if k < 7 else "000003.5")
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())
    assert f"read as one volume, but have 2 values of {keyword}" in caplog.text.replace("2 values of StudyTime, ", "")


@pytest.mark.parametrize(
    ("days", "times"),
    [
        (("20240229", "20240301"), ("101500", "101503")),
        (("20240228", "20240301"), ("235958", "000003")),  # a day between them
        (("20240229", "20250301"), ("235958", "000003")),
        (("20240229", "20240301"), ("225958", "000003")),  # an hour between them
        (("20240229", "20240301"), (None, None)),
        (("20240229", "20240301"), ("235958", None)),
    ],
)
def test_days_that_are_not_around_midnight_are_two(tmp_path, days, times):
    datasets = halves("AcquisitionDate", *days)
    for k, dataset in enumerate(datasets):
        if time := times[k >= 7]:
            dataset.AcquisitionTime = time
    assert_refused(write(tmp_path, datasets), "never one volume: if AcquisitionDate should be equal")


def test_copies_of_another_patient_are_not_dropped(tmp_path):
    copies = slices(marked_volume(), AFFINE, PatientID="4711-0816")
    for dataset in copies:
        dataset.SOPInstanceUID += ".9"
    folder = write(tmp_path, [*series(), *copies], order=list(range(24)))
    assert_refused(folder, "never one volume: if PatientID should be equal")
