"""
The input of CT-CLIP, and of CT-CHAT and CT2Rep, which share its preprocessing: 0.75 x 0.75 x 1.5 mm, cropped or padded
around the centre to 480 x 480 x 240 voxels.

The scripts read CT-RATE's files without a look at their directions. CT-RATE's files have their axes to the patient's
left, the back and the head, so this is what the models were trained on; others turn scans to them, too (CT-CLIP#41).
Here a volume is turned to these axes, whatever its file has.

CT-CLIP's scripts apply the slope and intercept of the metadata table. On the `*_fixed` files, which are HU already,
they rescale twice (CT-CLIP#50). The arrays here are made from HU.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ct_rate_pairs.volumes.fitting import fit_volume
from ct_rate_pairs.volumes.slicing import Volume

from .form import ModelInput, nothing_beside, npy_of, stem_of, turned


SPACING = (0.75, 0.75, 1.5)  # mm as x, y, z
WINDOW = (-1000.0, 1000.0)  # HU
SIZE = (240, 480, 480)  # voxels to the head, the left and the back
AXES = "SLP"
CT2REP_WINDOW = (-1000.0, 200.0)  # HU, which CT2Rep's own loader clips to
ASKED = "<image>\nCan you generate the report for the following chest CT image?<report_generation>"


def resampled(volume: Volume) -> np.ndarray:
    """
    A volume at 0.75 x 0.75 x 1.5 mm, as HU / 1000 in [-1, 1]: clipped, then resampled (trilinear,
    `align_corners=False`), then cropped or padded with -1 around its centre.

    Args:
        volume ([`~ct_rate_pairs.volumes.slicing.Volume`]):
            The volume.

    Returns:
        `np.ndarray` of shape `[240, 480, 480]`, float32. The axes run to the head, the patient's left and the back.

    Raises:
        `VolumeError`: if the values cannot be HU of a chest.
    """
    hu = torch.from_numpy(volume.hu().clip(*WINDOW))
    own = zip(hu.shape, volume.spacing[::-1], SPACING[::-1], strict=True)
    size = [int(count * (side / target)) for count, side, target in own]
    values = F.interpolate(hu[None, None], size=size, mode="trilinear", align_corners=False)[0, 0] / 1000
    return fit_volume(turned(values.numpy(), AXES), SIZE, air=-1.0)


def with_channel(volume: Volume) -> np.ndarray:
    """As [`resampled`], with an axis for the channel: what CT-CLIP's image encoder takes, without the batch."""
    return resampled(volume)[None]


def blank() -> np.ndarray:
    """A volume of air, as CT-CLIP's image encoder takes it: the same for all scans."""
    return np.full((1, *SIZE), -1, np.float32)


def in_folders(volume: str, ending: str = ".npy") -> str:
    """The file of a volume's array, in the folders of patient and scan that CT-CLIP's and CT2Rep's loaders expect."""
    patient, scan = ("_".join(stem_of(volume).split("_")[:parts]) for parts in (2, 3))
    return f"scans/{patient}/{scan}/{stem_of(volume)}{ending}"


def ct_chat_questions(files: Mapping[str, str]) -> dict[str, str]:
    """The file of questions that CT-CHAT's validation scripts read, `merged_output_valid.json`."""
    asked = [
        {
            "id": stem_of(volume),
            "image": volume,
            "conversations": [
                {"from": "human", "value": ASKED, "type": "report_generation"},
                {"from": "gpt", "value": ""},
            ],
        }
        for volume in files
    ]
    return {"merged_output_valid.json": json.dumps(asked, indent=1) + "\n"}


def ct2rep_table(files: Mapping[str, str]) -> dict[str, str]:
    """
    The table of CT2Rep's loader, as CSV: a row per folder of a scan. The loader leaves out a folder without a row, and
    takes "Not given." as no text. The reference reports are not needed to write new ones.
    """
    folders = dict.fromkeys(Path(file).parent.name for file in files.values())
    rows = (f"{folder},Not given.\n" for folder in folders)
    return {"scans.csv": "".join(["AccessionNo,Findings_EN\n", *rows])}


_SHARED = {
    "dtype": "float32",
    "spacing_mm": SPACING,
    "window_hu": WINDOW,
    "not_stated": ("The axes: to the head, the left and the back, as the files of CT-RATE have them.",),
}
CT_CLIP = ModelInput(
    model="CT-CLIP",
    repository="ibrahimethemhamamci/CT-CLIP",
    sources={
        "scripts/data_inference_nii.py": "13d84fbd78ac886d1a881f5e054a0aea742c89f7",
        "scripts/zero_shot.py": "b97fab65663f15f15daff6e00bedc9086c65d574",
        "scripts/forward_data.py": "f6a31ac97dc52aa918725b18a7baf387a3e26001",
    },
    shape=(1, *SIZE),
    axes="channel, head, left, back",
    values="HU / 1000, padded with -1",
    prompts=("{label} is present.", "{label} is not present."),
    array=with_channel,
    place=in_folders,
    beside=nothing_beside,
    **_SHARED,
)
CT_CHAT = ModelInput(
    model="CT-CHAT",
    repository="ibrahimethemhamamci/CT-CHAT",
    sources={
        "llava/serve/encode_script.py": "fec81f5c75816f83ee6d1ee3709ef56ec9fbc985",
        "llava/serve/ctchat_validation_llama.py": "fec81f5c75816f83ee6d1ee3709ef56ec9fbc985",
        "evaluations/evaluate_llm.py": "fec81f5c75816f83ee6d1ee3709ef56ec9fbc985",
    },
    shape=(1, *SIZE),
    axes="channel, head, left, back",
    values="HU / 1000, padded with -1",
    prompts=(ASKED,),
    array=with_channel,
    place=npy_of,
    beside=ct_chat_questions,
    **_SHARED
    | {
        "not_stated": (
            *_SHARED["not_stated"],
            "The words of the question: one of those in CT-RATE's own questions. The scripts state the marks <image> "
            "and <report_generation>.",
        )
    },
)
CT2REP = ModelInput(
    model="CT2Rep",
    repository="ibrahimethemhamamci/CT2Rep",
    sources={"CT2Rep/modules/data_ct.py": "c8e1fb5b0c7662686c6769b710820bef612f3cd2"},
    shape=SIZE,
    axes="head, left, back",
    values="HU / 1000, padded with -1. CT2Rep's loader clips them to -1000 to 200 HU, and maps these to -1 to 1.",
    prompts=(),
    array=resampled,
    place=partial(in_folders, ending=".npz"),
    beside=ct2rep_table,
    **_SHARED,
)
