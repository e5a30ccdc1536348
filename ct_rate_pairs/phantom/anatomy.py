"""One patient's normal thorax: where everything lies, and its Hounsfield units painted into a slab."""

import numpy as np

from .skeleton import paint_skeleton
from .slab import Slab, along, draw_waves, texture, uniform
from .vessels import AIRWAYS, GREAT_VESSELS, OESOPHAGUS, draw_lung_tree, paint_lung_tree


SIDES = ("right", "left")
LOBES = {"right": ("upper", "middle", "lower"), "left": ("upper", "lower")}

# The size of an average thorax in mm: half the inner width and half the inner depth of the rib cage, and the height
# from the lung apex to the dome of the right diaphragm. All positions in this package refer to this thorax.
AVERAGE = (120.0, 85.0, 185.0)
_FLUID_HU = 4.0  # around the heart
SMALLEST_FIELD_OF_VIEW = (320.0, 250.0, 250.0)


def check_field_of_view(field_of_view):
    """Raise a `ValueError` if a field of view (x, y, z in mm) cannot hold a thorax."""
    if any(size < least for size, least in zip(field_of_view, SMALLEST_FIELD_OF_VIEW, strict=True)):
        raise ValueError(
            f"a field of view of {tuple(field_of_view)} mm cannot hold a thorax: shape x spacing must be at least "
            f"{SMALLEST_FIELD_OF_VIEW} mm along x, y, z. Raise the spacing or the shape."
        )


class Anatomy:
    """
    The normal anatomy of one patient, drawn from the patient's own random stream. Findings have no part in it.

    Args:
        rng (`np.random.Generator`):
            The patient's random stream.
        field_of_view (`tuple[float, float, float]`):
            Size along x, y, z, in mm. A larger field of view does not enlarge the thorax, which lies in its centre.

    Raises:
        `ValueError`: if the field of view cannot hold a thorax.
    """

    def __init__(self, rng: np.random.Generator, field_of_view):
        check_field_of_view(field_of_view)
        self.half_width = uniform(rng, 115, 124)
        self.half_depth = uniform(rng, 80, 88)
        self.height = uniform(rng, 178, 190)
        self.fat = uniform(rng, 6, 14)
        self.scale = tuple(
            size / average
            for size, average in zip((self.half_width, self.half_depth, self.height), AVERAGE, strict=True)
        )
        self.top = uniform(rng, 13, 19) + (field_of_view[2] - 320) / 3 * (field_of_view[2] > 320)
        # Heights z of the ten planes that a model is shown, superior first. Every finding is placed on such a plane.
        self.planes = self.top - field_of_view[2] * (np.arange(10) + 0.5) / 10
        self.heart_size = uniform(rng, 0.94, 1.0)
        self.heart_turn = uniform(rng, -0.68, -0.54)
        self.lung_hu = uniform(rng, -800, -770)
        self.blood_hu = uniform(rng, 40, 60)
        self.bone_hu = uniform(rng, 190, 290)
        self.rib_phase = uniform(rng, 0, 26)
        self.fissure = uniform(rng, -8, 8)
        self.calibre = uniform(rng, 0.9, 1.1)
        self.lung_texture = draw_waves(rng, 2, 50, 160)
        self.soft_texture = draw_waves(rng, 2, 25, 60)
        self.gas = uniform(rng, 12, 22)
        self.trees = {side: draw_lung_tree(rng, side, self) for side in SIDES}

    # --- where things are -------------------------------------------------------------------------------------------

    def at(self, points) -> np.ndarray:
        """Converts points of the average thorax to points of this patient, `[..., 3]`, in mm."""
        return np.asarray(points, np.float32) * np.array(self.scale, np.float32)

    def cage(self, x, y, z) -> np.ndarray:
        """Squared distance from the axis of the thorax, in units of the inner chest wall (inside: below 1)."""
        depth = np.clip(-z, 0, 95) / 95
        narrowing = 0.45 + 0.55 * (1 - (1 - depth) ** 2)
        centre = -3 + 22 * (1 - narrowing)
        return (x / (self.half_width * narrowing)) ** 2 + ((y - centre) / (self.half_depth * narrowing)) ** 2

    def body(self, x, y, depth) -> np.ndarray:
        """Where x, y lie against the outline `depth` mm below the skin: below 1 inside it, above 1 outside it."""
        wide, deep = self.half_width + 16 + self.fat - depth, self.half_depth + 18 + 0.8 * self.fat - depth
        return np.abs(x / wide) ** 2.3 + np.abs((y - 6) / deep) ** 2.3

    def diaphragm(self, x, y) -> np.ndarray:
        """Height z of the diaphragm at x, y, in mm. Its right dome is higher than its left dome."""
        x, y = x / self.scale[0], y / self.scale[1]
        right = -self.height - 46 * ((x + 60) / 75) ** 2 - 48 * ((y + 12) / 85) ** 2
        left = -self.height - 11 - 46 * ((x - 60) / 75) ** 2 - 48 * ((y + 12) / 85) ** 2
        return np.maximum(right, left)

    def side(self, side, x, y, z) -> np.ndarray:
        """Mask of one lung, including its fissures and the space of the heart. Broadcasts over x, y, z, in mm."""
        sign = -1.0 if side == "right" else 1.0
        lateral = sign * x / self.scale[0]
        inner = np.interp(
            y / self.scale[1], (-90, -60, -25, 0, 25, 45, 62, 90), (5, 12, 27, 30, 24, 23, 25, 34)
        ).astype(np.float32)
        apex = -0.009 * ((lateral - 46) ** 2 + (y - 12) ** 2)
        inside = (self.cage(x, y, z) < 1) & (z < apex) & (z > self.diaphragm(x, y))
        return inside & (lateral > inner)

    def is_lower(self, y, z) -> np.ndarray:
        """Whether y, z lie below and behind the oblique fissure, that is, in a lower lobe."""
        return z / self.scale[2] < self.fissure - 125 + y / self.scale[1]

    def lobe(self, side, lobe, y, z) -> np.ndarray:
        """Whether y, z lie in a lobe. `lobe=""` stands for the whole lung."""
        if lobe == "":
            return (y < np.inf) & (z < np.inf)
        lower = self.is_lower(y, z)
        if lobe == "lower":
            return lower
        if side == "left":
            return ~lower
        middle = z / self.scale[2] < self.fissure - 108
        return ~lower & (middle if lobe == "middle" else ~middle)

    def heart(self, scale):
        """Centre and radii (in mm) and turn (in radians) of a heart of `scale` times its normal size."""
        centre = self.at((17 + 26 * (scale - 1), -22 + 8 * (scale - 1), -143 + 6 * (scale - 1)))
        radii = [scale * self.heart_size * r * s for r, s in zip((60, 44, 50), self.scale, strict=True)]
        return centre.tolist(), radii, self.heart_turn

    def draw_point(self, rng, side, lobe, margin, jitter):
        """
        Draws a point in a lobe, near one of the ten planes and away from the chest wall, the fissures and the heart.

        Args:
            rng (`np.random.Generator`):
                Random stream of the finding.
            side (`str`):
                `"right"` or `"left"`.
            lobe (`str`):
                `"upper"`, `"middle"` or `"lower"`; `""` for the whole lung.
            margin (`float`):
                Approximate smallest distance from the chest wall and the diaphragm, in mm.
            jitter (`float`):
                Largest distance from the nearest of the ten planes, in mm.

        Returns:
            `tuple[float, float, float]`: x, y, z in mm.
        """
        count = 1500
        x = rng.uniform(15, self.half_width, count) * (-1 if side == "right" else 1)
        y = rng.uniform(-self.half_depth, self.half_depth, count)
        z = rng.choice(self.planes[(self.planes < 0) & (self.planes > -self.height - 60)], count)
        z = z + rng.uniform(-jitter, jitter, count)
        shrunk = 1 - margin / self.half_depth
        # Without the places that an enlarged heart with an effusion, or a hiatal hernia, may take from the lung.
        (hx, hy, hz), radii, _ = self.heart(1.45)
        clear = sum(((p - c) / (r + 8)) ** 2 for p, c, r in zip((x, y, z), (hx, hy, hz), radii, strict=True)) > 1
        clear &= (x / 46) ** 2 + ((y - 20) / 38) ** 2 + ((z + self.height - 8) / 50) ** 2 > 1
        lobes = self.lobe(side, lobe, y, z - 5) & self.lobe(side, lobe, y, z + 5)  # 5 mm away from the fissures
        inside = self.side(side, x, y, z - 0.6 * margin) & lobes
        good = np.flatnonzero(inside & clear & (self.cage(x, y, z) < shrunk**2))
        return float(x[good[0]]), float(y[good[0]]), float(z[good[0]])

    # --- painting ---------------------------------------------------------------------------------------------------

    def slab(self, shape, spacing, first=0, last=None, *, heart_scale=1.0, effusion=0.0) -> Slab:
        """
        A slab with the normal anatomy painted in.

        Args:
            shape (`tuple[int, int, int]`):
                Voxels of the whole volume along x, y, z.
            spacing (`tuple[float, float, float]`):
                Size of a voxel along x, y, z, in mm.
            first (`int`, *optional*, defaults to `0`):
                First slice of the slab, counted from the feet.
            last (`int`, *optional*):
                Slice after the last slice of the slab. By default, the slab ends where the volume ends.
            heart_scale (`float`, *optional*, defaults to `1.0`):
                Size of the heart divided by its normal size.
            effusion (`float`, *optional*, defaults to `0.0`):
                Thickness of the fluid in the pericardium, in mm.

        Returns:
            [`Slab`]: the painted slab.
        """
        slab = Slab(shape, spacing, self.top, first, last)
        hu, x, y, z = slab.hu, slab.x, slab.y, slab.z
        np.copyto(hu, -105, where=self.body(x, y, 0) < 1)
        muscle = self.body(x, y, self.fat) < 1
        np.copyto(hu, 50, where=np.broadcast_to(muscle, hu.shape))
        cage = self.cage(x, y, z)
        inside = (cage < 1) & (z < 0)
        np.copyto(hu, -115, where=inside)
        self._paint_abdomen(slab, inside)
        slab.lung = self.side("right", x, y, z) | self.side("left", x, y, z)
        ventral = self.lung_hu + 45 * texture(self.lung_texture, x, y, z) / 2 + 0.35 * y
        np.copyto(hu, ventral, where=slab.lung)
        fissure = np.abs(z / self.scale[2] - (self.fissure - 125 + y / self.scale[1])) < 1.5
        np.copyto(hu, -700, where=fissure & slab.lung)
        self._paint_heart(slab, inside, heart_scale, effusion)
        paint_skeleton(slab, self, cage)
        self._paint_mediastinum(slab)
        for side in SIDES:
            paint_lung_tree(slab, self.trees[side], self.lung_hu)
        slab.heart &= slab.hu == self.blood_hu  # without the bones and airways that were painted over it
        slab.fluid &= slab.hu == _FLUID_HU
        return slab

    def _paint_abdomen(self, slab, inside):
        x, y, z = slab.x, slab.y, slab.z
        below = inside & (z < self.diaphragm(x, y))
        dome = -self.height
        # The liver fills the right side below its dome. It becomes narrower toward the right and the feet.
        np.copyto(slab.hu, 60, where=below & (x < 25 - 0.006 * (dome - z) ** 2 - 0.15 * y))
        left = self.scale[0]
        for centre, radii, value in (
            ((50 * left, -22, dome - 52), (42, 40, 46), 30),  # stomach
            ((50 * left, -22 - 40 + self.gas, dome - 44), (30, self.gas, 30), -950),  # gas in front, in the stomach
            ((82 * left, 40, dome - 62), (26, 34, 42), 52),  # spleen
            ((46 * left, 48, dome - 112), (22, 22, 48), 35),  # kidneys
            ((-46 * left, 48, dome - 118), (22, 22, 48), 35),
        ):
            box, r2 = slab.ellipsoid(centre, radii)
            np.copyto(slab.hu[box], value, where=(r2 < 1) & below[box])

    def _paint_heart(self, slab, inside, scale, effusion):
        centre, radii, turn = self.heart(scale)
        fat = 6.0 if effusion else 0.0  # epicardial fat can be seen, as a dark line, only inside an effusion
        box, r2 = slab.ellipsoid(centre, [r + fat + effusion for r in radii], turn)
        x, y, z = slab.coordinates(box)
        room = inside[box] & (z > self.diaphragm(x, y) - 10)
        hu, shell = slab.hu[box], (r2 < 1) & room
        slab.lung[box] &= ~shell
        if effusion:
            within = room & (r2 < ((radii[0] + fat) / (radii[0] + fat + effusion)) ** 2)
            np.copyto(hu, _FLUID_HU, where=shell)
            np.copyto(hu, -120, where=within)
            slab.fluid[box] = shell & ~within
        slab.heart[box] = room & (r2 < (radii[0] / (radii[0] + fat + effusion)) ** 2)
        np.copyto(hu, self.blood_hu, where=slab.heart[box])

    def _paint_mediastinum(self, slab):
        flat, lung = slab.hu.reshape(-1), slab.lung.reshape(-1)
        size = self.calibre
        tubes = [(path, radius * size, self.blood_hu) for path, radius in GREAT_VESSELS.values()]
        tubes.append((*OESOPHAGUS, 35.0))
        tubes += [(path, radius + 2.0, 20.0) for path, radius in AIRWAYS]
        tubes += [(path, radius, -1000.0) for path, radius in AIRWAYS]
        for path, radius, value in tubes:
            voxels = slab.sweep(along(self.at(path), radius / 2), radius)
            flat[voxels] = value
            lung[voxels] = False
