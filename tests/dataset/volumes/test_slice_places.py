"""Where each slice lies in its scan: planes that a reader finds again, in every format and by every rule."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom_series import AFFINE, marked_volume, series, slices, write
from PIL import Image

from ct_rate_pairs.volumes import Volume, read_volume
from ct_rate_pairs.volumes.scan_files import read_scan


GRID = {"num_slices": 4, "spacing": (2.0, 3.0, 4.0)}


def tables(places) -> list:
    return [place.table_mm for place in places]


def indices(places) -> list:
    return [place.index for place in places]


def volume(planes: int = 60, z: float = 2.0, **options) -> Volume:
    """A body with lungs between the planes 15 and 45, counted from 0."""
    stored = np.full((planes, 60, 60), -1000, np.int16)
    stored[:, 5:55, 5:55] = 40
    stored[15:45, 12:48, 12:48] = -800
    return Volume("a scan", stored, (5.0, 5.0, z), 1.0, 0.0, **options)


def test_places_are_those_of_the_slices(tmp_path):
    """Depths are the same to the digit, and the slice is what the planes named as first and last give."""
    stored = np.random.default_rng(0).normal(-400, 300, (37, 20, 20)).astype(np.float32)
    scan = Volume("a scan", stored, (5.0, 5.0, 3.3), 1.0, 0.0)
    for rule in ("uniform", "mip"):
        chosen = {"num_slices": 5, "spacing": (5.0, 5.0, 1.5), "z_range": (0.1, 0.8), "rule": rule}
        shown, depths = scan.slices(**chosen)
        places = scan.places(**chosen)
        assert [place.mm for place in places] == depths
        assert [place.number for place in places] == [1, 2, 3, 4, 5] and {place.planes for place in places} == {37}
        assert all(place.first <= place.index <= place.last for place in places)
        for number, place in enumerate(places):
            alone = np.full_like(stored, -400)
            alone[place.first - 1 : place.last] = stored[place.first - 1 : place.last]
            again, _ = Volume("a scan", alone, (5.0, 5.0, 3.3), 1.0, 0.0).slices(**chosen)
            np.testing.assert_array_equal(again[number], shown[number])
            alone[place.index - 1] += 100  # the nearest plane counts
            again, _ = Volume("a scan", alone, (5.0, 5.0, 3.3), 1.0, 0.0).slices(**chosen)
            assert not np.array_equal(again[number], shown[number])
    spans = [place.last - place.first for place in places]  # of slabs
    assert min(spans) > 3 and places[1].first <= places[0].last + 1


@pytest.mark.slow
def test_every_format_names_the_same_table_position(tmp_path):
    """The file's own order, and where its first voxel lies, make no difference."""
    voxels = marked_volume()
    upward = write(tmp_path / "up", series())
    planes = voxels.shape[2]
    expected = [-120 + 4 * (planes - 1 - index) for index in range(planes)]  # of the stored planes, from the top
    of_dicom = read_scan(upward).places(**GRID)
    assert tables(of_dicom) == [expected[index - 1] for index in indices(of_dicom)] and of_dicom[0].table_mm > -120
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "lps.nii.gz")
    turned = nib.as_closest_canonical(nib.Nifti1Image(voxels, AFFINE))
    nib.save(turned, tmp_path / "ras.nii")
    image = sitk.GetImageFromArray(voxels[:, :, ::-1].transpose(2, 1, 0))  # from the head down
    image.SetSpacing([2.0, 3.0, 4.0])
    image.SetOrigin([-30.0, -20.0, -120.0 + 4 * (planes - 1)])
    image.SetDirection([1, 0, 0, 0, 1, 0, 0, 0, -1])
    sitk.WriteImage(image, str(tmp_path / "down.mha"))
    for name in ("lps.nii.gz", "ras.nii", "down.mha"):
        assert read_scan(tmp_path / name).places(**GRID) == of_dicom


def test_the_image_of_a_slice_is_the_one_at_its_table_position(tmp_path):
    scan = read_scan(write(tmp_path / "up", series()))
    places = scan.places(**GRID)
    images = scan.instances.at(indices(places)).images
    planes = len(scan.stored)
    # The images of the series are numbered from the head down, and their UIDs from the feet up.
    assert [image.number for image in images] == indices(places)
    assert [int(image.sop_instance_uid.split(".")[-1]) for image in images] == [
        planes + 1 - index for index in indices(places)
    ]
    assert scan.instances.header.PatientID == "4711-0815" and "PixelData" not in scan.instances.header
    assert "4711" not in repr(scan) and "4711" not in repr(scan.instances)


def test_a_scan_that_does_not_tell_its_place_has_none(tmp_path):
    """Neither a header that nobody filled in, nor a table without an origin, nor RAD-ChestCT, nor pictures."""
    voxels = marked_volume()
    plain = nib.Nifti1Image(voxels, None)
    plain.header.set_zooms((2, 3, 4))
    nib.save(plain, tmp_path / "plain.nii")
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "table.nii")
    ones = np.full((60, 60, 60), -800, np.int16)
    nib.save(nib.Nifti1Image(ones, np.eye(4)), tmp_path / "unset.nii")
    np.savez_compressed(tmp_path / "rad.npz", ct=ones)
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    of_table = read_volume(tmp_path / "table.nii", spacing=(2.0, 3.0, 4.0))
    assert set(tables(of_table.places(**GRID))) == {None}
    for name in ("plain.nii", "unset.nii", "rad.npz", "pictures"):
        places = read_scan(tmp_path / name).places(num_slices=4, spacing=(1.0, 1.0, 1.0))
        assert set(tables(places)) == {None} and len(set(indices(places))) == 4
        assert (
            str(places[1]) == f"{places[1].mm:.0f} mm below the first, plane {places[1].index} of {places[1].planes}"
        )
    assert indices(places) == [2, 4, 6, 8] and [place.mm for place in places] == [0, 75, 150, 225]


def test_a_tilted_scan_has_the_position_of_its_first_pixel(tmp_path):
    """As ImagePositionPatient has it: in DICOM it is that of the image, to the digit that is written."""
    tilt = np.radians(12.0)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-2.0, -3.0, 4.0]), (30, 20, -120)
    datasets = slices(marked_volume(), affine)
    scan = read_scan(write(tmp_path / "tilted", datasets))
    written = {dataset.SOPInstanceUID: float(dataset.ImagePositionPatient[2]) for dataset in datasets}
    places = scan.places(**GRID)
    for place, image in zip(places, scan.instances.at(indices(places)).images, strict=True):
        assert place.table_mm == pytest.approx(written[image.sop_instance_uid], abs=0.02)
    nib.save(nib.Nifti1Image(marked_volume(), affine), tmp_path / "tilted.nii")
    of_nifti = read_scan(tmp_path / "tilted.nii").places(**GRID)
    assert tables(of_nifti) == pytest.approx(tables(places), abs=0.02)
    assert np.diff(tables(places)).mean() == pytest.approx(
        -np.diff([p.mm for p in places]).mean() * np.cos(tilt), 1e-3
    )


def test_slices_outside_the_lungs_are_known():
    places = volume().places(num_slices=6, spacing=(5.0, 5.0, 2.0))
    assert [place.in_lungs for place in places] == [False, True, True, True, False, False]
    assert all(place.in_lungs == (15 <= place.index - 1 < 45) for place in places)
    of_lungs = volume().places(num_slices=6, spacing=(5.0, 5.0, 2.0), rule="lung")
    assert all(place.in_lungs for place in of_lungs) and indices(of_lungs)[0] > 15 and indices(of_lungs)[-1] <= 46
    airless = Volume("a scan", np.full((60, 60, 60), 40, np.int16), (5.0, 5.0, 2.0), 1.0, 0.0)
    assert {place.in_lungs for place in airless.places(num_slices=6, spacing=(5.0, 5.0, 2.0))} == {None}


def test_a_resampled_volume_keeps_its_place_and_names_no_image(tmp_path):
    scan = read_scan(write(tmp_path / "up", series()))
    finer = scan.resampled((2.0, 3.0, 2.0))
    assert finer.instances is None and finer.is_placed
    places, of_finer = scan.places(**GRID), finer.places(num_slices=4, spacing=None)
    assert np.abs(np.subtract(tables(places), tables(of_finer))).max() <= 2  # half of a stored plane
