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
            Masks of `L` findings on `S` slices: 1 inside, 0 outside; all NaN for a finding that is not known.
        side (`int`):
            Pixels along each side of a merged patch.
        slices (`int`):
            Slices that a merged patch covers.

    Returns:
        `torch.Tensor` of shape `[patches, L, slices, CELLS, CELLS]`: patches in the order of the vision tower, along
        depth, then height, then width. All NaN for a finding that is not known.
    """
    shares = torch.from_numpy(masks)
    height, width = shares.shape[-2:]
    low, left = _before(height, side), _before(width, side)
    unknown = shares.isnan().flatten(1).all(dim=1)
    shares = F.pad(shares, (left, -(width + left) % side, low, -(height + low) % side))
    shares[unknown] = torch.nan  # of its padding, too: else the loss would learn from it that nothing is there
    if missing := -shares.shape[1] % slices:
        shares = torch.cat([shares, shares[:, -1:].expand(-1, missing, -1, -1)], dim=1)
    shares = F.avg_pool2d(shares, side // CELLS)  # [L, S, rows of cells, columns of cells]
    findings, depth, rows, columns = shares.shape
    patches = shares.view(findings, depth // slices, slices, rows // CELLS, CELLS, columns // CELLS, CELLS)
    return patches.permute(1, 3, 5, 0, 2, 4, 6).reshape(-1, findings, slices, CELLS, CELLS)


def _before(length: int, side: int) -> int:
    """Pixels of air before a slice that is padded to a multiple of `side`, as `PairCollator` pads it."""
    return -((length - -(-length // side) * side) // 2)


def masks_of_shares(shares: torch.Tensor, masks: tuple[int, int, int], side: int) -> np.ndarray:
    """
    The inverse of [`mask_shares`]: what the shares of one volume say of each pixel of its slices.

    Args:
        shares (`torch.Tensor` of shape `[patches, L, slices, CELLS, CELLS]`):
            Shares of the cells, or their logits.
        masks (`tuple[int, int, int]`):
            Number, height and width of the slices.
        side (`int`):
            Pixels along each side of a merged patch.

    Returns:
        `np.ndarray` of shape `[L, S, H, W]`, float32: between the centres of the cells the values are interpolated.
    """
    number, height, width = masks
    rows, columns = -(-height // side), -(-width // side)  # of patches
    findings, slices = shares.shape[1:3]
    cells = shares.float().view(-1, rows, columns, findings, slices, CELLS, CELLS).permute(3, 0, 4, 1, 5, 2, 6)
    cells = cells.reshape(findings, -1, rows * CELLS, columns * CELLS)[:, :number]  # [L, S, rows, columns]
    planes = F.interpolate(cells, size=(rows * side, columns * side), mode="bilinear", align_corners=False)
    top, left = _before(height, side), _before(width, side)
    return planes[..., top : top + height, left : left + width].numpy()
