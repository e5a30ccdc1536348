"""Which planes of a volume show most of its findings: those that a training gets with `slices="key"`."""

import numpy as np

from ct_rate_pairs.volumes.planes import bin_starts, choose_planes


def key_fractions(areas: np.ndarray, num_slices: int, z_range: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """
    For each of `S` equal bins of the depth, where in it the plane lies that shows most of the findings. The area of a
    finding on a plane counts as a share of its largest one, so that a nodule counts as much as an effusion. Of planes
    that show the same, that nearest to the middle of the bin is taken.

    Args:
        areas (`np.ndarray`):
            Voxels of each finding on each resampled plane, of shape `[F, D]`, superior first.
        num_slices (`int`):
            Number of bins `S`.
        z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
            Part of the depth that is divided into bins, as shares of the depth from the top.

    Returns:
        `np.ndarray`: position of each plane in its bin, in [0, 1), of shape `[S]`; 0.5, the middle, where no plane
        shows a finding. [`~ct_rate_pairs.volumes.planes.choose_planes`] takes them.
    """
    depth = areas.shape[1]
    shown = (areas / np.maximum(areas.max(axis=1, keepdims=True), 1)).sum(axis=0)  # [D]
    fractions = np.full(num_slices, 0.5)
    starts = bin_starts(depth, num_slices, z_range).tolist()
    middles = choose_planes(depth, num_slices, z_range)
    for i, (start, end, middle) in enumerate(zip(starts, starts[1:], middles, strict=False)):
        planes = range(start, max(end, start + 1))  # at least one, where a bin is thinner than a plane
        best = [plane for plane in planes if shown[plane] == max(shown[planes])]
        if shown[best[0]] > 0:
            plane = min(best, key=lambda plane: abs(plane - middle))
            # The middle of the plane, in bins from the first one on. It may lie beyond an edge within the plane.
            place = ((plane + 0.5) / depth - z_range[0]) / (z_range[1] - z_range[0]) * num_slices
            fractions[i] = min(max(place - i, 0.0), 1 - 1e-6)
    return fractions
