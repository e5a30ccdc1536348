"""A volume of RAD-ChestCT is read as its published form says, and anything else in an `.npz` file is refused."""

import zipfile

import nibabel as nib
import numpy as np
import pytest

from ct_rate_pairs.volumes.scan_files import find_scans, read_scan
from ct_rate_pairs.volumes.slicing import VolumeError


SHAPE = (56, 52, 54)  # z, y, x
VOXELS = np.random.default_rng(0).integers(-1000, 1000, SHAPE, dtype=np.int16)


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "trn00001.npz"
    np.savez_compressed(path, ct=VOXELS)
    return path


def test_the_voxels_and_their_places_are_those_of_the_same_volume_as_nifti(scan, tmp_path, caplog):
    volume = read_scan(scan)
    assert "voxels are taken to be 0.8 mm wide" in caplog.text and "trn00001" not in caplog.text
    affine = np.diag([-0.8, -0.8, 0.8, 1])  # in RAS: x to the left, y to posterior, z to superior
    nib.save(nib.Nifti1Image(np.ascontiguousarray(VOXELS[::-1].transpose(2, 1, 0)), affine), tmp_path / "same.nii.gz")
    same = read_scan(tmp_path / "same.nii.gz")
    assert np.array_equal(volume.stored, VOXELS) and np.array_equal(volume.stored, same.stored)
    assert volume.spacing == same.spacing
    np.testing.assert_allclose(volume.affine[:3, :3], same.affine[:3, :3])
    slices, slice_mm = volume.slices(4, (1.6, 1.6, 3.2))
    np.testing.assert_array_equal(slices, same.slices(4, (1.6, 1.6, 3.2))[0])
    assert slice_mm[0] == 0 and len(slice_mm) == 4


def test_it_is_found_among_scans_and_its_header_is_enough_for_a_check(scan):
    assert find_scans([scan.parent]) == ([scan], True)
    assert read_scan(scan, headers_only=True).stored.shape == SHAPE
    assert np.array_equal(read_scan(scan.parent).stored, VOXELS)  # alone in a folder
    with pytest.raises(VolumeError, match="single volume"):
        read_scan(scan, series=1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": VOXELS},
        {"ct": VOXELS, "mask": VOXELS},
        {"ct": VOXELS.astype(np.float32)},
        {"ct": VOXELS[0]},
        {"ct": VOXELS[:0]},
        {"ct": np.asfortranarray(VOXELS)},
        {"ct": np.array([{}], dtype=object)},
    ],
)
def test_other_arrays_are_refused_with_the_remedy(tmp_path, arrays):
    path = tmp_path / "DOE.npz"
    np.savez_compressed(path, **arrays)
    with pytest.raises(VolumeError, match=r"one array, `ct`, of int16.*\.nii\.gz") as error:
        read_scan(path)
    assert "DOE" not in str(error.value)


def test_a_zip_that_python_inflates_without_limit_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "scan.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("ct.npy", bytes(10**6))
    with pytest.raises(VolumeError, match="another method than deflate"):
        read_scan(tmp_path / "scan.npz")


@pytest.mark.parametrize("damage", [lambda data: data[:-300], lambda data: data[:200] + b"x" * 9 + data[209:], bytes])
def test_a_damaged_file_is_an_error_of_its_volume(scan, damage):
    scan.write_bytes(damage(scan.read_bytes()) if damage is not bytes else b"no zip")
    with pytest.raises(VolumeError, match="the scan: "):
        read_scan(scan)
