"""
The input of models that look at one picture: Med-Flamingo, Qilin-Med-VL and MiniGPT-4. The ten slices that the dataset
has by default are laid out in it.

Their own processors make 224 x 224, 336 x 336 or 448 x 448 pixels of a picture, and the first crops what is no square.
So the picture is a square, with a multiple of these sizes as its side.
"""

import json
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageOps

from ct_rate_pairs.reports.texts import write_prompt
from ct_rate_pairs.sources.tree import slices_of
from ct_rate_pairs.volumes.montage import montage
from ct_rate_pairs.volumes.settings import VolumeSettings
from ct_rate_pairs.volumes.slicing import Volume

from .form import ModelInput, stem_of


SETTINGS = VolumeSettings()
WINDOW = (-1000.0, 1000.0)  # HU, the window "paper"
SIDE = 1344  # pixels: six times 224, four times 336, three times 448
COLUMNS = 4
QUESTION = (
    f"{SETTINGS.num_slices} axial slices of one chest CT in one picture, left to right and top to bottom, from the "
    f"top of the chest downwards. The patient's right is on the left of a slice. {write_prompt()}"
)


def array(volume: Volume) -> np.ndarray:
    """
    The picture of a volume. Slices are scaled as a whole, so that four lie beside each other.

    Args:
        volume ([`~ct_rate_pairs.volumes.slicing.Volume`]):
            The volume.

    Returns:
        `np.ndarray` of shape `[1344, 1344, 3]`, uint8: downwards, to the right, three equal channels. The lowest part
        is black.

    Raises:
        `VolumeError`: if the values cannot be HU of a chest.
    """
    slices, _ = slices_of(SETTINGS, None, volume)
    cell = (SIDE // COLUMNS, SIDE // COLUMNS)
    picture = montage([ImageOps.pad(Image.fromarray(image), cell, Image.Resampling.LANCZOS) for image in slices])
    square = ImageOps.pad(picture, (SIDE, SIDE), centering=(0, 0))
    return np.asarray(square.convert("RGB"))


def png_of(volume: str) -> str:
    """The file of a volume's picture."""
    return f"pictures/{stem_of(volume)}.png"


def of_pictures(model: str, repository: str, sources: Mapping[str, str], prompt: str, pixels: str) -> ModelInput:
    """The input of a model, which differs from the others by its prompt."""

    def beside(files: Mapping[str, str]) -> dict[str, str]:
        rows = [{"VolumeName": volume, "image": file, "prompt": prompt} for volume, file in files.items()]
        return {"questions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}

    return ModelInput(
        model=model,
        repository=repository,
        sources=sources,
        shape=(SIDE, SIDE, 3),
        axes="downwards, to the right, colour; the slices from the head to the feet",
        dtype="uint8",
        spacing_mm=None,
        window_hu=WINDOW,
        values=f"(HU + 1000) / 2000 as 8 bits; the model's processor makes {pixels} pixels of them",
        prompts=(prompt,),
        not_stated=(
            "How a volume becomes a picture: ten slices, those of the dataset, in four columns.",
            f"The question: {QUESTION}",
        ),
        array=array,
        place=png_of,
        beside=beside,
    )


MED_FLAMINGO = of_pictures(
    "Med-Flamingo",
    "snap-stanford/med-flamingo",
    {"scripts/demo.py": "7bcbb6c3932c814a6f7ae4b838ae4fada39b42a4"},
    f"You are a helpful medical assistant. <image>Question: {QUESTION} Answer:",
    "224 x 224",
)
QILIN = of_pictures(
    "Qilin-Med-VL",
    "williamliujl/Qilin-Med-VL",
    {"llava/serve/cli.py": "05d04ae9b82470fe6ce45e94fa68b14174736a76"},
    f"<image>\n{QUESTION}",
    "336 x 336",
)
MINIGPT4 = of_pictures(
    "MiniGPT-4",
    "Vision-CAIR/MiniGPT-4",
    {
        "eval_scripts/eval_vqa.py": "226cb38bcf347a4e8162e28349a5c7e5ccd4ac3a",
        "minigpt4/processors/blip_processors.py": "05220fe3c13f1b7af6aa2e052a2e9240995f07d6",
    },
    f"[INST] <Img><ImageHere></Img> {QUESTION} [/INST]",
    "448 x 448 (version 2)",
)
