"""
The input of RadFM: 512 x 512 pixels, at most 64 slices (a multiple of 4), three equal channels, with values from 0 to
1 by the lowest and highest value.

The model was trained on pictures of Radiopaedia, which have a window already. Its authors state none
(chaoyi-wu/RadFM#44 asks, without an answer).
"""

import json
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

from ct_rate_pairs.volumes.slicing import Volume

from .form import ModelInput, npy_of
from .m3d import min_max


WINDOW = (-1000.0, 1000.0)  # HU
SIDE = 512  # pixels
DEPTHS = range(4, 65, 4)  # slices
PROMPT = "Please caption this scan with findings and impressions."


def array(volume: Volume) -> np.ndarray:
    """
    The array of a volume: as many slices as the nearest of 4, 8, ..., 64 (the nearest slice of each place), of 512 x
    512 pixels (bilinear), mapped to 0 to 1 by the lowest and highest value of these slices.

    Args:
        volume ([`~ct_rate_pairs.volumes.slicing.Volume`]):
            The volume.

    Returns:
        `np.ndarray` of shape `[1, 3, 512, 512, D]`, float32: image, channel, rows from the front, columns from the
        patient's right, slices from the head to the feet. RadFM's loader leaves such an array as it is.

    Raises:
        `VolumeError`: if the values cannot be HU of a chest.
    """
    hu = torch.from_numpy(volume.hu().clip(*WINDOW))
    depth = min(DEPTHS, key=lambda number: abs(number - len(hu)))
    chosen = F.interpolate(hu[None, None], size=(depth, *hu.shape[1:]), mode="nearest")[0]
    pixels = F.interpolate(chosen, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    values = min_max(pixels.numpy()).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(values, (1, 3, SIDE, SIDE, depth)))


def beside(files: Mapping[str, str]) -> dict[str, str]:
    """
    The two files that RadFM's `RadioCaption_Dataset` reads: the list of scans, and the prompts. The finding of a scan
    is its VolumeName: `src/test.py` writes it to the column "Ground Truth" of its results, and shuffles the scans.
    """
    listed = [
        {"pre": "", "pat": "", "npy_path": file, "finding": volume, "impression": ""} for volume, file in files.items()
    ]
    return {
        "radiology_article_npy_test.json": json.dumps(listed, indent=1) + "\n",
        "caption_prompt.json": json.dumps({"caption_prompt": [PROMPT]}) + "\n",
    }


RADFM = ModelInput(
    model="RadFM",
    repository="chaoyi-wu/RadFM",
    sources={
        "src/Dataset/multi_dataset.py": "7fac8995612484ebf68e2707c85c099837bbe21b",
        "src/Dataset/multi_dataset_test.py": "87ac6fc807537a0ea7f4d6a8b97dfb94d62098d6",
        "src/Dataset/dataset/jpg2nii_data_convert.py": "5999087ebf79a45f2df489d97340edbc8e2f6536",
        "src/test.py": "651e1969e175792bade9d7d9450f0cd22a95296c",
        # Of forks: the index that was read holds no copy of the original.
        "src/Dataset/dataset/radiopaedia.py": "zhi-xuan-chen/Dia-LLaMA@fdfffe6568655e6b127b388e76095d33884ce475",
    },
    shape=(1, 3, SIDE, SIDE, DEPTHS[-1]),
    axes="image, channel, back, left, feet (4, 8, ... or 64 slices, the nearest to those of the volume)",
    dtype="float32",
    spacing_mm=None,
    window_hu=WINDOW,
    values="(HU - lowest) / (highest - lowest) of the slices",
    prompts=(PROMPT,),
    not_stated=(
        "The window: -1000 to 1000 HU, that of CT-RATE's own scripts.",
        "The order of slices: from the head to the feet.",
        "The prompt: the file caption_prompt.json of RadFM was not at hand.",
    ),
    array=array,
    place=npy_of,
    beside=beside,
)
