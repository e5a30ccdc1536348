"""What is no slice is set aside and counted; acquisitions that share a series are told apart, never woven into one."""

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
from helpers.shares import mostly_slow
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage, SegmentationStorage

from ct_rate_pairs.volumes.dicom.stacks import OF_ACQUISITION, set_aside


AXIAL = ["ORIGINAL", "PRIMARY", "AXIAL"]


def without(dataset, *keywords):
    for keyword in keywords:
        delattr(dataset, keyword)


def odd_one(kind: str):
    dataset = series()[5]
    dataset.SOPInstanceUID = f"{ROOT}.99"
    if kind == "localizer":
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    elif kind == "coronal":
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    elif kind == "sagittal, of another size":
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        store(dataset, np.zeros((30, 40), np.int16))
    elif kind == "dose page":
        dataset.SOPClassUID, dataset.ImageType = SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY", "DOSE_INFO"]
        without(dataset, "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope")
    elif kind == "dose page of the CT's class":
        dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        without(dataset, "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope")
        store(dataset, np.zeros((30, 40), np.int16))
    elif kind == "screenshot in colour":
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
        dataset.PixelData = bytes(16 * 20 * 3)
        dataset.BitsAllocated = dataset.BitsStored = 8
    elif kind == "segmentation":
        dataset.SOPClassUID, dataset.Modality, dataset.NumberOfFrames = SegmentationStorage, "SEG", 3
        without(dataset, "ImagePositionPatient", "RescaleSlope", "RescaleIntercept")
    elif kind == "report as PDF":
        dataset.SOPClassUID, dataset.Modality = EncapsulatedPDFStorage, "DOC"
        without(dataset, "Rows", "Columns", "PixelData")
    return dataset


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("localizer", "localizers (1)"),
        ("coronal", "coronal, sagittal or oblique images (1)"),
        ("sagittal, of another size", "coronal, sagittal or oblique images (1)"),
        ("dose page", "images of another kind than CT (SOPClassUID) (1)"),
        ("dose page of the CT's class", "images without position and orientation (such as a page with the dose) (1)"),
        ("screenshot in colour", "colour images (1)"),
        ("segmentation", "images of another kind than CT (SOPClassUID) (1)"),
        ("report as PDF", "1 of the scan's 13 files are not DICOM images"),
    ],
)
def test_what_is_no_slice_of_the_volume_is_passed_over_and_counted(tmp_path, caplog, kind, told):
    stack = read(write(tmp_path, [*series(), odd_one(kind)]))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    assert len(caplog.messages) == 1 and told in caplog.text and not [word for word in PLANTED if word in caplog.text]


def test_several_odd_ones_are_counted_by_kind(tmp_path, caplog):
    odd = [odd_one(kind) for kind in ("localizer", "coronal", "dose page", "sagittal, of another size")]
    np.testing.assert_array_equal(hu(read(write(tmp_path, [*series(), *odd]))), marked_volume())
    assert caplog.messages == [
        "Images of the scan that are no slices of a volume were skipped: localizers (1), images of another kind than "
        "CT (SOPClassUID) (1), coronal, sagittal or oblique images (2)."
    ]


def test_a_damaged_slice_is_not_taken_for_an_odd_one(tmp_path):
    datasets = series()
    without(datasets[11], "ImagePositionPatient")
    assert_refused(write(tmp_path, datasets), "ImagePositionPatient is missing or unreadable in 1 of its 12")


def test_a_series_of_nothing_else_is_kept_whole():
    header = {"ImageType": "AXIAL", "SOPClassUID": "1", "Modality": "OT", "PhotometricInterpretation": "RGB"}
    assert set_aside([header, header]) == ([header, header], {})


def acquisitions(shift: float = 0.0, second: dict | None = None, first: dict | None = None):
    """Two acquisitions that share a series: the second one lies `shift` mm higher, and has other voxels."""
    other = marked_volume() + np.int16(7)
    moved = AFFINE.copy()
    moved[2, 3] += shift
    both = [slices(marked_volume(), AFFINE, **(first or {})), slices(other, moved, **(second or {}))]
    for k, dataset in enumerate(both[1]):
        dataset.SOPInstanceUID = f"{ROOT}.2.{k}"
    return both


DIFFERENCES = [
    ("AcquisitionNumber", 1, 2),
    ("TemporalPositionIdentifier", 1, 2),
    ("ConvolutionKernel", "B30f", "B70f"),
    ("SliceThickness", 4, 8),
    ("KVP", 80, 140),
    ("NominalPercentageOfCardiacPhase", 40, 75),
    ("ImageType", AXIAL, ["DERIVED", "PRIMARY", "AXIAL"]),
    ("FrameOfReferenceUID", f"{ROOT}.7", f"{ROOT}.8"),
    ("StudyInstanceUID", f"{ROOT}.7", f"{ROOT}.8"),
    ("IrradiationEventUID", f"{ROOT}.7", f"{ROOT}.8"),
    ("AcquisitionTime", "101500.5", "101622"),
    ("AcquisitionDateTime", "20240229101500.5", "20240229101622"),
    ("ContentTime", "101500", "101622"),
    ("PixelSpacing", [3, 2], [3, 2.5]),
]


# Each difference at the same places, and in turn half a step, a third of one, or two steps apart.
APART = [(*of, shift) for place, of in enumerate(DIFFERENCES) for shift in (0.0, (2.0, 1.3, 8.0)[place % 3])]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("keyword", "one", "two", "shift"), mostly_slow(APART, every=3))
def test_acquisitions_of_one_series_are_told_apart_by_what_differs(tmp_path, keyword, one, two, shift):
    first, second = acquisitions(shift, {keyword: two}, {keyword: one})
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    listed = rf"several volumes.*series=1:\n  1: CT, 12 slices, 4 mm.*{keyword}.*\n  2: CT, 12 slices, 4 mm.*{keyword}"
    assert_refused(folder, listed)
    chosen = [hu(read(folder, number)) for number in (1, 2)]
    if keyword != "ImageType":  # DERIVED comes first
        np.testing.assert_array_equal(chosen[0], marked_volume())
        np.testing.assert_array_equal(chosen[1], marked_volume() + 7)
    assert {int(voxels.max()) for voxels in chosen} == {300, 307}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("keyword", mostly_slow(["AcquisitionTime", "ContentTime", "InstanceNumber", "TriggerTime"]))
@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("back", [False, True])
def test_acquisitions_whose_slices_are_counted_up_are_told_apart(tmp_path, keyword, shift, back):
    """Each slice has its own time or number. The table goes back to the start, or scans on its way back."""
    first, second = acquisitions(shift)
    for number, dataset in enumerate([*first, *(second[::-1] if back else second)], start=1):
        setattr(dataset, keyword, number if keyword in ("InstanceNumber", "TriggerTime") else f"1015{number:02}.25")
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    assert_refused(folder, rf"several volumes(.|\n)*{keyword} 1 of 2\n(.|\n)*{keyword} 2 of 2$")
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume())
    np.testing.assert_array_equal(hu(read(folder, 2)), marked_volume() + 7)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime", "ContentTime", "InstanceNumber"])
@pytest.mark.parametrize("order", mostly_slow(["up", "down", "four per turn", "every sixth", "mixed"]))
def test_a_volume_whose_slices_are_numbered_one_by_one_is_one(tmp_path, keyword, order):
    datasets = slices(np.repeat(marked_volume(), 5, axis=2), AFFINE)
    numbers = {
        "up": range(60),
        "down": range(60)[::-1],
        "four per turn": [k // 4 if keyword != "InstanceNumber" else k for k in range(60)],
        "every sixth": [k % 6 * 10 + k // 6 for k in range(60)],
        "mixed": np.random.default_rng(0).permutation(60).tolist(),
    }[order]
    for dataset, number in zip(datasets, numbers, strict=True):
        setattr(dataset, keyword, f"1015{number:02}" if keyword.endswith("Time") else int(number))
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), np.repeat(marked_volume(), 5, axis=2))


def test_acquisitions_one_below_the_other_are_one_volume_and_told(tmp_path, caplog):
    datasets = series(AcquisitionNumber=1)
    for dataset in datasets[7:]:
        dataset.AcquisitionNumber = 2
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())
    assert caplog.messages == [
        "series 1 of the scan: its slices are read as one volume, but have 2 values of AcquisitionNumber."
    ]


@pytest.mark.parametrize(("keyword", "one", "two"), [case for case in DIFFERENCES if case[0] in OF_ACQUISITION])
@pytest.mark.parametrize("odd", [[5], [3, 8], [0, 4, 5, 11]])
def test_slices_that_the_volume_would_lack_are_kept_and_told(tmp_path, caplog, keyword, one, two, odd):
    datasets = series(**{keyword: one})
    for k in odd:
        setattr(datasets[k], keyword, two)
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())
    assert caplog.messages == [
        f"series 1 of the scan: its slices are read as one volume, but have 2 values of {keyword}."
    ]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("shift", [2.0, 8.0, -1.3])
def test_slices_that_share_their_numbers_at_different_places_are_two_volumes(tmp_path, shift):
    first, second = acquisitions(shift)
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    assert_refused(folder, r"several volumes(.|\n)*InstanceNumber 1 of 2\n(.|\n)*InstanceNumber 2 of 2$")
    maxima = {int(hu(read(folder, number)).max()) for number in (1, 2)}
    assert maxima == {300, 307}


def test_copies_of_a_whole_series_are_dropped(tmp_path, caplog):
    copies = series()
    for dataset in copies:
        dataset.SOPInstanceUID += ".9"
    folder = write(tmp_path, [*series(), *copies], order=list(range(24)))
    np.testing.assert_array_equal(hu(read(folder)), marked_volume())
    assert "12 files repeat a slice" in caplog.text


def test_what_nothing_tells_apart_is_refused(tmp_path):
    first, second = acquisitions()
    assert_refused(
        write(tmp_path, [*first, *second], order=list(range(24))), "is there 2 times, with different pixels"
    )


@pytest.mark.parametrize(
    ("keyword", "value", "shown"),
    [
        ("Rows", 15, "Rows 15"),
        ("Columns", 19, "Columns 19"),
        ("PixelSpacing", [3, 2.1], "PixelSpacing 3 2.1"),
        ("ImageOrientationPatient", [1, 0, 0, 0, -1, 0], "ImageOrientationPatient 1 0 0 0 -1 0"),
    ],
)
@pytest.mark.parametrize("place", [4, 11])
def test_a_slice_of_another_plane_is_not_silently_left_out(tmp_path, keyword, value, shown, place):
    datasets = series()
    setattr(datasets[place], keyword, value)
    assert_refused(write(tmp_path, datasets), rf"several volumes(.|\n)*CT, 1 slices.*{shown}")


def test_the_choice_among_series_is_told(tmp_path, caplog):
    write(tmp_path, series())
    write(tmp_path, slices(marked_volume(), AFFINE, 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:2])
    write(tmp_path, slices(marked_volume(), AFFINE, 3, Modality="MR"))
    read(tmp_path)
    assert caplog.messages == [
        "Images of the scan that are no slices of a volume were skipped: localizers (2).",
        "Series 1 of the scan's 2 series was chosen (CT, 12 slices, 4 mm apart, pixels of 3 x 2 mm, kernel B30f): the "
        "others are no axial CT of 10 slices or more.",
    ]


def test_two_files_of_an_enhanced_series_are_two_volumes_where_they_overlap(tmp_path):
    first, second = (enhanced(datasets) for datasets in acquisitions(2.0))
    folder = write(tmp_path, [first, second])
    assert_refused(folder, r"several volumes(.|\n)*Multiframe 1 of 2", of_file=True)
    assert {int(hu(read(folder, number)).max()) for number in (1, 2)} == {300, 307}


def numbered_by_place(first, second):
    """The slices of both, with numbers that go through by place, so that no number tells them apart."""
    both = sorted([*first, *second], key=lambda dataset: dataset.ImagePositionPatient[2])
    for number, dataset in enumerate(both, start=1):
        dataset.InstanceNumber = number
    return both


OTHERS = [
    ("AcquisitionDate", "20240228", "20240229"),
    ("ContentDate", "20240228", "20240229"),
    ("SeriesTime", "101500", "101622"),
    ("SeriesDate", "20240228", "20240229"),
    ("InstanceCreationTime", "101500", "101622"),
    ("ContrastBolusAgent", "none", "iodine"),
    ("ContrastBolusAgent", None, "iodine"),
    ("ContrastBolusVolume", 0, 80),
    ("PatientPosition", "HFS", "FFS"),
    ("ReconstructionDiameter", 350, 400),
    ("FilterType", "BODY FILTER", "HEAD FILTER"),
    ("ScanOptions", "HELICAL MODE", "AXIAL MODE"),
    ("XRayTubeCurrent", 100, 300),
    ("Exposure", 20, 60),
    ("TemporalPositionIndex", 1, 2),
    ("ProtocolName", "native", "venous"),
    ("SeriesDescription", "native", "venous"),
    ("PatientID", "1", "2"),
    ("TableHeight", 140, 150),
]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("keyword", "one", "two", "decimals"), mostly_slow((*of, 6 * (place % 2)) for place, of in enumerate(OTHERS))
)
def test_acquisitions_half_a_step_apart_are_told_apart_by_any_element(tmp_path, keyword, one, two, decimals):
    first, second = acquisitions(2.0, {keyword: two}, {keyword: one} if one is not None else {})
    both = numbered_by_place(first, second)
    for dataset in both:
        place = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [f"{value + 0.3:.{decimals}f}" for value in place]
    folder = write(tmp_path, both, order=list(range(24)))
    listed = rf"several volumes.*series=1:\n  1: CT, 12 slices, 4 mm.*{keyword}.*\n  2: CT, 12 .*{keyword}"
    assert_refused(folder, listed)
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume())
    np.testing.assert_array_equal(hu(read(folder, 2)), marked_volume() + 7)


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("keyword", "one", "two"), mostly_slow(case for case in OTHERS if "Creation" not in case[0]))
def test_acquisitions_at_the_same_places_are_told_apart_by_any_element(tmp_path, keyword, one, two):
    first, second = acquisitions(0.0, {keyword: two}, {keyword: one} if one is not None else {})
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    assert_refused(folder, r"several volumes.*series=1:\n  1: CT, 12 slices, 4 mm.*\n  2: CT, 12 slices")
    assert {int(hu(read(folder, number)).max()) for number in (1, 2)} == {300, 307}


@pytest.mark.slow
def test_four_acquisitions_between_each_other_are_told_apart(tmp_path):
    datasets = []
    for number in range(4):
        moved = AFFINE.copy()
        moved[2, 3] += number
        datasets += slices(marked_volume() + np.int16(number), moved, XRayTubeCurrent=100 * (number // 2), KVP=120)
        for dataset in datasets[-12:]:
            dataset.Exposure, dataset.SOPInstanceUID = number % 2, dataset.SOPInstanceUID + f".{number}"
    folder = write(tmp_path, numbered_by_place(datasets, []), order=list(range(48)))
    assert_refused(folder, r"several volumes(.|\n)*4: CT, 12 slices, 4 mm")
    assert sorted(int(hu(read(folder, number)).max()) for number in (1, 2, 3, 4)) == [300, 301, 302, 303]


@pytest.mark.parametrize(
    "keyword", ["XRayTubeCurrent", "Exposure", "SeriesTime", "ContrastBolusAgent", "ProtocolName"]
)
@pytest.mark.parametrize("values", ["random of two", "random of five", "blocks", "each its own"])
def test_an_element_that_varies_from_slice_to_slice_tells_nothing_apart(tmp_path, keyword, values):
    random = np.random.default_rng(1)
    numbers = {
        "random of two": random.integers(2, size=12),
        "random of five": random.integers(5, size=12),
        "blocks": np.arange(12) // 4,
        "each its own": np.arange(12),
    }[values]
    datasets = series()
    for dataset, number in zip(datasets, numbers, strict=True):
        value = int(number) if keyword in ("XRayTubeCurrent", "Exposure") else f"1015{number:02}"
        setattr(dataset, keyword, value)
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())


def test_how_pixels_are_shown_tells_nothing_apart(tmp_path):
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.WindowCenter, dataset.SmallestImagePixelValue = 40 + k % 2, k % 2
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("sequence", "keyword", "one", "two"),
    [
        ("FrameContentSequence", "FrameReferenceDateTime", "20240229101500", "20240229101622"),
        ("FrameContentSequence", "FrameAcquisitionDateTime", "20240229101500", "20240229101622"),
        ("FrameContentSequence", "TemporalPositionIndex", 1, 2),
        ("FrameContentSequence", "FrameLabel", "native", "venous"),
        ("FrameContentSequence", "DimensionIndexValues", 1, 2),
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", 0.0, 1.5),
        ("ContrastBolusUsageSequence", "ContrastBolusAgentPhase", "ARTERIAL", "VENOUS"),
        ("CTExposureSequence", "XRayTubeCurrentInmA", 100.0, 200.0),
    ],
)
@pytest.mark.parametrize("items", [1, 2])
def test_frames_half_a_step_apart_are_told_apart_by_any_element(tmp_path, sequence, keyword, one, two, items):
    first, second = acquisitions(2.0, {"SeriesNumber": 2}, {"SeriesNumber": 1})
    both = numbered_by_place(first, second)
    file = enhanced(both)
    for number, (dataset, frame) in enumerate(zip(both, file.PerFrameFunctionalGroupsSequence, strict=True), start=1):
        value = one if dataset.SeriesNumber == 1 else two
        if sequence not in frame:
            setattr(frame, sequence, [Dataset() for _ in range(items)])
        for item in frame[sequence].value:
            setattr(item, keyword, [value, number] if keyword == "DimensionIndexValues" else value)
    folder = write(tmp_path, [file])
    assert_refused(folder, r"several volumes.*series=1:\n  1: CT, 12 slices, 4 mm.*\n  2: CT, 12 slices")
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume())
    np.testing.assert_array_equal(hu(read(folder, 2)), marked_volume() + 7)


MIDNIGHT = [f"2359{57 + k / 2:04.1f}" if k < 6 else f"0000{k / 2 - 3:04.1f}" for k in range(12)]


@pytest.mark.parametrize("keyword", ["AcquisitionTime", "ContentTime", "AcquisitionDateTime"])
@pytest.mark.parametrize("dates", ["of the days", "of the first day", "missing"])
@pytest.mark.parametrize("down", [False, True])
def test_a_scan_over_midnight_is_one(tmp_path, keyword, dates, down):
    datasets = series()
    for k, dataset in enumerate(datasets[::-1] if down else datasets):
        date = "20240229" if dates == "of the first day" or k < 6 else "20240301"
        if keyword == "AcquisitionDateTime":
            setattr(dataset, keyword, date + MIDNIGHT[k])
            continue
        setattr(dataset, keyword, MIDNIGHT[k])
        if dates != "missing":
            setattr(dataset, keyword.replace("Time", "Date"), date)
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())


def test_two_scans_around_midnight_are_two(tmp_path):
    first, second = acquisitions(2.0)
    for datasets, date in ((first, "20240229"), (second, "20240301")):
        for dataset, time in zip(
            datasets, [f"{'2358' if date.endswith('29') else '0003'}{k:02}" for k in range(12)], strict=True
        ):
            dataset.AcquisitionDate, dataset.AcquisitionTime = date, time
    folder = write(tmp_path, numbered_by_place(first, second), order=list(range(24)))
    assert_refused(folder, r"several volumes(.|\n)*AcquisitionTime 1 of 2\n(.|\n)*AcquisitionTime 2 of 2$")
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume())


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("one", "two"),
    [
        (range(1, 13), range(2, 26, 2)),
        (range(1, 13), range(12, 0, -1)),
        (range(1, 13), range(100, 220, 10)),
        (range(12, 0, -1), range(2, 26, 2)),
    ],
)
@pytest.mark.parametrize("shift", [2.0, 1.8])
def test_acquisitions_half_a_step_apart_that_are_numbered_by_their_own_steps_are_two(tmp_path, one, two, shift):
    first, second = acquisitions(shift)
    for datasets, numbers in ((first, one), (second, two)):
        for dataset, number in zip(datasets, numbers, strict=True):
            dataset.InstanceNumber = number
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    assert_refused(folder, r"several volumes(.|\n)*InstanceNumber 1 of 2\n(.|\n)*InstanceNumber 2 of 2$")
    np.testing.assert_array_equal(hu(read(folder, 1)), marked_volume())
    np.testing.assert_array_equal(hu(read(folder, 2)), marked_volume() + 7)


def test_numbers_that_several_slices_share_are_told(tmp_path, caplog):
    datasets = series()
    for dataset, number in zip(datasets, [1, 2, 2, 4, 3, 6, 4, 8, 5, 10, 6, 12], strict=True):
        dataset.InstanceNumber = number
    datasets[9].InstanceNumber = 9  # so that no step is kept
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())
    assert caplog.messages == [
        "series 1 of the scan: 3 values of InstanceNumber belong to several slices each, at different places. Check "
        "that these are of one acquisition."
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_one_number_for_all_slices_says_nothing(tmp_path, caplog, number):
    np.testing.assert_array_equal(hu(read(write(tmp_path, series(InstanceNumber=number)))), marked_volume())
    assert not caplog.messages


def test_parts_one_below_the_other_that_are_numbered_alike_are_one_volume_and_told(tmp_path, caplog):
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.InstanceNumber = k % 6 + 1
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), marked_volume())
    assert "6 values of InstanceNumber belong to several slices each" in caplog.text


def test_parts_with_a_gap_between_that_are_numbered_alike_are_two_volumes(tmp_path):
    first, second = acquisitions(80.0)
    folder = write(tmp_path, [*first, *second], order=list(range(24)))
    assert_refused(folder, r"several volumes(.|\n)*InstanceNumber 1 of 2\n(.|\n)*InstanceNumber 2 of 2$")
