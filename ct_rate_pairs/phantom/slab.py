"""A slab of voxels, and the shapes that are painted into it. All positions are in the patient's coordinates, in mm."""

from itertools import pairwise

import numpy as np


class Slab:
    """
    Consecutive slices of a volume, with the patient's coordinates.

    Arrays have the axes `[z, y, x]`. This is also their order in a NIfTI file, whose first axis (x) runs fastest.

    Coordinates are in mm, toward the patient's left (x), back (y) and head (z), as the axes of CT-RATE's volumes.
    x and y are 0 in the middle of the field of view. z is 0 at the lung apex and negative below it.

    Args:
        shape (`tuple[int, int, int]`):
            Voxels of the whole volume along x, y, z.
        spacing (`tuple[float, float, float]`):
            Size of a voxel along x, y, z, in mm.
        top (`float`):
            Height z of the upper end of the field of view, in mm.
        first (`int`, *optional*, defaults to `0`):
            First slice of the slab, counted from the feet.
        last (`int`, *optional*):
            Slice after the last slice of the slab. By default, the slab ends where the volume ends.

    Attributes:
        hu (`np.ndarray`):
            HU, float32 of shape `[Z, Y, X]`; -1000 (air) in a new slab.
        lung (`np.ndarray`):
            Mask of the aerated lung, bool of shape `[Z, Y, X]`; empty in a new slab.
        heart (`np.ndarray`):
            Mask of the heart, of the same kind.
        fluid (`np.ndarray`):
            Mask of the fluid around the heart, of the same kind.
    """

    def __init__(self, shape, spacing, top, first=0, last=None):
        last = shape[2] if last is None else last
        bottom = top - shape[2] * spacing[2]
        counts = (shape[0], shape[1], last - first)
        starts = (-shape[0] * spacing[0] / 2, -shape[1] * spacing[1] / 2, bottom + first * spacing[2])
        self.spacing = tuple(float(s) for s in spacing)
        self.origin = tuple(float(start + s / 2) for start, s in zip(starts, self.spacing, strict=True))
        axes = [
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.origin, self.spacing, counts, strict=True)
        ]
        self.x = axes[0][None, None, :]  # [1, 1, X]
        self.y = axes[1][None, :, None]  # [1, Y, 1]
        self.z = axes[2][:, None, None]  # [Z, 1, 1]
        self.counts = counts
        self.hu = np.full(counts[::-1], -1000, np.float32)  # [Z, Y, X]
        self.lung, self.heart, self.fluid = (self.mask() for _ in range(3))  # [Z, Y, X]

    def box(self, low, high) -> tuple[slice, slice, slice]:
        """Index `[z, y, x]` of the voxels between the corners `low` and `high` (x, y, z in mm). It may be empty."""
        index = []
        for axis in (2, 1, 0):
            start = int(np.ceil((low[axis] - self.origin[axis]) / self.spacing[axis]))
            stop = int(np.floor((high[axis] - self.origin[axis]) / self.spacing[axis])) + 1
            start = min(max(start, 0), self.counts[axis])
            index.append(slice(start, min(max(stop, start), self.counts[axis])))
        return tuple(index)

    def coordinates(self, box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z of the voxels of a box, in shapes that broadcast to `[Z, Y, X]`."""
        return self.x[:, :, box[2]], self.y[:, box[1]], self.z[box[0]]

    def ellipsoid(self, centre, radii, angle=0.0):
        """
        The box around an ellipsoid, and the squared distance of its voxels from the ellipsoid's centre.

        Args:
            centre (`tuple[float, float, float]`):
                x, y, z in mm.
            radii (`tuple[float, float, float]`):
                Radii along the turned x axis, the turned y axis and z, in mm.
            angle (`float`, *optional*, defaults to `0.0`):
                Turn about z, in radians. A positive angle turns x toward the back.

        Returns:
            `tuple`: the box, as the index of [`Slab.box`], and the squared distances in units of the radii (below 1:
            inside the ellipsoid).
        """
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        reach = (np.hypot(radii[0] * cos, radii[1] * sin), np.hypot(radii[0] * sin, radii[1] * cos), radii[2])
        box = self.box(
            [c - r for c, r in zip(centre, reach, strict=True)], [c + r for c, r in zip(centre, reach, strict=True)]
        )
        x, y, z = self.coordinates(box)
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        if angle:
            plane = ((cos * dx + sin * dy) / radii[0]) ** 2 + ((cos * dy - sin * dx) / radii[1]) ** 2  # [1, Y, X]
        else:
            plane = (dx / radii[0]) ** 2 + (dy / radii[1]) ** 2
        return box, plane + (dz / radii[2]) ** 2

    def sweep(self, points, radius) -> np.ndarray:
        """
        The voxels that a ball covers while it moves through `points`.

        Args:
            points (`np.ndarray`):
                x, y, z in mm, of shape `[N, 3]`, at most about half a radius apart.
            radius (`float` or `np.ndarray`):
                Radius of the ball in mm: one for all points, or one per point, `[N]`. A ball that is smaller than a
                voxel covers the voxel that its centre lies in.

        Returns:
            `np.ndarray`: indices into `hu.reshape(-1)`. Some indices occur several times.
        """
        radius = np.broadcast_to(np.asarray(radius, np.float32), len(points))
        widest = float(radius.max(initial=0.0))
        spacing, origin, counts = np.array(self.spacing), np.array(self.origin), np.array(self.counts)
        near = np.all((points > origin - spacing - widest) & (points < origin + counts * spacing + widest), axis=1)
        points, radius = points[near], radius[near]
        nearest = np.rint((points - origin) / spacing).astype(np.int64)  # [N, 3]
        reach = [np.arange(-r, r + 1) for r in np.ceil(widest / spacing - 0.5).astype(int)]
        offsets = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3)  # [K, 3]
        rest = (nearest * spacing + origin - points).astype(np.float32)  # [N, 3]
        steps = (offsets * spacing).astype(np.float32)
        covered = np.all(offsets == 0, axis=1) | (
            (
                (rest[:, None, 0] + steps[:, 0]) ** 2
                + (rest[:, None, 1] + steps[:, 1]) ** 2
                + (rest[:, None, 2] + steps[:, 2]) ** 2
            )
            <= radius[:, None] ** 2
        )  # [N, K]
        which, offset = np.nonzero(covered)
        voxels = nearest[which] + offsets[offset]
        voxels = voxels[np.all((voxels >= 0) & (voxels < counts), axis=1)]
        return (voxels[:, 2] * counts[1] + voxels[:, 1]) * counts[0] + voxels[:, 0]

    def mask(self) -> np.ndarray:
        """An empty `[Z, Y, X]` mask."""
        return np.zeros(self.hu.shape, bool)


def along(path, step) -> np.ndarray:
    """Points along a path through the corners `path` `[M, 3]`, at most `step` mm apart, float32 `[N, 3]`."""
    path = np.asarray(path, np.float32)
    pieces = []
    for start, end in pairwise(path):
        count = max(2, int(np.ceil(np.linalg.norm(end - start) / step)) + 1)
        pieces.append(start + np.linspace(0, 1, count, dtype=np.float32)[:, None] * (end - start))
    return np.concatenate(pieces)


def uniform(rng, low, high) -> float:
    """A uniform draw as a Python `float`: a NumPy scalar would turn float32 arrays into float64 arrays."""
    return float(rng.uniform(low, high))


def draw_waves(rng, count, shortest, longest) -> np.ndarray:
    """Wave numbers (1/mm) and phases of `count` standing waves, `[count, 2, 3]`, which make a smooth texture."""
    lengths = rng.uniform(shortest, longest, size=(count, 3))
    return np.stack([2 * np.pi / lengths, rng.uniform(0, 2 * np.pi, size=(count, 3))], axis=1).astype(np.float32)


def texture(waves, x, y, z) -> np.ndarray:
    """Sum of standing waves at the coordinates: about -1 to 1, times the square root of the number of waves."""
    total = 0.0
    for (kx, ky, kz), (px, py, pz) in waves:
        total = total + np.cos(kx * x + px) * (np.cos(ky * y + py) * np.cos(kz * z + pz))
    return total
