"""
The input of Merlin: 1.5 x 1.5 x 3 mm, axes to the patient's right, the front and the head, padded or cropped around
the centre to 224 x 224 x 160 voxels.

Merlin was trained on CT of the abdomen. Its reports are about one organ system after another.
"""

import numpy as np
from scipy import ndimage

from ct_rate_pairs.volumes.fitting import fit_volume
from ct_rate_pairs.volumes.slicing import Volume

from .form import ModelInput, nothing_beside, npy_of, turned, voxel_sizes


SPACING = (1.5, 1.5, 3.0)  # mm as x, y, z
WINDOW = (-1000.0, 1000.0)  # HU
SIZE = (224, 224, 160)  # voxels to the right, the front and the head
AXES = "RAS"
ORGAN_SYSTEMS = (
    *("lower thorax", "liver", "gallbladder", "spleen", "pancreas", "adrenal glands", "kidneys", "bowel"),
    *("peritoneum", "pelvic", "circulatory", "lymph nodes", "musculoskeletal"),
)


def array(volume: Volume) -> np.ndarray:
    """
    The array of a volume: resampled linearly, clipped, mapped from -1000 to 1000 HU to 0 to 1, padded with 0.

    MONAI's `Spacing`, which Merlin uses, keeps the centre of the first voxel where it is, and rounds the number of
    voxels.

    Args:
        volume ([`~ct_rate_pairs.volumes.slicing.Volume`]):
            The volume.

    Returns:
        `np.ndarray` of shape `[1, 224, 224, 160]`, float32: channel, right, front, head.

    Raises:
        `VolumeError`: if the values cannot be HU of a chest.
    """
    hu = turned(volume.hu(), AXES)
    steps = np.divide(SPACING, voxel_sizes(volume.spacing, AXES))  # own voxels per new voxel
    shape = tuple(round((count - 1) / step) + 1 for count, step in zip(hu.shape, steps, strict=True))
    hu = ndimage.affine_transform(hu, steps, output_shape=shape, order=1, mode="nearest", output=np.float32)
    low, high = WINDOW
    return fit_volume((hu.clip(low, high) - low) / np.float32(high - low), SIZE, air=0.0)[None]


MERLIN = ModelInput(
    model="Merlin",
    repository="StanfordMIMI/Merlin",
    sources={
        # Of the first author's repository of the same code, and of a fork: the index that was read has no other copy.
        "merlin/data/monai_transforms.py": "louisblankemeier/Merlin@b2fc78248cc011a3c7d017d81fa3b79c9eca40e2",
        "documentation/report_generation_demo.py": "howardbaik/Merlin@04098b9a2cdd43576b793478e12b5dfc3321258c",
        "merlin/models/radiology_report_generation.py": "607588db667439d577fee3e09c9af7a17461a045",
    },
    shape=(1, *SIZE),
    axes="channel, right, front, head",
    dtype="float32",
    spacing_mm=SPACING,
    window_hu=WINDOW,
    values="(HU + 1000) / 2000, padded with 0",
    prompts=tuple(f"Generate a radiology report for {name}###\n" for name in ORGAN_SYSTEMS),
    not_stated=(),
    array=array,
    place=npy_of,
    beside=nothing_beside,
)
