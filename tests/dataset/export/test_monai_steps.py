"""
The arrays for Merlin and M3D-LaMed are what the scripts' own steps make in MONAI. These steps are those of
`merlin/data/monai_transforms.py` and `Data/process/m3d_cap_data_prepare.py` (`ModelInput.sources` has the commits).
"""

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from ct_rate_pairs.export.write import FORMATS
from ct_rate_pairs.volumes.slicing import Volume


pytestmark = pytest.mark.slow

SPACING = (4.1, 3.7, 2.3)  # mm as x, y, z
SHAPES = {"padded": (30, 40, 36), "cropped": (230, 20, 90)}  # z, y, x; more than 480 mm of z, and of x than 336


def random_volume(shape):
    """Random HU within a border of air."""
    inner = np.random.default_rng(0).integers(-1100, 1500, shape, np.int16)
    stored = np.pad(inner, ((2, 3), (4, 1), (0, 5)), constant_values=-1024)
    return Volume("v", stored, SPACING, 1.0, 0.0)


def image_of(volume, axes):
    """The file of a volume, as its voxels and affine, with axes that run to `axes` in the file."""
    hu = volume.stored.T.astype(np.float32)  # x, y, z run to the left, the back and the feet
    image = nib.Nifti1Image(hu, np.diag([-SPACING[0], -SPACING[1], -SPACING[2], 1]))
    turned = image.as_reoriented(ornt_transform(axcodes2ornt("LPI"), axcodes2ornt(axes)))
    return np.ascontiguousarray(turned.dataobj), turned.affine


@pytest.mark.parametrize(("shape", "axes"), [("padded", "LPS"), ("cropped", "ASR")])
def test_merlin_is_shown_what_its_transforms_make(shape, axes):
    transforms = pytest.importorskip("monai.transforms")
    from monai.data import MetaTensor

    volume = random_volume(SHAPES[shape])
    values, affine = image_of(volume, axes)
    steps = transforms.Compose(
        [
            transforms.Orientation("RAS"),
            transforms.Spacing((1.5, 1.5, 3), mode="bilinear"),
            transforms.ScaleIntensityRange(-1000, 1000, 0.0, 1.0, clip=True),
            transforms.SpatialPad((224, 224, 160)),
            transforms.CenterSpatialCrop((224, 224, 160)),
        ]
    )
    expected = np.asarray(steps(MetaTensor(values[None], affine=affine)))
    np.testing.assert_allclose(FORMATS["merlin"].array(volume), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_m3d_is_shown_what_its_transforms_make(shape):
    transforms = pytest.importorskip("monai.transforms")
    volume = random_volume(SHAPES[shape])
    hu = volume.stored.astype(np.float32).clip(-1000, 1000)
    image = (hu - hu.min())[None]
    image = image / np.clip(image.max(), 1e-8, None)
    steps = transforms.Compose([transforms.CropForeground(), transforms.Resize([32, 256, 256])])
    np.testing.assert_allclose(FORMATS["m3d"].array(volume), np.asarray(steps(image)), rtol=0, atol=1e-6)
