"""Padding that is declared: what lies outside the field of view becomes air, and the anatomy stays as it is."""

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, assert_refused, hu, read, series, slices, store, write
from helpers.marked_volume import marked_volume


@pytest.mark.parametrize(("signed", "padding"), [(True, -2000), (True, 63536), (False, 63536), (False, 40)])
@pytest.mark.parametrize("slopes", [(1, 1), (1, 2)])
def test_padding_becomes_air(tmp_path, signed, padding, slopes):
    datasets = series()
    for k, dataset in enumerate(datasets):
        slope, intercept = slopes[k % 2], 0 if signed else -1024
        values = (marked_volume()[:, :, k].T.astype(np.int64) - intercept) // slope
        values[:, :3] = padding  # beside the mark and the air
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        store(dataset, values.astype(np.int16 if signed else np.uint16))
        dataset.add_new("PixelPaddingValue", "US" if padding > 0 else "SS", padding)
    expected = marked_volume()
    expected[:3] = -1000
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), expected)


def test_a_range_of_padding_becomes_air(tmp_path):
    datasets = series(PixelPaddingValue=-2048, PixelPaddingRangeLimit=-2000)
    for dataset in datasets:
        values = np.full((16, 20), -900, np.int16)
        values[0, :3] = -2048, -2020, -2000
        store(dataset, values)
    assert hu(read(write(tmp_path, datasets)))[:4, 0, 0].tolist() == [-1000, -1000, -1000, -900]


def chest() -> np.ndarray:
    """HU `[X, Y, K]`: air, a body of 0 HU that touches no border, two lungs, and a bone."""
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 50), range(12), indexing="ij")
    array = np.full(x.shape, -1000, np.int16)
    array[(x / 0.8) ** 2 + (y / 0.7) ** 2 < 1] = 0
    for side in (-1, 1):
        array[((x - side * 0.4) / 0.25) ** 2 + (y / 0.45) ** 2 < 1] = -850
    array[x**2 + (y - 0.5) ** 2 < 0.02] = 700
    return array


def outside_circle(radius: float = 1.0) -> np.ndarray:
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 50), range(12), indexing="ij")
    return x**2 + y**2 > radius**2


def stored(array: np.ndarray, intercept: int = 0, unsigned: bool = False, **attributes):
    """Slices of `array` in HU, stored with an intercept."""
    datasets = slices(array, AFFINE, **attributes)
    for k, dataset in enumerate(datasets):
        dataset.RescaleIntercept = intercept
        store(dataset, (array[:, :, k].T.astype(np.int64) - intercept).astype(np.uint16 if unsigned else np.int16))
    return datasets


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"PixelPaddingValue": 0}, "PixelPaddingValue 0: 0 HU"),
        ({"PixelPaddingValue": -850}, "PixelPaddingValue -850: -850 HU"),
        ({"PixelPaddingValue": 700}, "700 HU"),
        ({"PixelPaddingValue": -860, "PixelPaddingRangeLimit": 100}, "-860 to 100 HU"),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": 100}, "-2000 to 100 HU"),
        ({"PixelPaddingValue": 100, "PixelPaddingRangeLimit": -2000}, "-2000 to 100 HU"),
        ({"PixelPaddingValue": -3024, "PixelPaddingRangeLimit": 3000}, "-3024 to 3000 HU"),
    ],
)
def test_a_declared_value_that_is_anatomy_changes_nothing_and_is_told(tmp_path, caplog, attributes, told):
    folder = write(tmp_path, stored(chest(), **attributes))
    np.testing.assert_array_equal(hu(read(folder)), chest())
    (message,) = caplog.messages
    assert message.startswith("series 1 of the scan declares padding") and told in message and "were kept" in message


def test_a_declared_value_that_is_nowhere_is_not_told(tmp_path, caplog):
    read(write(tmp_path, stored(chest(), PixelPaddingValue=-2000)))
    assert not caplog.messages


@pytest.mark.parametrize("padding", [-2000, -1024, 0, 3000])
def test_around_a_round_field_of_view_padding_of_any_value_becomes_air(tmp_path, padding):
    expected = chest()
    array = np.where(outside_circle(), np.int16(padding), expected)
    expected[outside_circle()] = -1000
    np.testing.assert_array_equal(hu(read(write(tmp_path, stored(array, PixelPaddingValue=padding)))), expected)


def test_padding_of_a_tissue_s_value_becomes_air_outside_and_stays_inside(tmp_path, caplog):
    array = np.where(outside_circle(), np.int16(0), chest())
    voxels = hu(read(write(tmp_path, stored(array, PixelPaddingValue=0))))
    np.testing.assert_array_equal(voxels, np.where(outside_circle(), -1000, chest()))
    air, kept = (f"{100 * share:.1f} %" for share in (outside_circle().mean(), (chest() == 0).mean()))
    assert f"{air} of its voxels, from the border" in caplog.text and f"{kept} have such a value" in caplog.text


@pytest.mark.parametrize(
    ("axis", "end"), [(0, slice(0, 5)), (0, slice(-5, None)), (1, slice(0, 6)), (1, slice(-6, None))]
)
def test_bands_beside_a_field_of_view_become_air(tmp_path, axis, end):
    array, expected = chest(), chest()
    band = (slice(None),) * axis + (end,)
    array[band], expected[band] = 0, -1000
    np.testing.assert_array_equal(hu(read(write(tmp_path, stored(array, PixelPaddingValue=0)))), expected)


def test_tissue_of_the_declared_value_that_reaches_the_border_is_refused_with_the_figures(tmp_path):
    array = np.roll(chest(), 12, axis=1)  # the body is cut off at the back
    array[:, :12] = -1000
    refused = (
        r"PixelPaddingValue 0: 0 HU\) that is a value of tissue. It fills \d+% of a slice.*remove PixelPaddingValue"
    )
    assert_refused(write(tmp_path / "cut", stored(array, PixelPaddingValue=0)), refused)
    wide = np.where(outside_circle(0.8), np.int16(0), chest())  # the body touches the padding around it
    assert_refused(write(tmp_path / "wide", stored(wide, PixelPaddingValue=0)), "cannot be told apart")


def test_some_voxels_of_the_declared_value_at_the_border_are_noise(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.normal(0, 20, (120, 100, 12)).astype(np.int16)
    array[:, :20] = -1000
    value = 55  # in 0.04 % of the voxels
    np.testing.assert_array_equal(hu(read(write(tmp_path, stored(array, PixelPaddingValue=value)))), array)


def test_padding_is_compared_in_the_bits_that_are_stored(tmp_path):
    """-2000 in 16 bits, of which 12 are stored, is 2096: without care, white corners."""
    array = chest()
    datasets = stored(array, intercept=-1024, unsigned=True, BitsStored=12, HighBit=11)
    for k, dataset in enumerate(datasets):
        values = (array[:, :, k].T.astype(np.int64) + 1024).astype(np.uint16)
        values[outside_circle()[:, :, k].T] = 63536
        store(dataset, values)
        dataset.add_new("PixelPaddingValue", "US", 63536)
    expected = np.where(outside_circle(), -1000, array)
    np.testing.assert_array_equal(hu(read(write(tmp_path, datasets))), expected)


def test_padding_is_in_stored_units_not_in_hu(tmp_path):
    """Stored 24 is air where the intercept is -1024; 24 HU is tissue."""
    array = chest()
    array[array == 0] = 24
    np.testing.assert_array_equal(
        hu(read(write(tmp_path, stored(array, -1024, unsigned=True, PixelPaddingValue=24)))), array
    )
