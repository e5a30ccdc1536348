"""Where slices lie: missing, sheared and misplaced ones are refused; rounded positions are read as what they were."""

import numpy as np
import pytest
from helpers.dicom_series import AFFINE, assert_refused, read, series, slices, write
from helpers.shares import mostly_slow


def test_missing_slices_are_refused_with_their_places_and_number(tmp_path):
    datasets = series()
    folder = write(tmp_path, datasets[:3] + datasets[4:8] + datasets[10:])
    assert_refused(folder, r"series 1.*3 missing slices.*2 gaps.*4 mm \(-112\.0 to -104\.0 mm, -92\.0 to -80\.0 mm\)")


def test_a_slice_out_of_place_is_refused_and_cut_decimals_are_not(tmp_path):
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[2] = -120 + 4 * k + 0.3 * (k % 2)
    assert len(read(write(tmp_path / "cut", datasets)).stored) == 12
    datasets[5].ImagePositionPatient[2] += 1.5
    assert_refused(write(tmp_path / "moved", datasets), "slices out of place, where 2 gaps.*-104.0 to")


def test_gantry_tilt_is_refused(tmp_path):
    datasets = series()
    for k, dataset in enumerate(datasets):
        dataset.ImagePositionPatient[1] += 4 * k * np.tan(np.radians(12))
    assert_refused(write(tmp_path, datasets), r"12 degrees to their normal \(gantry tilt\)")


def moved(places, **attributes):
    """As many slices, each at its place along z."""
    rng = np.random.default_rng(0)
    datasets = slices(rng.integers(-1000, 500, (8, 8, len(places)), dtype=np.int16), AFFINE, **attributes)
    for dataset, place in zip(datasets, places, strict=True):
        dataset.ImagePositionPatient[2] = f"{place:.3f}"
    return datasets


ROUNDINGS = {"rounded": np.rint, "cut": np.trunc, "floored": np.floor, "tenths": lambda z: np.round(z, 1)}


@pytest.mark.parametrize("rounding", ["rounded", "cut", "floored"])
@pytest.mark.parametrize("start", [100.0, -317.3, -21.4])
@pytest.mark.parametrize("step", mostly_slow([1.25, 1.5, 2.5, 1.8, 3.27]))
def test_positions_in_whole_mm_are_evenly_spaced(tmp_path, caplog, rounding, start, step):
    true = start + step * np.arange(36)
    places = ROUNDINGS[rounding](true)
    stack = read(write(tmp_path, moved(places)))
    assert len(stack.stored) == 36
    assert abs(stack.affine[2, 2] - step) < 1.5 / 35  # at most what rounding both ends hides
    told = "rounded or cut to 1 mm" in caplog.text
    assert told == (np.ptp(np.diff(places)) > 0.2 * np.median(np.diff(places)))


@pytest.mark.parametrize("step", [0.25, 0.45])
def test_thin_slices_with_positions_in_tenths_of_mm_are_evenly_spaced(tmp_path, caplog, step):
    stack = read(write(tmp_path, moved(np.round(step * np.arange(60) + 0.01, 1))))
    assert abs(stack.affine[2, 2] - step) < 0.003 and "rounded or cut to 0.1 mm" in caplog.text


@pytest.mark.parametrize("rounding", ["rounded", "cut", "floored"])
@pytest.mark.parametrize("step", mostly_slow([0.625, 0.7, 0.8, 1.25]))
@pytest.mark.parametrize("downwards", [False, True])
def test_slices_that_fell_together_are_put_in_the_order_of_their_numbers(tmp_path, caplog, rounding, step, downwards):
    datasets = moved(ROUNDINGS[rounding](-20.3 + step * np.arange(60)))
    voxels = np.stack([dataset.pixel_array for dataset in datasets])
    for k, dataset in enumerate(datasets):
        dataset.InstanceNumber = 60 - k if downwards else k + 1
    stack = read(write(tmp_path, datasets))
    np.testing.assert_array_equal(stack.stored, voxels)
    assert abs(stack.affine[2, 2] - step) < 1.5 / 59 and "rounded or cut to 1 mm" in caplog.text


@pytest.mark.parametrize("phases_first", [False, True])
def test_two_phases_at_whole_mm_are_not_taken_for_one_volume_at_half_mm(tmp_path, phases_first):
    datasets = moved(np.repeat(np.arange(20.0), 2))
    for k, dataset in enumerate(datasets):
        dataset.InstanceNumber = k + 1 if phases_first else 20 * (k % 2) + k // 2 + 1
    cause = "20.* is there 2 times, with different pixels" if phases_first else "several volumes"
    assert_refused(write(tmp_path, datasets), cause)


@pytest.mark.parametrize("step", [1.25, 1.5, 2.5, 1.8])
@pytest.mark.parametrize("gone", mostly_slow([1, 5, 17, 18, 30, 34]))
def test_a_slice_that_is_missing_among_rounded_positions_is_found(tmp_path, step, gone):
    places = np.delete(np.floor(100 + step * np.arange(36)), gone)
    assert_refused(write(tmp_path, moved(places)), "1 missing slices|slices out of place.*rounded to 1 mm")


def test_several_that_are_missing_among_rounded_positions_are_counted(tmp_path):
    places = np.delete(np.floor(100 + 1.25 * np.arange(40)), [10, 11, 12, 25])
    assert_refused(write(tmp_path, moved(places)), r"[34] missing slices.*spacing of 1\.2\d* mm.*rounded to 1 mm")


@pytest.mark.parametrize("gone", [[1], [20], [12, 30]])
def test_a_slice_missing_at_a_spacing_of_one_mm_is_not_taken_for_rounding(tmp_path, gone):
    places = np.delete(100.0 + np.arange(40), gone)
    assert_refused(write(tmp_path, moved(places, SliceThickness=1)), f"{len(gone)} missing slices.*spacing of 1 mm")


def test_slices_that_all_lie_at_one_place_are_no_volume(tmp_path):
    assert_refused(write(tmp_path, moved([7.5] * 12)), "ImagePositionPatient puts all 12 slices at one place")


def test_a_spacing_that_changes_on_the_way_is_refused(tmp_path):
    places = np.cumsum([3.0] * 20 + [3.45] * 20)
    assert_refused(write(tmp_path, moved(places)), r"slices out of place, or positions that fit no spacing \(about 3")


def test_a_declared_spacing_settles_what_few_rounded_positions_leave_open(tmp_path):
    places = np.floor(100 + 1.1 * np.arange(14))  # one gap of 2 mm: rounded, or a slice is missing
    assert_refused(write(tmp_path / "open", moved(places)), "1 missing slices.*then give SpacingBetweenSlices")
    stack = read(write(tmp_path / "told", moved(places, SpacingBetweenSlices=1.1)))
    assert stack.affine[2, 2] == pytest.approx(1.1)


def test_a_spacing_that_the_positions_contradict_is_told(tmp_path, caplog):
    assert read(write(tmp_path, series(SpacingBetweenSlices=4))).affine[2, 2] == 4
    assert not caplog.messages
    assert read(write(tmp_path, series(SpacingBetweenSlices=2))).affine[2, 2] == 4
    assert "SpacingBetweenSlices is 2 mm, but by ImagePositionPatient its slices are 4.000 mm" in caplog.text
