"""Volume maths against a naive full-volume resample, orientation against known corners, and files of each bad kind."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_rate_pairs.volume import VolumeError, fit, read_slices, read_volume


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def naive_slices(path: Path, num_slices: int, spacing: tuple[float, float, float]) -> np.ndarray:
    """The whole volume resampled in HU, as a user would write it. Only for files in L, P, S order."""
    image = nib.load(path)
    volume = torch.from_numpy(image.get_fdata(dtype=np.float32)).permute(2, 1, 0).flip(0)  # [Z, Y, X]
    own = image.header.get_zooms()
    size = [int(n * float(o) / s) for n, o, s in zip(volume.shape, own[::-1], spacing[::-1], strict=True)]
    full = F.interpolate(volume[None, None], size=size, mode="trilinear", align_corners=False)[0, 0].numpy()
    return full[[int((i + 0.5) * size[0] / num_slices) for i in range(num_slices)]]


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 30), st.integers(8, 30), st.integers(10, 40)),
    own=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.7, 5)),
    target=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.7, 2)),
    seed=st.integers(0, 99),
)
def test_slices_equal_the_full_volume_resample_within_one_hu(tmp_path_factory, shape, own, target, seed):
    if int(shape[2] * float(np.float32(own[2])) / target[2]) < 10:
        return
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("v") / "v.nii.gz"
    save(path, rng.integers(-1000, 1000, shape, dtype=np.int16), np.diag([-own[0], -own[1], own[2], 1.0]))
    assert np.abs(read_slices(path, spacing=target) * 1000 - naive_slices(path, 10, target)).max() < 1


def marked_volume() -> np.ndarray:
    """L, P, S array (x to the left, y to the back, z up) with a mark at the patient's right, front and top."""
    array = np.full((20, 16, 12), -900, dtype=np.int16)
    array[:10, :8, 6:] = 300  # x low: right; y low: anterior; z high: superior
    return array


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_any_storage_order_gives_superior_first_anterior_up_right_on_the_left(tmp_path, axes, flips):
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    stored = nib.Nifti1Image(marked_volume(), affine)
    turn = np.array([[axis, 1] for axis in axes])
    for axis in flips:
        turn[axis, 1] = -1
    nib.save(stored.as_reoriented(turn), tmp_path / "v.nii.gz")
    slices = read_slices(tmp_path / "v.nii.gz", num_slices=4, spacing=(2, 3, 4))
    assert slices.shape == (4, 16, 20)
    np.testing.assert_allclose(slices[:2, :8, :10], 0.3, atol=1e-6)
    assert (slices[2:] < 0).all() and (slices[:, 8:] < 0).all() and (slices[:, :, 10:] < 0).all()


def test_a_nan_affine_falls_back_to_left_posterior_superior(tmp_path, caplog):
    path = save(tmp_path / "v.nii", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    data = bytearray(path.read_bytes())
    data[280:284] = np.float32("nan").tobytes()  # srow_x[0]
    path.write_bytes(data)
    slices = read_slices(path, num_slices=4, spacing=(2, 3, 4))
    np.testing.assert_allclose(slices[:2, :8, :10], 0.3, atol=1e-6)
    assert "NaN" in caplog.text


def test_depths_are_physical(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))  # 48 mm deep
    _, depths = read_volume(path).slices(num_slices=4, spacing=(2, 3, 4))
    np.testing.assert_allclose(depths, [0, 12, 24, 36])


def test_header_scaling_is_applied_once(tmp_path):
    image = nib.Nifti1Image(marked_volume() + 1024, np.diag([-2.0, -3.0, 4.0, 1.0]))
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "v.nii.gz")
    # nibabel stores data to fit the header's scaling: what is read must be what was meant
    expected = nib.load(tmp_path / "v.nii.gz").get_fdata()
    assert read_volume(tmp_path / "v.nii.gz")._planes_hu([0], 12).max() == expected[:, :, -1].max()


@pytest.mark.parametrize(
    ("shift", "cause"), [(-1024, "rescaled twice"), (-8192, "rescaled twice"), (1024, "never rescaled")]
)
def test_an_implausible_hu_range_is_refused_with_its_cause(tmp_path, shift, cause):
    path = save(tmp_path / "v.nii.gz", marked_volume() + np.int16(shift), np.diag([-2.0, -3.0, 4.0, 1.0]))
    with pytest.raises(VolumeError, match=cause):
        read_slices(path, num_slices=4, spacing=(2, 3, 4))


def test_unreadable_files_are_named_with_the_cause(tmp_path):
    whole = save(tmp_path / "whole.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0])).read_bytes()
    for name, data, cause in (
        ("cut.nii.gz", whole[: len(whole) // 2], "truncated"),
        ("short.nii.gz", gzip.compress(gzip.decompress(whole)[:-100]), "ends early"),
        ("text.nii.gz", b"<html>not found</html>" * 40, "not a NIfTI"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VolumeError, match=f"{name}.*{cause}"):
            read_slices(tmp_path / name)
    with pytest.raises(VolumeError, match="absent.nii.gz"):
        read_slices(tmp_path / "absent.nii.gz")
    save(tmp_path / "4d.nii.gz", np.zeros((4, 4, 4, 2), np.int16), np.eye(4))
    with pytest.raises(VolumeError, match="three dimensions"):
        read_slices(tmp_path / "4d.nii.gz")


def test_fewer_planes_than_slices_are_refused(tmp_path):
    path = save(tmp_path / "v.nii.gz", marked_volume(), np.diag([-2.0, -3.0, 4.0, 1.0]))
    with pytest.raises(VolumeError, match="10 slices are asked for"):
        read_slices(path, spacing=(2, 3, 8))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_fit_pads_with_air_and_keeps_the_centre(own, wanted):
    fitted = fit(np.ones((2, *own), np.float32), *wanted)
    assert fitted.shape == (2, *wanted)
    assert (fitted == 1).sum() == 2 * min(own[0], wanted[0]) * min(own[1], wanted[1])
    assert set(np.unique(fitted)) <= {-1.0, 1.0}
