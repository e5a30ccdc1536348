"""A series that its headers count as longer than it is may be cut at an end, where no gap shows it."""

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, ROOT, hu, read, series, slices, write
from helpers.marked_volume import marked_volume


TOLD = "series 1 of the scan: {} is {}, but only {} are there. Check that no slice was left out of the export."


@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "NumberOfSeriesRelatedInstances"])
@pytest.mark.parametrize("kept", [slice(0, 9), slice(3, 12)])
def test_a_series_cut_at_an_end_is_told(tmp_path, caplog, keyword, kept):
    stack = read(write(tmp_path, series(**{keyword: 12})[kept]))
    np.testing.assert_array_equal(hu(stack), marked_volume()[:, :, kept])
    assert caplog.messages == [TOLD.format(keyword, 12, 9)]


@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "NumberOfSeriesRelatedInstances"])
@pytest.mark.parametrize("count", [12, 11, 0, None])
def test_a_series_that_is_there_is_not_told(tmp_path, caplog, keyword, count):
    read(write(tmp_path, series(**{keyword: count})))
    assert not caplog.messages


def test_copies_of_slices_do_not_stand_for_those_that_lack(tmp_path, caplog):
    datasets = series(ImagesInAcquisition=12)[:9]
    read(write(tmp_path, [*datasets, *datasets[:3]], order=list(range(12))))
    assert TOLD.format("ImagesInAcquisition", 12, 9) in caplog.messages


def test_a_localizer_of_the_series_counts(tmp_path, caplog):
    datasets = series(ImagesInAcquisition=12)[:11]
    localizer = series(ImagesInAcquisition=12, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[11]
    read(write(tmp_path, [*datasets, localizer]))
    assert "ImagesInAcquisition" not in caplog.text


@pytest.mark.parametrize("kept", [12, 10])
def test_each_acquisition_is_counted_by_itself(tmp_path, caplog, kept):
    datasets = series(ImagesInAcquisition=6, AcquisitionNumber=1)
    for dataset in datasets[6:]:
        dataset.AcquisitionNumber = 2
    read(write(tmp_path, datasets[:kept]))
    assert (TOLD.format("ImagesInAcquisition", 6, 4) in caplog.messages) is (kept == 10)


@pytest.mark.parametrize("kept", [12, 10])
def test_places_of_the_table_that_are_numbered_as_acquisitions_are_counted_together(tmp_path, caplog, kept):
    datasets = series(ImagesInAcquisition=12)
    for k, dataset in enumerate(datasets):
        dataset.AcquisitionNumber = k // 4
    read(write(tmp_path, datasets[:kept]))
    assert ("ImagesInAcquisition is 12" in caplog.text) is (kept == 10)


def test_one_of_two_phases_that_share_the_count_is_not_told(tmp_path, caplog):
    first = slices(marked_volume(), AFFINE, ImagesInAcquisition=24, TemporalPositionIdentifier=1)
    second = slices(marked_volume(), AFFINE, ImagesInAcquisition=24, TemporalPositionIdentifier=2)
    for dataset in second:
        dataset.SOPInstanceUID = f"{ROOT}.9{dataset.SOPInstanceUID[len(ROOT) :]}"
    read(write(tmp_path, [*first, *second], order=list(range(24))), 1)
    assert not caplog.messages
