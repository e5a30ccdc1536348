"""
The input of M3D-LaMed: 32 slices of 256 x 256 pixels, whatever the volume's size in mm, with values from 0 to 1 by the
lowest and highest value of the volume.

The model was trained on pictures of Radiopaedia, which have a window already. Its authors advise to choose one
(BAAI-DCAI/M3D#18), and state none.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ct_rate_pairs.volumes.slicing import Volume

from .form import ModelInput, npy_of, stem_of


WINDOW = (-1000.0, 1000.0)  # HU
SIZE = (32, 256, 256)  # slices, rows, columns
PROMPT = "Please generate a medical report based on this image."


def array(volume: Volume) -> np.ndarray:
    """
    The array of a volume: clipped, mapped to 0 to 1 by its lowest and highest value, cropped to the box around values
    above 0, and resized by averages (MONAI's `CropForeground` and `Resize`).

    Args:
        volume ([`~ct_rate_pairs.volumes.slicing.Volume`]):
            The volume.

    Returns:
        `np.ndarray` of shape `[1, 32, 256, 256]`, float32: channel, slices from the head to the feet, rows from the
        front, columns from the patient's right.

    Raises:
        `VolumeError`: if the values cannot be HU of a chest.
    """
    values = min_max(volume.hu().clip(*WINDOW))
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        seen = np.flatnonzero(values.max(axis=others) > 0)
        box.append(slice(seen[0], seen[-1] + 1))
    cropped = torch.from_numpy(np.ascontiguousarray(values[tuple(box)]))
    return F.interpolate(cropped[None, None], size=SIZE, mode="area")[0].numpy()


def min_max(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, by the lowest and the highest."""
    values = values - values.min()
    return values / values.max()


def beside(files: Mapping[str, str]) -> dict[str, str]:
    """
    The list that `Bench/eval/eval_caption.py` reads as `--cap_data_path`, with a text per scan. The text is the
    VolumeName: the script writes it to the column "Ground Truth" of its results, which so tells the scans apart. (The
    script replaces a scan that it cannot read by another, silently.)
    """
    texts = {f"texts/{stem_of(volume)}.txt": volume for volume in files}
    listed = [{"image": str(Path(file)), "text": text} for file, text in zip(files.values(), texts, strict=True)]
    return texts | {"M3D_Cap.json": json.dumps({"test": listed}, indent=1) + "\n"}


M3D = ModelInput(
    model="M3D-LaMed",
    repository="BAAI-DCAI/M3D",
    sources={
        "README.md": "05bb41a29a9dcb5afe8dcafc2c0222b45e271c2a",
        "Data/process/m3d_cap_data_prepare.py": "ac364a9a267e54d140b7939b19ec46ead0871870",
        "Bench/eval/eval_caption.py": "b24a75034ce5aa46aa4ca4408f378b47cc97c0b8",
        "LaMed/src/dataset/prompt_templates.py": "b24a75034ce5aa46aa4ca4408f378b47cc97c0b8",
    },
    shape=(1, *SIZE),
    axes="channel, feet, back, left",
    dtype="float32",
    spacing_mm=None,
    window_hu=WINDOW,
    values="(HU - lowest) / (highest - lowest) of the volume",
    prompts=("<im_patch>" * 256 + PROMPT,),
    not_stated=(
        "The window: -1000 to 1000 HU, that of CT-RATE's own scripts.",
        "The order of slices: from the head to the feet.",
        "The resizing of the training: by averages, as the first script of the preparation has it. Its later version "
        "(b24a7503) interpolates.",
    ),
    array=array,
    place=npy_of,
    beside=beside,
)
