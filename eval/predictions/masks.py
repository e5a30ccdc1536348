"""The masks that a model with a mask head predicts on the slices of a volume."""

import numpy as np
import torch
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.mask_head import MaskHead
from ct_rate_pairs.trainer.mask_shares import masks_of_shares


DEFAULT_THRESHOLD = 0.5  # of a finding for which no threshold could be fitted


@torch.no_grad()
def predict_cells(model: PreTrainedModel, head: MaskHead, collator: PairCollator, row: dict) -> torch.Tensor:
    """
    What the head says of the cells of the merged patches of a volume. Only the vision tower runs.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode, that the head was trained on.
        head ([`~ct_rate_pairs.trainer.mask_head.MaskHead`]):
            Its head.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        row (`dict`):
            The volume, with `images`, `slice_mm` and `prompt`.

    Returns:
        `torch.Tensor` of shape `[patches, L, slices, CELLS, CELLS]`: for each of `L` findings, the share of each cell
        that lies in it, float32 in [0, 1], on the CPU.
    """
    inputs = collator.prompts([row])
    pixels, grid = (inputs[name].to(model.device) for name in ("pixel_values_videos", "video_grid_thw"))
    features = model.get_video_features(pixels.to(model.dtype), grid).pooler_output
    return head(torch.cat(tuple(features))).float().sigmoid().cpu()


def shares_of_cells(cells: torch.Tensor, collator: PairCollator, row: dict) -> np.ndarray:
    """The cells of [`predict_cells`], of all findings or some, at the size of the volume's slices, `[L, S, H, W]`."""
    (width, height), number = row["images"][0].size, len(row["images"])
    video = collator.processor.video_processor
    return masks_of_shares(cells, (number, height, width), video.patch_size * video.merge_size)


def predict_masks(model: PreTrainedModel, head: MaskHead, collator: PairCollator, row: dict) -> np.ndarray:
    """
    Predicts where each finding of a head is.

    Args:
        model, head, collator, row:
            As for [`predict_cells`].

    Returns:
        `np.ndarray` of shape `[L, S, H, W]`, float32: for each finding and each pixel of the slices, the share of its
        surroundings that lies in the finding, in [0, 1]. The surroundings are a cell of the head, 7 x 7 pixels for
        Qwen2.5-VL.
    """
    return shares_of_cells(predict_cells(model, head, collator, row), collator, row)
