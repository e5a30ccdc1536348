"""Slices to look at: stored planes as they are, in the windows of a chest CT, in the shape of the body."""

import numpy as np
import pytest
from helpers.marked_volume import marked_volume, save
from PIL import Image

from ct_rate_pairs.volumes.native_slices import GREY, NativeSlices, native_slices
from ct_rate_pairs.volumes.scan_files import read_scan
from ct_rate_pairs.volumes.slicing import Volume


# Level -600 and width 1500, and level 40 and width 400: from black through the middle to white.
GREYS = {
    "lung": {-3000: 0, -1350: 0, -600: 127.5, 150: 255, 3000: 255},
    "mediastinum": {-1000: 0, -160: 0, 40: 127.5, 240: 255, 3000: 255},
}


@pytest.mark.parametrize("window", GREYS)
def test_the_windows_are_those_of_a_chest_ct(window):
    hu = np.array([[list(GREYS[window])]], dtype=np.int16)
    (image,) = NativeSlices(hu, (0.7, 0.7)).images(window)
    np.testing.assert_allclose(np.asarray(image)[0], list(GREYS[window].values()), atol=0.5)


def test_stored_planes_come_as_they_are_in_hu_without_any_resampling():
    stored = np.random.default_rng(0).integers(0, 3000, (12, 9, 8), dtype=np.uint16)
    native = native_slices(Volume("a scan", stored, (0.5, 0.5, 2.0), 0.5, -1000.0), [2, 12])
    np.testing.assert_array_equal(native.values, np.rint(stored[[1, 11]] * 0.5 - 1000).astype(np.int16))
    assert native.pixel_mm == (0.5, 0.5) and native.size == (8, 9)


def test_the_patient_s_right_is_on_the_left_the_front_above_and_the_head_first(tmp_path):
    path = save(tmp_path / "scan.nii.gz", marked_volume(), np.diag([-4.0, -4.0, 8.0, 1.0]))
    top, bottom = (np.asarray(image) for image in native_slices(read_scan(path), [1, 12]).images("lung"))
    assert (top[:8, :10] == 255).all() and (top[8:] < 255).all() and (top[:, 10:] < 255).all()
    assert (bottom < 255).all()


@pytest.mark.parametrize(("pixel_mm", "size"), [((0.5, 1.0), (8, 18)), ((1.5, 0.5), (24, 9)), ((0.7, 0.7), (8, 9))])
def test_a_slice_has_the_shape_of_the_body_and_loses_no_pixel(pixel_mm, size):
    native = NativeSlices(np.zeros((1, 9, 8), np.int16), pixel_mm)
    assert native.size == size == native.images("lung")[0].size


def test_pictures_have_their_grey_values_and_no_windows(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 9, 8), dtype=np.uint8)
    for number, picture in enumerate(noise, start=1):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    native = native_slices(read_scan(tmp_path), [1, 4])
    assert native.windows == (GREY,) and native.pixel_mm is None
    np.testing.assert_array_equal([np.asarray(image) for image in native.images(GREY)], noise[[0, 3]])
