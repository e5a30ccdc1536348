"""DICOM series as they come: shuffled, doubled, cut, tilted, several at once. What is read is right or refused."""

import logging

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, PLANTED, ROOT, assert_refused, hu, read, series, slices, store, write
from helpers.marked_volume import marked_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import EnhancedCTImageStorage

from ct_rate_pairs.volumes.slicing import VolumeError


def test_slices_are_ordered_by_their_place_whatever_files_and_numbers_say(tmp_path):
    stack = read(write(tmp_path, series()))
    np.testing.assert_array_equal(hu(stack), marked_volume())
    np.testing.assert_allclose(stack.affine[:3, :3], AFFINE[:3, :3])
    assert stack.stored.dtype == np.int16  # as it is stored: no second copy in float32
    assert stack.name == "series 1 of the scan"


@pytest.mark.slow
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


def test_an_enhanced_ct_without_positions_is_refused(tmp_path):
    enhanced = series(SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=12)[0]
    enhanced.PixelData *= 12
    del enhanced.ImagePositionPatient, enhanced.ImageOrientationPatient, enhanced.PixelSpacing, enhanced.RescaleSlope
    assert_refused(write(tmp_path, [enhanced]), "series 1.*a file holds 12 frames, but not where each frame lies")


def test_one_slice_is_no_volume(tmp_path):
    assert_refused(write(tmp_path, series()[:1]), "one slice is no volume")


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
