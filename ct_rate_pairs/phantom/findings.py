"""What a finding is, and the findings outside the lung: heart, vessels, lymph nodes, oesophagus, medical material."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .anatomy import Anatomy
from .slab import Slab, along, uniform
from .vessels import AORTA, AORTA_RADIUS, HILA, SUPERIOR_VENA_CAVA


@dataclass(frozen=True)
class Finding:
    """
    One abnormality of one scan: what the report says about it, and how it is painted.

    Args:
        label (`str`):
            One of CT-RATE's 18 labels.
        region (`Callable[[Slab], np.ndarray]`):
            Gives the mask of the region that the report names, bool `[Z, Y, X]`. A scan without the finding has the
            same voxels outside this region.
        paint (`Callable[[Slab], None]`, *optional*):
            Paints the finding into a slab that holds the anatomy. Paints nothing by default.
        side (`str`, *optional*, defaults to `""`):
            `"right"`, `"left"` or `"both"`; `""` if the finding has no side.
        lobe (`str`, *optional*, defaults to `""`):
            `"upper"`, `"middle"` or `"lower"`; `""` for the whole lung.
        size (`int`, *optional*, defaults to `0`):
            Size that the report gives: in mm, and for cardiomegaly the cardiothoracic ratio in percent.
        detail (`str`, *optional*, defaults to `""`):
            Further words for the report, such as lymph node stations, the kind of device, or the vessel.
        heart_scale (`float`, *optional*, defaults to `1.0`):
            For cardiomegaly: size of the heart divided by its normal size. The anatomy paints the heart.
        effusion (`float`, *optional*, defaults to `0.0`):
            For pericardial effusion: thickness of the fluid around the heart, in mm. The anatomy paints the fluid.
        extent (`Callable[[Slab], np.ndarray]`, *optional*):
            Gives the mask of a finding that the anatomy paints, bool `[Z, Y, X]`. By default, the finding is what
            `paint` changes.
    """

    label: str
    region: Callable[[Slab], np.ndarray]
    paint: Callable[[Slab], None] = lambda slab: None
    side: str = ""
    lobe: str = ""
    size: int = 0
    detail: str = ""
    heart_scale: float = 1.0
    effusion: float = 0.0
    extent: Callable[[Slab], np.ndarray] | None = None


def even(mm) -> int:
    """A size in mm, rounded to an even number, as the reports give it."""
    return 2 * round(mm / 2)


def near_plane(anatomy: Anatomy, z, farthest=16.5) -> float:
    """The height of the nearest of the ten planes, if the plane is at most `farthest` mm away; otherwise `z`."""
    plane = float(anatomy.planes[np.argmin(np.abs(anatomy.planes - z))])
    return plane if abs(plane - z) <= farthest else z


def ellipsoids(slab: Slab, places) -> np.ndarray:
    """Mask of several ellipsoids, given as (centre, radii, turn)."""
    mask = slab.mask()
    for centre, radii, turn in places:
        box, r2 = slab.ellipsoid(centre, radii, turn)
        mask[box] |= r2 < 1
    return mask


def replace(slab: Slab, box, inside, value):
    """Paint a mediastinal finding over fat and lung, but not over vessels, airways and bone; none of it stays lung."""
    # Airways are excluded by their HU: they are darker than -990, and lung is brighter.
    where = inside & (slab.hu[box] < 0) & (slab.hu[box] > -990)
    np.copyto(slab.hu[box], value, where=where)
    slab.lung[box] &= ~where


def cardiomegaly(anatomy: Anatomy, rng) -> Finding:
    """An enlarged heart, whose size in the report is the cardiothoracic ratio."""
    scale = uniform(rng, 1.3, 1.45)
    _, radii, turn = anatomy.heart(scale)
    half_width = np.hypot(radii[0] * np.cos(turn), radii[1] * np.sin(turn))
    ratio = round(100 * float(half_width) / (anatomy.half_width + 4))
    region = _about_heart(anatomy, scale, 34)
    return Finding("Cardiomegaly", region, extent=lambda slab: slab.heart, size=ratio, heart_scale=scale)


def pericardial_effusion(anatomy: Anatomy, rng) -> Finding:
    """Fluid around the heart."""
    thickness = even(uniform(rng, 10, 18))
    # The region is that of the largest heart, because cardiomegaly moves the fluid outward.
    region, depth = _about_heart(anatomy, 1.45, 34), float(thickness)
    return Finding("Pericardial effusion", region, extent=lambda slab: slab.fluid, size=thickness, effusion=depth)


def _about_heart(anatomy: Anatomy, scale, margin):
    centre, radii, turn = anatomy.heart(scale)
    normal, normal_radii, _ = anatomy.heart(1.0)
    places = [(c, [r + margin for r in rs], turn) for c, rs in ((centre, radii), (normal, normal_radii))]
    return lambda slab: ellipsoids(slab, places)


def coronary_calcification(anatomy: Anatomy, rng, heart_scale) -> Finding:
    """Calcium along the coronary arteries, on the surface of the heart. Its place depends on the size of the heart."""
    centre, radii, turn = anatomy.heart(heart_scale)
    # Longitude of each artery on the heart's surface (0: toward the apex, pi / 2: in front), at the heart's top and at
    # its equator.
    courses = {"left anterior descending": (1.3, 0.7), "circumflex": (-0.5, -0.7), "right coronary": (2.4, 2.7)}
    names = list(courses)
    chosen = [names[0], names[1 + int(rng.integers(2))]] if rng.random() < 0.7 else [names[int(rng.integers(3))]]
    radius, value = uniform(rng, 5.0, 6.5), uniform(rng, 1000, 1400)
    shift, extent = uniform(rng, -0.15, 0.15), uniform(rng, 0.12, 0.22)
    heights = (anatomy.planes - centre[2]) / radii[2]
    plaques = []
    for name in chosen:
        top, equator = courses[name]
        for height in heights[(heights > -0.45) & (heights < 0.8)]:  # a plaque near each plane through the arteries
            longitude = equator + (top - equator) * max(float(height), 0.0) + shift + np.linspace(-extent, extent, 9)
            ring = 0.94 * np.sqrt(1 - height**2)
            level = np.full(9, 0.94 * height * radii[2] + uniform(rng, -2, 2))
            local_x, local_y = ring * np.cos(longitude) * radii[0], -ring * np.sin(longitude) * radii[1]
            cos, sin = np.cos(turn), np.sin(turn)
            plaques.append(
                np.stack([cos * local_x - sin * local_y, sin * local_x + cos * local_y, level], axis=1) + centre
            )
    points = np.concatenate(plaques)

    def paint(slab):
        slab.hu.reshape(-1)[slab.sweep(points, radius)] = value

    detail = " and ".join(chosen)
    return Finding("Coronary artery wall calcification", _about_heart(anatomy, heart_scale, 12), paint, detail=detail)


def arterial_calcification(anatomy: Anatomy, rng) -> Finding:
    """Calcified plaques in the wall of the aorta."""
    path = along(anatomy.at(AORTA), 2.0)
    path = path[(path[:, 2] > -anatomy.height - 60)]
    on_plane = np.abs(path[:, 2][:, None] - anatomy.planes).min(axis=1) < 3
    # Each plane through the descending aorta may have a plaque. The report names the part with most plaques.
    parts = {"arch": path[:, 2] > -62, "descending aorta": (path[:, 2] < -62) & (path[:, 1] > 10)}
    detail = "arch" if rng.random() < 0.5 else "descending aorta"
    count = int(rng.integers(6, 10))
    wanted = np.flatnonzero(on_plane & parts["descending aorta"])
    chosen = np.concatenate([rng.choice(wanted, 6), rng.choice(np.flatnonzero(parts[detail]), count)])
    radius = AORTA_RADIUS * anatomy.calibre
    places = []
    for point in path[chosen]:
        angle, reach = uniform(rng, 0, 2 * np.pi), uniform(rng, 0.4, 1.1)
        arc = angle + np.linspace(0, reach, 6)
        ring = np.stack([radius * np.cos(arc), radius * np.sin(arc), np.zeros(6)], axis=1)
        places.append(along(point + ring, 1.5))
    points, value = np.concatenate(places), uniform(rng, 900, 1400)
    thick = uniform(rng, 4.5, 6.0)

    def paint(slab):
        slab.hu.reshape(-1)[slab.sweep(points, thick)] = value

    def region(slab):
        mask = slab.mask()
        mask.reshape(-1)[slab.sweep(path, radius + 8.0)] = True
        return mask

    return Finding("Arterial wall calcification", region, paint, detail=detail)


def hiatal_hernia(anatomy: Anatomy, rng) -> Finding:
    """A part of the stomach above the diaphragm, with gas over fluid."""
    size = even(uniform(rng, 72, 110))
    radius = size / 2
    x, y, _ = anatomy.at((6, 20, 0)).tolist()
    z = near_plane(anatomy, -anatomy.height + 8) + uniform(rng, -8, 8)
    centre = (x + uniform(rng, -10, 14), y + uniform(rng, -3, 5), z)
    level = uniform(rng, -0.1, 0.4) * radius

    def paint(slab):
        box, r2 = slab.ellipsoid(centre, (radius, 0.85 * radius, 1.1 * radius))
        _, y, _ = slab.coordinates(box)
        where = (r2 < 1) & (slab.hu[box] < 70) & (slab.hu[box] > -990)
        slab.lung[box] &= ~where
        np.copyto(slab.hu[box], 45, where=where)
        np.copyto(slab.hu[box], -920, where=where & (r2 < 0.75) & (y - centre[1] < level))  # gas over fluid

    def region(slab):
        return ellipsoids(slab, [((x, y, z), (74, 58, 76), 0.0)])

    return Finding("Hiatal hernia", region, paint, size=size)


# Lymph node stations in the average thorax, x, y, z in mm.
STATIONS = {
    "right paratracheal": (-22, 6, -52),
    "prevascular": (8, -46, -62),
    "aortopulmonary": (34, -4, -66),
    "subcarinal": (4, 10, -108),
    "right hilar": (-46, 0, -100),
    "left hilar": (50, 2, -98),
}


def lymphadenopathy(anatomy: Anatomy, rng) -> Finding:
    """Enlarged lymph nodes in two to four stations."""
    names = sorted(rng.permutation(len(STATIONS))[: int(rng.integers(2, 5))].tolist())
    stations = [list(STATIONS)[i] for i in names]
    nodes = []
    for station in stations:
        x, y, z = anatomy.at(STATIONS[station]).tolist()
        for _ in range(2):
            radius = uniform(rng, 17, 25)
            place = (x + uniform(rng, -8, 8), y + uniform(rng, -9, 9), near_plane(anatomy, z) + uniform(rng, -6, 6))
            nodes.append((place, (radius, 0.9 * radius, 1.15 * radius), uniform(rng, -0.8, 0.8)))
    size, value = even(2 * max(radii[0] for _, radii, _ in nodes)), uniform(rng, 95, 120)

    def paint(slab):
        for centre, radii, turn in nodes:
            box, r2 = slab.ellipsoid(centre, radii, turn)
            replace(slab, box, r2 < 1, value)

    def region(slab):
        wide, deep, tall = anatomy.scale
        x, y = np.abs(slab.x) < 94 * wide, np.abs(slab.y + 12 * deep) < 74 * deep
        return x & y & (np.abs(slab.z + 85 * tall) < 88 * tall)

    detail = ", ".join(stations[:-1]) + " and " + stations[-1]
    return Finding("Lymphadenopathy", region, paint, size=size, detail=detail)


def medical_material(anatomy: Anatomy, rng) -> Finding:
    """A port catheter, a pacemaker, or sternotomy wires."""
    kind = ("port catheter", "pacemaker", "row of sternotomy wires")[int(rng.integers(3))]
    side = "" if kind == "row of sternotomy wires" else ("right" if rng.random() < 0.5 else "left")
    sign = -1 if side == "right" else 1
    wide = anatomy.half_width
    tubes, device = [], []
    if side:
        x = sign * uniform(rng, 0.5, 0.68) * wide
        z = near_plane(anatomy, -62) + uniform(rng, -5, 5)
        surface = 1 - (abs(x) / (wide + 14)) ** 2.3
        y = 6 - (anatomy.half_depth + 10) * surface ** (1 / 2.3)  # in front of the ribs, under the skin
        radii = (20, 13, 20) if kind == "port catheter" else (28, 14, 26)
        device.append(((x, y, z), radii, sign * 0.5))
        cava = anatomy.at(SUPERIOR_VENA_CAVA).tolist()
        course = [(x, y, z), (sign * 50, y + 12, 0), (sign * 30, -20, 4), *cava]
        if kind == "pacemaker":
            course += anatomy.at([(-14, -30, -140), (18, -46, -170)]).tolist()
        tubes.append((along(course, 1.5), 4.5))
    else:
        for level in np.arange(-50, -165, -19.0):
            z = near_plane(anatomy, float(level), 8)
            depth = min(-z, 95) / 95
            narrow = 0.45 + 0.55 * (1 - (1 - depth) ** 2)
            front = -3 + 22 * (1 - narrow) - 1.08 * anatomy.half_depth * narrow
            turn = np.linspace(0, 2 * np.pi, 25)
            loop = np.stack([13 * np.cos(turn), front + 7 * np.sin(turn), z + 5 * np.cos(turn)], axis=1)
            tubes.append((along(loop, 1.5), 4.5))
    value = uniform(rng, 2200, 3000)

    def paint(slab):
        flat, lung = slab.hu.reshape(-1), slab.lung.reshape(-1)
        for points, radius in tubes:
            voxels = slab.sweep(points, radius)
            flat[voxels[~lung[voxels]]] = value
        for centre, radii, turn in device:
            box, r2 = slab.ellipsoid(centre, radii, turn)
            np.copyto(slab.hu[box], value, where=(r2 < 1) & ~slab.lung[box])

    def region(slab):
        """The front of the chest wall on the device's side, and the front of the mediastinum."""
        wall = (slab.y < -0.1 * anatomy.half_depth) & (sign * slab.x > 0)
        middle = (np.abs(slab.x) < 60) & (slab.y < 20)
        return (wall | middle) & (slab.z < 15) & (slab.z > -anatomy.height) & ~slab.lung

    return Finding("Medical material", region, paint, side=side, detail=kind)


def hilum(anatomy: Anatomy, side) -> np.ndarray:
    """The point where the bronchi and vessels enter a lung, x, y, z in mm."""
    return anatomy.at(HILA[side])
