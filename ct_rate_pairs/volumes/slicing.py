"""
From a volume to slices: resamples, applies windows, and checks that the values can be HU of a chest.

Only the chosen planes are computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from .instances import Instances
from .planes import choose_planes, share_of, slabs_around
from .slice_places import SlicePlace, places_of
from .slice_plan import SlicePlan
from .windows import Window, windowed, windows_of


_PIECE = 16  # planes of a whole volume that are in memory as float32
_MOST_STORED = 2**15 - 1  # of int16, without the one value below 0 that has no counterpart above
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
        affine (`np.ndarray`, *optional*):
            Matrix `[4, 4]` from the place (x, y, z) of a voxel to RAS in mm. By default, the axes run to the left, the
            back and the feet, from the place 0.
        lungs (`tuple[float, float]`, *optional*):
            Where the lungs begin and end, as shares of the depth from the top, if that is known already.
        is_checked (`bool`, *optional*, defaults to `False`):
            Whether the values are known to be HU of a chest, as those of a prepared copy are.
        is_placed (`bool`, *optional*, defaults to `False`):
            Whether the origin of the affine is the true one, so that the place of a slice along the patient is known.
        instances ([`~ct_rate_pairs.volumes.instances.Instances`], *optional*):
            The DICOM image of each plane of `stored`. It tells of the patient.
        axes (`str`, *optional*, defaults to `"LPI"`):
            Where the axes of the array in the file point: the order in which other programs count its voxels.
    """

    name: str
    stored: np.ndarray
    spacing: tuple[float, float, float]
    slope: float
    intercept: float
    affine: np.ndarray | None = None
    lungs: tuple[float, float] | None = None
    is_checked: bool = False
    is_placed: bool = False
    instances: Instances | None = field(default=None, repr=False)
    axes: str = "LPI"

    def slices(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] | None = (0.75, 0.75, 1.5),
        window: Window = "paper",
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> tuple[np.ndarray, list[float]]:
        """
        Resample to `spacing` (trilinear, `align_corners=False`), take the planes `floor((i + 0.5) * D / num_slices)`,
        clip to `window` and map it to [-1, 1] (paper, section 6.2).

        Args:
            num_slices (`int`, *optional*, defaults to `10`):
                Number of planes.
            spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
                Voxel size to resample to, in mm as x, y, z. `None` leaves the voxels as they are.
            window (`str` or `tuple`, *optional*, defaults to `"paper"`):
                HU that become -1 and 1: `"paper"` (-1000, 1000), `"rgb"` (lung, soft tissue and bone as the three
                channels), a pair (low, high), or three pairs.
            z_range (`tuple[float, float]`, *optional*, defaults to `(0.0, 1.0)`):
                Part of the depth that the planes are spread over, as shares of the depth from the top.
            fractions (`np.ndarray`, *optional*):
                Position of each plane in its bin, in [0, 1), of shape `[num_slices]`. By default the middle, 0.5.
            rule (`str`, *optional*, defaults to `"uniform"`):
                `"lung"` spreads the planes over the extent of the lungs instead of the whole depth. `"mip"` gives
                three channels: the maximum of all planes in a bin, their mean, and the chosen plane itself. `"jitter"`
                and `"key"` are `"uniform"` here, because `fractions` holds what is chosen.

        Returns:
            `tuple[np.ndarray, list[float]]`: the slices, superior first, float32 of shape `[num_slices, H, W]` (with
            three windows, and with `rule="mip"`, `[num_slices, H, W, 3]`), and the depth of each slice below the
            first, in mm.

        Raises:
            `VolumeError`: if there are fewer resampled planes than `num_slices`, if the values cannot be HU of a
                chest, or if `rule` is `"lung"` and no lungs are found.
        """
        plan = self.plan(num_slices, spacing, z_range, fractions, rule)
        return self.planned(plan, window, rule)

    def plan(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] | None = (0.75, 0.75, 1.5),
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> SlicePlan:
        """
        Where the slices that [`slices`] gives for the same arguments lie on the grid of the volume.

        Raises:
            `VolumeError`: if there are fewer resampled planes than `num_slices`, or if `rule` is `"lung"` and no lungs
                are found.
        """
        planes, size = self._choose(num_slices, spacing, z_range, fractions, rule)
        slabs = slabs_around(planes, size[0], z_range) if rule == "mip" else [(plane,) for plane in planes]
        shape, affine = self.stored.shape, self._own_affine()
        return SlicePlan(self.name, shape, affine, self.axes, size, tuple(planes), tuple(slabs))

    def planned(
        self, plan: SlicePlan, window: Window = "paper", rule: str = "uniform"
    ) -> tuple[np.ndarray, list[float]]:
        """What [`slices`] gives, at the places of a plan."""
        planes, size = plan.planes, plan.size
        hu = self._planes_hu(planes, size[0])  # [num_slices, Y, X]
        self._check(hu)
        slices = windowed(_in_plane(hu, size), window)  # [num_slices, H, W]
        if rule == "mip":
            # Windowed first, so that volumes that are stored with a window give the same.
            slabs = (windowed(self._whole_planes(slab, size), window) for slab in plan.slabs)
            projections = [(slab.max(axis=0), slab.mean(axis=0)) for slab in slabs]
            slices = np.stack([*map(np.stack, zip(*projections, strict=True)), slices], axis=-1)
        return slices, self._depths(planes, size[0])

    def places(
        self,
        num_slices: int = 10,
        spacing: tuple[float, float, float] | None = (0.75, 0.75, 1.5),
        z_range: tuple[float, float] = (0.0, 1.0),
        fractions: np.ndarray | None = None,
        rule: str = "uniform",
    ) -> list[SlicePlace]:
        """
        The places of the slices that [`slices`] gives for the same arguments.

        Returns:
            `list[SlicePlace]`: see [`~ct_rate_pairs.volumes.slice_places.SlicePlace`].

        Raises:
            `VolumeError`: if there are fewer resampled planes than `num_slices`, or if `rule` is `"lung"` and no lungs
                are found.
        """
        plan = self.plan(num_slices, spacing, z_range, fractions, rule)
        planes, depth = plan.planes, plan.size[0]
        shown = [(slab[0], plane, slab[-1]) for slab, plane in zip(plan.slabs, planes, strict=True)]
        positions = [tuple(self._position(plane, depth) for plane in of_slice) for of_slice in shown]
        affine = self.affine if self.is_placed else None
        return places_of(
            positions, self._depths(planes, depth), len(self.stored), affine, lungs=self._lungs_if_found()
        )

    def _own_affine(self) -> np.ndarray:
        return np.diag([*np.negative(self.spacing), 1.0]) if self.affine is None else self.affine

    def _choose(
        self, num_slices, spacing, z_range, fractions=None, rule="uniform"
    ) -> tuple[list[int], tuple[int, ...]]:
        """The planes of [`slices`] on the resampled grid, and the shape of this grid, as `[D, H, W]`."""
        if rule == "lung":
            z_range = share_of(self.find_lungs(), z_range)
        depth, height, width = size = self._size_at(spacing)
        planes = choose_planes(depth, num_slices, z_range, fractions)
        if len(set(planes)) < num_slices or min(height, width) < 1:
            raise VolumeError(
                f"{self.name}: {self.stored.shape[::-1]} voxels of {self.spacing} mm give {depth} planes of {height} "
                f"x {width} at {tuple(spacing or self.spacing)} mm, but {num_slices} slices are asked for, from the "
                f"share {z_range} of the depth. Check the file's spacing, or pass a smaller `num_slices` or a finer "
                "`spacing`. A released model needs the slices of its training, and this scan is too small for them."
            )
        return planes, size

    def check(
        self, num_slices: int, spacing: tuple, window: Window, z_range: tuple[float, float], rule: str = "uniform"
    ) -> None:
        """Raises the `VolumeError` of [`slices`], as far as shape and voxel size tell."""
        self._choose(num_slices, spacing, z_range)

    def values(
        self, spacing: tuple[float, float, float] | None = (0.75, 0.75, 1.5), window: Window = "paper"
    ) -> tuple[np.ndarray, list[float]]:
        """
        The whole volume, resampled and windowed as [`slices`] are.

        Args:
            spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
                Voxel size to resample to, in mm as x, y, z. `None` leaves the voxels as they are.
            window (`str` or `tuple`, *optional*, defaults to `"paper"`):
                HU that become -1 and 1, as for [`slices`].

        Returns:
            `tuple[np.ndarray, list[float]]`: values in [-1, 1], superior first, float16 of shape `[Z, Y, X]` (with
            three windows `[Z, Y, X, 3]`), and the depth of each plane below the first, in mm. With the window
            `"paper"`, float16 rounds by at most 0.25 HU.

        Raises:
            `VolumeError`: if the values cannot be HU of a chest.
        """
        size = self._size_at(spacing)
        channels = len(windows_of(window))
        values = np.empty(size if channels == 1 else (*size, channels), np.float16)
        for planes, hu in self._pieces(size):
            values[planes] = windowed(hu, window)
        return values, (np.arange(size[0]) * self._gap(size[0])).tolist()

    def hu(self) -> np.ndarray:
        """
        The whole volume in HU, at its own voxel size: float32 of shape `[Z, Y, X]`.

        Raises:
            `VolumeError`: if the values cannot be HU of a chest.
        """
        hu = np.empty(self.stored.shape, np.float32)
        for planes, piece in self._pieces(self.stored.shape):
            hu[planes] = piece
        return hu

    def resampled(
        self, spacing: tuple[float, float, float] = (0.75, 0.75, 1.5), slope: float = 1.0, intercept: float = 0.0
    ) -> "Volume":
        """
        The whole volume at another voxel size, with 16-bit values.

        Args:
            spacing (`tuple[float, float, float]`, *optional*, defaults to `(0.75, 0.75, 1.5)`):
                Voxel size to resample to, in mm as x, y, z.
            slope (`float`, *optional*, defaults to `1.0`):
                Slope in `HU = stored * slope + intercept`. Stored values are rounded to whole numbers, and HU beyond
                the 16 bits are clipped.
            intercept (`float`, *optional*, defaults to `0.0`):
                Intercept of the same equation, in HU.

        Returns:
            [`Volume`]: the volume, int16, with its affine, and with `lungs` if lungs are found.

        Raises:
            `VolumeError`: if the values cannot be HU of a chest, or if less than one voxel is left along an axis.
        """
        size = self._size_at(spacing)
        stored = np.empty(size, np.int16)
        for planes, hu in self._pieces(size):
            stored[planes] = np.rint((hu - intercept) / slope).clip(-_MOST_STORED, _MOST_STORED)
        ratio = np.divide(self.stored.shape, size)[::-1]  # own voxels per new voxel, as x, y, z
        scale = np.diag([*ratio, 1.0])
        scale[:3, 3] = ratio / 2 - 0.5  # from the centre of a voxel to the centre of a voxel
        voxel = tuple((ratio * self.spacing).tolist())
        lungs = self._lungs_if_found()  # a volume without them is refused where the lungs are asked for
        affine, placed = self._own_affine() @ scale, self.is_placed
        return Volume(self.name, stored, voxel, slope, intercept, affine, lungs, is_checked=True, is_placed=placed)

    def find_lungs(self) -> tuple[float, float]:
        """
        Where the lungs begin and end, as shares of the depth from the top, see
        [`~ct_rate_pairs.volumes.lungs.find_lungs`].

        Raises:
            `VolumeError`: if no lungs are found.
        """
        if self._lungs_if_found() is None:
            raise VolumeError(
                f"{self.name}: no lungs are found in it, so slices='lung' does not know where to choose planes. The "
                "volume may be cropped within the chest, hold another part of the body, or show lungs without air. "
                "Give a volume of the whole chest, leave it out (on_error='skip'), or choose slices='uniform'."
            )
        return self.lungs

    def _lungs_if_found(self) -> tuple[float, float] | None:
        """As [`find_lungs`]; `None` if no lungs are found."""
        from .lungs import GRID_MM, find_lungs  # noqa: PLC0415  (imports scipy, which most rules do not need)

        if self.lungs is None and not self.is_checked:
            steps = [max(1, int(GRID_MM / side)) for side in self.spacing]  # x, y, z
            coarse = self.stored[:: steps[2], :: steps[1], :: steps[0]].astype(np.float32)
            sides = tuple(side * step for side, step in zip(self.spacing, steps, strict=True))
            found = find_lungs(coarse * np.float32(self.slope) + np.float32(self.intercept), sides)
            depth = len(self.stored)
            self.lungs = found and (found[0] * steps[2] / depth, min(found[1] * steps[2] / depth, 1.0))
        return self.lungs

    def _size_at(self, spacing: tuple[float, float, float] | None) -> tuple[int, ...]:
        """Number of voxels `(Z, Y, X)` at a voxel size in mm as x, y, z; `None` stands for the volume's own."""
        if spacing is None:
            return self.stored.shape
        own = zip(self.stored.shape, self.spacing[::-1], spacing[::-1], strict=True)
        return tuple(int(n * side / target) for n, side, target in own)

    def _depths(self, planes: list[int], depth: int) -> list[float]:
        """The depth of each of some resampled planes below the first one, in mm."""
        return [(plane - planes[0]) * self._gap(depth) for plane in planes]

    def _gap(self, depth: int) -> float:
        """The distance between resampled planes in mm, about that of `spacing`."""
        return self.stored.shape[0] * self.spacing[2] / depth

    def _pieces(self, size: tuple[int, ...]) -> Iterator[tuple[slice, np.ndarray]]:
        """The whole volume in HU at another size, some planes at a time, and which planes these are."""
        depth = size[0]
        if min(size) < 1:
            raise VolumeError(
                f"{self.name}: {self.stored.shape[::-1]} voxels of {self.spacing} mm become {size[::-1]} voxels. "
                "Check the file's spacing, or choose a finer `spacing`."
            )
        self._check(self._planes_hu(choose_planes(depth, min(depth, 10)), depth))
        for start in range(0, depth, _PIECE):
            planes = range(start, min(start + _PIECE, depth))
            yield slice(planes.start, planes.stop), self._whole_planes(planes, size)

    def _whole_planes(self, planes: Sequence[int], size: tuple[int, ...]) -> np.ndarray:
        """HU at some planes, `[S, H, W]`, of which only a few are looked at by [`_check`]."""
        hu = self._planes_hu(planes, size[0])
        _check_finite(self.name, hu)
        return _in_plane(hu, size)

    def _check(self, hu: np.ndarray) -> None:
        if not self.is_checked:
            _check_hu(self.name, hu)

    def whole(self) -> "Volume":
        """The same volume, with the voxels in the order of `stored`, and nothing else in memory."""
        return replace(self, stored=np.ascontiguousarray(self.stored))

    def _position(self, plane: int, depth: int) -> float:
        """Where a plane of a grid of `depth` planes lies, in stored planes from 0 at the top."""
        count = self.stored.shape[0]
        return min(max((plane + 0.5) * count / depth - 0.5, 0.0), count - 1.0)

    def _planes_hu(self, planes: Sequence[int], depth: int) -> np.ndarray:
        """HU at some planes of a grid of `depth` planes, by linear interpolation between the stored planes."""
        hu = np.empty((len(planes), *self.stored.shape[1:]), dtype=np.float32)
        for i, plane in enumerate(planes):
            position = self._position(plane, depth)
            below, weight = int(position), position - int(position)
            hu[i] = self.stored[below]
            if weight:
                hu[i] += np.float32(weight) * (self.stored[below + 1].astype(np.float32) - hu[i])
        hu *= np.float32(self.slope)
        hu += np.float32(self.intercept)
        return hu


def _in_plane(hu: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Planes `[S, Y, X]` at the size `(Z, H, W)`: `[S, H, W]`."""
    if hu.shape[1:] == tuple(size[1:]):
        return hu
    planes = torch.from_numpy(hu)[:, None]
    return F.interpolate(planes, size=tuple(size[1:]), mode="bilinear", align_corners=False)[:, 0].numpy()


def _check_hu(name: str, hu: np.ndarray) -> None:
    """Refuses values that were rescaled twice or not at all, which is the most common silent error with CT-RATE."""
    _check_finite(name, hu)
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
            "the `*_fixed` files, whose NIfTI header rescales to HU.) Or the scan shows no chest."
        )


def _check_finite(name: str, hu: np.ndarray) -> None:
    if not np.isfinite(hu).all():
        raise VolumeError(
            f"{name}: {1 - np.isfinite(hu).mean():.2%} of the voxels are NaN or infinite. If they lie outside of the "
            "field of view, as some programs write it, write air there: numpy.nan_to_num(values, nan=-1024). "
            "Otherwise export it again."
        )
