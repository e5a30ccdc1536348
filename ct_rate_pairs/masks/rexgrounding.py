"""
The masks of ReXGroundingCT (https://huggingface.co/datasets/rajpurkarlab/ReXGroundingCT): findings of CT-RATE's
reports, drawn by radiologists. Its dataset card of 2026-06-14 describes the files.
"""

import logging
from pathlib import Path

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas.rexgrounding import ReXGroundingCT

from .mask import Mask


logger = logging.getLogger(__name__)

TABLE, FOLDER = "dataset.json", "segmentations"
# The categories that the authors' code names (https://github.com/rajpurkarlab/ReXGroundingCT, categorize.py).
CATEGORIES = {
    "1a": "Bronchial wall thickening",
    "1b": "Bronchiectasis",
    "1c": "Emphysema",
    "1d": "Septal thickening",
    "1e": "Micronodules",
    "1f": "Other non-focal abnormality",
    "2a": "Linear opacity",
    "2b": "Atelectasis or consolidation",
    "2c": "Groundglass opacity",
    "2d": "Pulmonary nodules or masses",
    "2e": "Pleural effusion or thickening",
    "2f": "Honeycombing",
    "2g": "Pneumothorax",
    "2h": "Other focal abnormality",
}


def read_rexgrounding(file: Path) -> dict[str, list[Mask]]:
    """
    Reads `dataset.json` or `MICCAI_challenge_dataset.json`. The masks lie beside it, in `segmentations/`: one NIfTI
    file per volume, of shape `(finding, x, y, z)`. Voxels of one finding have one value per lesion, which is not told
    apart here.

    Args:
        file (`Path`):
            The JSON file.

    Returns:
        `dict[str, list[Mask]]`: the masks of each volume whose file is there. Those of the test sets are withheld.

    Raises:
        [`~ct_rate_pairs.json_files.JSONFileError`]: if the file does not hold what the card describes.
    """
    masks, lacking = {}, 0
    for entries in read_json(file, ReXGroundingCT).values():
        for entry in entries:
            path = file.parent / FOLDER / entry["name"]
            if entry["findings"] and not path.is_file():
                lacking += 1
                continue
            masks[entry["name"]] = [
                Mask(
                    _finding(entry.get("categories", {}).get(number, "")),
                    path,
                    f"{FOLDER}/{entry['name']}, finding {number}",
                    channel=int(number),
                    sentence=sentence,
                )
                for number, sentence in sorted(entry["findings"].items(), key=lambda item: int(item[0]))
            ]
    if lacking:
        logger.warning("%s: %d of its volumes have no file in %s/, so their masks are unknown.", file, lacking, FOLDER)
    return masks


def _finding(category: str) -> str:
    return CATEGORIES.get(category, category)
