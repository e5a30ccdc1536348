"""What a mask head is to predict: the share of each cell of the merged patches that lies in each finding."""

import numpy as np
import torch
import torch.nn.functional as F

from .mask_head import CELLS


def mask_shares(masks: np.ndarray, side: int, slices: int) -> torch.Tensor:
    """
    The shares of one volume. Masks are padded around their centre, as its slices are, and the last slice is repeated
    where the number of slices is odd.

    Args:
        masks (`np.ndarray` of shape `[L, S, H, W]`):
            Masks of `L` findings on `S` slices: 1 inside, 0 outside, NaN where nothing is known.
        side (`int`):
            Pixels along each side of a merged patch.
        slices (`int`):
            Slices that a merged patch covers.

    Returns:
        `torch.Tensor` of shape `[patches, L, slices, CELLS, CELLS]`: patches in the order of the vision tower, along
        depth, then height, then width.
    """
    shares = torch.from_numpy(masks)
    height, width = shares.shape[-2:]
    low, left = _before(height, side), _before(width, side)
    shares = F.pad(shares, (left, -(width + left) % side, low, -(height + low) % side))
    if missing := -shares.shape[1] % slices:
        shares = torch.cat([shares, shares[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    shares = F.avg_pool2d(shares, side // CELLS)  # [L, S, rows of cells, columns of cells]
    findings, depth, rows, columns = shares.shape
    patches = shares.view(findings, depth // slices, slices, rows // CELLS, CELLS, columns // CELLS, CELLS)
    return patches.permute(1, 3, 5, 0, 2, 4, 6).reshape(-1, findings, slices, CELLS, CELLS)


def _before(length: int, side: int) -> int:
    """Pixels of air before a slice that is padded to a multiple of `side`, as `PairCollator` pads it."""
    return -((length - -(-length // side) * side) // 2)
