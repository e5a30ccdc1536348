"""
From a volume to slices: chooses planes, resamples, applies windows, and checks that the values can be HU of a chest.

Only the chosen planes are computed.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from .windows import AIR, Window, windows_of


MOST_VOXELS = 2**31  # voxels that a header may promise: a damaged header must not ask for all memory


class VolumeError(ValueError):
    """A volume cannot be used: it is unreadable, or not a chest CT in HU. The message names the volume."""


@dataclass
class Volume:
    """
    A volume in memory, in display order.

    Args:
        name (`str`):
            Name of the volume, for messages.
        stored (`np.ndarray`):
            Stored values of shape `[Z, Y, X]`: superior first, anterior first, the patient's right first. A view, in
            the data type of the file.
        spacing (`tuple[float, float, float]`):
            Voxel size in mm as x, y, z.
        slope (`float`):
            Slope in `HU = stored * slope + intercept`.
        intercept (`float`):
            Intercept of the same equation, in HU.
    """

    name: str
    stored: np.ndarray
    spacing: tuple[float, float, float]
    slope: float
    intercept: float

    def slices(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] = (0.75, 0.75, 1.5),
        window: Window = "paper",
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
    ) -> tuple[np.ndarray, list[float]]:
        """
        Resample to `spacing` (trilinear, `align_corners=False`), take the planes `floor((i + 0.5) * D / num_slices)`,
        clip to `window` and map it to [-1, 1] (paper, section 6.2).

        Args:
            num_slices (`int`, *optional*, defaults to `10`):
                Number of planes.
            spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
                Voxel size to resample to, in mm as x, y, z.
            window (`str` or `tuple`, *optional*, defaults to `"paper"`):
                HU that become -1 and 1: `"paper"` (-1000, 1000), `"rgb"` (lung, soft tissue and bone as the three
                channels), a pair (low, high), or three pairs.
            z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
                Part of the depth that the planes are spread over, as shares of the depth from the top.
            fractions (`np.ndarray`, *optional*):
                Position of each plane in its bin, in [0, 1), of shape `[num_slices]`. By default the middle, 0.5.

        Returns:
            `tuple[np.ndarray, list[float]]`: the slices, superior first, float32 of shape `[num_slices, H, W]` (with
            three windows `[num_slices, H, W, 3]`), and the depth of each slice below the first, in mm.

        Raises:
            `VolumeError`: if there are fewer resampled planes than `num_slices`, or if the values cannot be HU of a
                chest.
        """
        planes, (depth, height, width) = self._choose(num_slices, spacing, z_range, fractions)
        hu = self._planes_hu(planes, depth)  # [num_slices, Y, X]
        _check_hu(self.name, hu)
        hu = F.interpolate(torch.from_numpy(hu)[:, None], size=(height, width), mode="bilinear", align_corners=False)[
            :, 0
        ].numpy()  # [num_slices, H, W]
        channels = [
            (hu.clip(low, high) - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
            for low, high in windows_of(window)
        ]
        gap = self.stored.shape[0] * self.spacing[2] / depth  # mm between resampled planes, about spacing[2]
        slices = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
        return slices, [(plane - planes[0]) * gap for plane in planes]

    def _choose(self, num_slices, spacing, z_range, fractions=None) -> tuple[list[int], tuple[int, int, int]]:
        """The planes of [`slices`] on the resampled grid, and the shape of this grid, as `[D, H, W]`."""
        depth, height, width = (
            int(n * own / target)
            for n, own, target in zip(self.stored.shape, self.spacing[::-1], spacing[::-1], strict=True)
        )
        planes = choose_planes(depth, num_slices, z_range, fractions)
        if len(set(planes)) < num_slices or min(height, width) < 1:
            raise VolumeError(
                f"{self.name}: {self.stored.shape[::-1]} voxels of {self.spacing} mm give {depth} planes of {height} "
                f"x {width} at {tuple(spacing)} mm, but {num_slices} slices are asked for, from the share {z_range} "
                "of the depth. Check the file's spacing, or pass a smaller `num_slices` or a finer `spacing`."
            )
        return planes, (depth, height, width)

    def check(self, num_slices: int, spacing: tuple, window: Window, z_range: tuple[float, float]) -> None:
        """Raises the `VolumeError` of [`slices`], as far as shape and voxel size tell."""
        self._choose(num_slices, spacing, z_range)

    def whole(self) -> "Volume":
        """The same volume, with the voxels in the order of `stored`, and nothing else in memory."""
        return replace(self, stored=np.ascontiguousarray(self.stored))

    def _planes_hu(self, planes: list[int], depth: int) -> np.ndarray:
        """HU at some planes of a grid of `depth` planes, by linear interpolation between the stored planes."""
        count = self.stored.shape[0]
        hu = np.empty((len(planes), *self.stored.shape[1:]), dtype=np.float32)
        for i, plane in enumerate(planes):
            position = min(max((plane + 0.5) * count / depth - 0.5, 0.0), count - 1.0)
            below, weight = int(position), position - int(position)
            hu[i] = self.stored[below]
            if weight:
                hu[i] += np.float32(weight) * (self.stored[below + 1].astype(np.float32) - hu[i])
        hu *= np.float32(self.slope)
        hu += np.float32(self.intercept)
        return hu


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
        starts = (first + np.arange(num_slices) * span / num_slices + 1e-9).astype(int)
        planes = np.maximum(np.minimum(planes, [*(starts[1:] - 1), depth - 1]), starts)
    return planes.tolist()


def fit(slices: np.ndarray, height: int, width: int, air: float | np.ndarray | None = None) -> np.ndarray:
    """
    Crops slices around their centre, or pads them with air, to a given size.

    Args:
        slices (`np.ndarray`):
            Slices of shape `[S, h, w]` or `[S, h, w, 3]`.
        height (`int`):
            New height, in pixels.
        width (`int`):
            New width, in pixels.
        air (`float` or `np.ndarray`, *optional*):
            Value of the padding, or one value per channel. By default the darkest value: -1 for floats, 0 for uint8.

    Returns:
        `np.ndarray`: slices of shape `[S, height, width]` or `[S, height, width, 3]`.
    """
    if air is None:
        air = 0 if slices.dtype == np.uint8 else AIR
    fitted = np.empty((len(slices), height, width, *slices.shape[3:]), dtype=slices.dtype)
    fitted[:] = air
    (to_y, from_y), (to_x, from_x) = (_centre(n, m) for n, m in ((height, slices.shape[1]), (width, slices.shape[2])))
    fitted[:, to_y, to_x] = slices[:, from_y, from_x]
    return fitted


def _centre(to: int, of: int) -> tuple[slice, slice]:
    size = min(to, of)
    return slice((to - size) // 2, (to - size) // 2 + size), slice((of - size) // 2, (of - size) // 2 + size)


def _check_hu(name: str, hu: np.ndarray) -> None:
    """Refuses values that were rescaled twice or not at all, which is the most common silent error with CT-RATE."""
    if not np.isfinite(hu).all():
        raise VolumeError(
            f"{name}: {1 - np.isfinite(hu).mean():.2%} of the voxels are NaN or infinite. If they lie outside of the "
            "field of view, as some programs write it, write air there: numpy.nan_to_num(values, nan=-1024). "
            "Otherwise export it again."
        )
    sample = hu[:, ::4, ::4]
    soft_tissue = float(np.percentile(sample, 99))
    if soft_tissue < -200:
        raise VolumeError(
            f"{name}: 99 % of the voxels lie below {soft_tissue:.0f} HU, so no soft tissue is left. The volume was "
            "probably rescaled twice. (CT-RATE's `*_fixed` files are HU already, through their NIfTI header.)"
        )
    # Lower values are padding around the field of view (-1024, -2048, -3024), which may not have been rescaled.
    air_and_lung = float(np.mean((sample > -1020) & (sample < -500)))
    if air_and_lung < 0.005:
        raise VolumeError(
            f"{name}: only {air_and_lung:.2%} of the voxels lie between -1020 and -500 HU, so there is no air in this "
            "chest. The volume was probably never rescaled: HU = stored value * slope + intercept. (For CT-RATE, use "
            "the `*_fixed` files, whose NIfTI header rescales to HU.)"
        )
