"""Which planes of a volume become slices: one of each of some equal bins of the depth."""

import numpy as np


def choose_planes(
    depth: int, num_slices: int, z_range: tuple[float, float] = (0.0, 1.0), fractions: np.ndarray | None = None
) -> list[int]:
    """
    Chooses one plane in each of `S` equal bins of the depth: `floor((z0 + (i + f_i) / S * (z1 - z0)) * D)`, for
    `i = 0..S-1`. No plane is chosen twice: where two bins meet within a plane, that plane belongs to the lower bin.

    Args:
        depth (`int`):
            Number of planes `D`, counted from the top.
        num_slices (`int`):
            Number of bins `S`.
        z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Part of the depth that is divided into bins, `(z0, z1)`, as shares of the depth from the top.
        fractions (`np.ndarray`, *optional*):
            Position `f_i` of each plane in its bin, in [0, 1), of shape `[S]`. By default the middle, 0.5.

    Returns:
        `list[int]`: the planes, from the top.

    Raises:
        `ValueError`: if `z_range` is not `0 <= z0 < z1 <= 1`.
    """
    low, high = z_range
    if not 0 <= low < high <= 1:
        raise ValueError(f"z_range={z_range}: give two shares of the depth, 0 <= low < high <= 1.")
    # The only division comes last, so that rounding never puts the middle of a bin below its plane.
    bins = np.arange(num_slices) + (0.5 if fractions is None else fractions)
    first, span = low * depth, (high - low) * depth
    planes = (first + bins * span / num_slices).astype(int)
    if fractions is not None:
        starts = bin_starts(depth, num_slices, z_range)[:-1]
        planes = np.maximum(np.minimum(planes, [*(starts[1:] - 1), depth - 1]), starts)
    return planes.tolist()


def bin_starts(depth: int, num_slices: int, z_range: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """The first plane of each bin of [`choose_planes`], and the end of the last bin: int of shape `[S + 1]`."""
    low, high = z_range
    # Rounding must not put a start that is a whole number into the plane above it.
    return (low * depth + np.arange(num_slices + 1) * (high - low) * depth / num_slices + 1e-9).astype(int)


def slabs_around(planes: list[int], depth: int, z_range: tuple[float, float] = (0.0, 1.0)) -> list[range]:
    """
    The planes of each bin of [`choose_planes`].

    Args:
        planes (`list[int]`):
            The plane that is chosen in each bin. It belongs to its slab, also where two bins meet within it.
        depth (`int`):
            Number of planes, counted from the top.
        z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Part of the depth that is divided into bins, as shares of the depth from the top.

    Returns:
        `list[range]`: the planes of each bin.
    """
    edges = bin_starts(depth, len(planes), z_range).tolist()
    return [
        range(min(edge, plane), max(following, plane + 1))
        for edge, plane, following in zip(edges, planes, edges[1:], strict=False)
    ]


def share_of(part: tuple[float, float], z_range: tuple[float, float]) -> tuple[float, float]:
    """The share `z_range` of a part of the depth, as shares of the whole depth."""
    low, high = part
    return low + z_range[0] * (high - low), low + z_range[1] * (high - low)
