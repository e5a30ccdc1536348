"""The findings of the lung and the pleura. Each finding stays within the side and the lobe that the report names."""

import numpy as np

from .anatomy import LOBES, SIDES, Anatomy
from .findings import Finding, even, hilum
from .slab import along, draw_waves, texture, uniform


def lobe_mask(anatomy: Anatomy, slab, side, lobe) -> np.ndarray:
    """Mask of the aerated lung of a side (or `"both"`) and a lobe (`""`: the whole lung), bool `[Z, Y, X]`."""
    halves = {"right": slab.x < 0, "left": slab.x >= 0, "both": np.isfinite(slab.x)}
    if side == "both":  # each side by itself, because only the right lung has a middle lobe
        parts = [(halves[one] & anatomy.lobe(one, lobe, slab.y, slab.z)) for one in SIDES]
        return slab.lung & (parts[0] | parts[1])
    return slab.lung & halves[side] & anatomy.lobe(side, lobe, slab.y, slab.z)


def in_lobe(anatomy: Anatomy, slab, box, side, lobe) -> np.ndarray:
    """[`lobe_mask`] of one side within a box."""
    x, y, z = slab.coordinates(box)
    half = x < 0 if side == "right" else x >= 0
    return slab.lung[box] & half & anatomy.lobe(side, lobe, y, z)


def paint_tubes(anatomy, slab, place, tubes, value):
    """Paint tubes, each as (points, radius in mm), within a place, which is a side and a lobe."""
    flat, mask = slab.hu.reshape(-1), lobe_mask(anatomy, slab, *place).reshape(-1)
    for points, radius in tubes:
        voxels = slab.sweep(points, radius)
        flat[voxels[mask[voxels]]] = value


def region_of(anatomy, side, lobe):
    """The `region` of a finding that is confined to a side and a lobe."""
    return lambda slab: lobe_mask(anatomy, slab, side, lobe)


def draw_sides(rng, both) -> str:
    """`"both"` with the probability `both`, otherwise `"right"` or `"left"`."""
    draw = rng.random()
    return "both" if draw < both else ("right" if draw < both + (1 - both) / 2 else "left")


def sides_of(side) -> tuple[str, ...]:
    """The one or two sides that `side` stands for."""
    return SIDES if side == "both" else (side,)


def nodule(anatomy, rng, place) -> Finding:
    """One or several round nodules."""
    side, lobe = place
    small = rng.random() < 0.15  # a small nodule may lie between the ten planes
    largest = uniform(rng, 4, 5.5) if small else uniform(rng, 18, 30)
    count, value = (1 if small or rng.random() < 0.4 else int(rng.integers(3, 7))), uniform(rng, 30, 70)
    balls = []
    for diameter in [largest, *(uniform(rng, 0.7, 0.95) * largest for _ in range(count - 1))]:
        radius = diameter / 2
        centre = anatomy.draw_point(rng, side, lobe, radius, 14.0 if small else 0.3 * radius)
        balls.append((centre, radius))

    def paint(slab):
        for centre, radius in balls:
            # Never thinner than a voxel, so that a coarse volume, too, shows a small nodule in one of its slices.
            box, r2 = slab.ellipsoid(centre, [max(radius, 0.55 * s) for s in slab.spacing])
            np.copyto(slab.hu[box], value, where=(r2 < 1) & in_lobe(anatomy, slab, box, side, lobe))

    detail = "single" if count == 1 else "several"
    size = max(4, even(largest))
    return Finding("Lung nodule", region_of(anatomy, side, lobe), paint, side, lobe, size, detail)


def opacity(anatomy, rng, place) -> Finding:
    """Patches of ground glass."""
    side, lobe = place
    patches = []
    for _ in range(int(rng.integers(3, 5))):
        radii = [uniform(rng, 36, 52), uniform(rng, 32, 46), uniform(rng, 34, 50)]
        patches.append((anatomy.draw_point(rng, side, lobe, 12, 10.0), radii, uniform(rng, 360, 440)))

    def paint(slab):
        for centre, radii, amount in patches:
            box, r2 = slab.ellipsoid(centre, radii)
            haze = amount * np.minimum(1, 3 * np.maximum(0, 1 - r2))
            # Patches that overlap do not add up: ground glass must stay clearly darker than soft tissue.
            where = (haze > 0) & in_lobe(anatomy, slab, box, side, lobe)
            np.copyto(slab.hu[box], np.maximum(slab.hu[box], anatomy.lung_hu + haze), where=where)

    size = even(2 * max(radii[0] for _, radii, _ in patches))
    return Finding("Lung opacity", region_of(anatomy, side, lobe), paint, side, lobe, size)


def consolidation(anatomy, rng, place) -> Finding:
    """A dense area with air bronchograms."""
    side, lobe = place
    centre = anatomy.draw_point(rng, side, lobe, 14, 10.0)
    radius, ragged = uniform(rng, 36, 52), draw_waves(rng, 2, 18, 30)
    gate = hilum(anatomy, side)
    ends = np.array(centre) + rng.uniform(-0.8, 0.8, (6, 3)) * radius
    bronchi = [(along((gate, (gate + np.array(centre)) / 2, end), 1.5), 2.6) for end in ends]

    def paint(slab):
        box, r2 = slab.ellipsoid(centre, (1.2 * radius,) * 3)
        rough = 0.12 * texture(ragged, *slab.coordinates(box))
        dense = (r2 + rough < 0.7) & in_lobe(anatomy, slab, box, side, lobe)
        np.copyto(slab.hu[box], 30, where=dense)
        inside = slab.mask()
        inside[box] = dense
        for points, thick in bronchi:  # air bronchograms
            voxels = slab.sweep(points, thick)
            slab.hu.reshape(-1)[voxels[inside.reshape(-1)[voxels]]] = -930

    size = even(2 * radius)
    return Finding("Consolidation", region_of(anatomy, side, lobe), paint, side, lobe, size)


def atelectasis(anatomy, rng) -> Finding:
    """Airless plates that reach the pleura, in lower lobes, the middle lobe or the left upper lobe."""
    draw = rng.random()
    if draw < 0.25:
        side, lobe = "both", "lower"
    else:
        options = (("right", "middle"), ("right", "lower"), ("left", "lower"), ("left", "upper"))
        side, lobe = options[int(rng.integers(4))]
    plates = []
    for one in sides_of(side):
        for _ in range(int(rng.integers(2, 4))):
            centre = anatomy.draw_point(rng, one, lobe, 8, 8.0)
            # In the axial plane the plate points from the wall to the hilum.
            gate = hilum(anatomy, one)
            angle = float(np.arctan2(centre[1] - gate[1], centre[0] - gate[0])) + uniform(rng, -0.4, 0.4)
            radii = (uniform(rng, 34, 48), uniform(rng, 11, 15), uniform(rng, 26, 38))
            plates.append((one, centre, radii, angle))

    def paint(slab):
        for one, centre, radii, angle in plates:
            box, r2 = slab.ellipsoid(centre, radii, angle)
            np.copyto(slab.hu[box], 70, where=(r2 < 1) & in_lobe(anatomy, slab, box, one, lobe))

    return Finding("Atelectasis", region_of(anatomy, side, lobe), paint, side, lobe)


def emphysema(anatomy, rng) -> Finding:
    """Many small holes in one lobe of one or both lungs."""
    side = draw_sides(rng, 0.6)
    lobe = "upper" if rng.random() < 0.7 else "lower"
    holes = []
    for one in sides_of(side):
        low, high = (-0.75, 0.0) if lobe == "upper" else (-1.15, -0.45)
        count = 130
        centres = np.stack(
            [
                (-1 if one == "right" else 1) * rng.uniform(25, 1.0 * anatomy.half_width, count),
                rng.uniform(-0.95, 0.95, count) * anatomy.half_depth,
                rng.uniform(low, high, count) * anatomy.height,
            ],
            axis=1,
        )
        holes += [(centres[:50], uniform(rng, 7, 9)), (centres[50:100], uniform(rng, 10, 13)), (centres[100:], 18.0)]

    def paint(slab):
        paint_tubes(anatomy, slab, (side, lobe), holes, -990.0)

    return Finding("Emphysema", region_of(anatomy, side, lobe), paint, side, lobe)


def mosaic(anatomy, rng) -> Finding:
    """A mosaic of brighter and darker areas in both lungs."""
    waves, threshold = draw_waves(rng, 3, 38, 60), uniform(rng, -0.2, 0.1)

    def paint(slab):
        bright = texture(waves, slab.x, slab.y, slab.z) > threshold
        lung = slab.lung & (slab.hu < -600)
        slab.hu[lung & bright] += 220
        slab.hu[lung & ~bright] -= 60

    return Finding("Mosaic attenuation pattern", region_of(anatomy, "both", ""), paint, "both")


def septal_thickening(anatomy, rng) -> Finding:
    """A net of thick septa between the lobules."""
    side = draw_sides(rng, 0.5)
    lobe = ("upper", "lower", "lower")[int(rng.integers(3))]
    mesh, turn, thick = uniform(rng, 17, 22), uniform(rng, 0, np.pi), 5.0
    wobble = draw_waves(rng, 2, 40, 80)
    value = uniform(rng, -250, -100)

    def paint(slab):
        mask = lobe_mask(anatomy, slab, side, lobe)
        # Three families of wavy walls, 60 degrees apart: together they enclose polygons, as septa enclose lobules.
        bend = 4.0 * texture(wobble, slab.x, slab.y, slab.z)
        net = slab.mask()
        for k in range(3):
            cos, sin = float(np.cos(turn + k * np.pi / 3)), float(np.sin(turn + k * np.pi / 3))
            net |= np.mod(cos * slab.x + sin * slab.y + 0.35 * slab.z + bend, mesh * 1.5) < thick
        np.copyto(slab.hu, value, where=net & mask & (slab.hu < value))

    return Finding("Interlobular septal thickening", region_of(anatomy, side, lobe), paint, side, lobe)


def peribronchial_thickening(anatomy, rng) -> Finding:
    """Thick walls around the bronchi near the hilum."""
    side = draw_sides(rng, 0.6)
    walls = []
    for one in sides_of(side):
        gate, sign = hilum(anatomy, one), -1 if one == "right" else 1
        for front, down in ((-0.9, 0.5), (-0.3, 0.9), (0.6, 0.6), (0.8, -0.4), (0.2, -0.9), (-0.5, -0.8)):
            way = np.array((sign * uniform(rng, 0.6, 1.1), front, down)) + rng.normal(0, 0.15, 3)
            walls.append(along((gate, gate + uniform(rng, 42, 60) * _unit(way)), 1.5))
    wall, lumen = uniform(rng, 11, 13), uniform(rng, 4.0, 5.0)

    def paint(slab):
        paint_tubes(anatomy, slab, (side, ""), [(np.concatenate(walls), wall)], 20.0)
        paint_tubes(anatomy, slab, (side, ""), [(np.concatenate(walls), lumen)], -960.0)

    return Finding("Peribronchial thickening", region_of(anatomy, side, ""), paint, side)


def bronchiectasis(anatomy, rng, place) -> Finding:
    """A group of wide bronchi with thick walls."""
    side, lobe = place
    middle = np.array(anatomy.draw_point(rng, side, lobe, 18, 10.0))
    tubes = []
    for _ in range(int(rng.integers(14, 20))):
        centre = middle + rng.uniform(-1, 1, 3) * (30, 30, 8)
        tilt = np.array((uniform(rng, -6, 6), uniform(rng, -6, 6), uniform(rng, 14, 22)))
        tubes.append((along((centre - tilt, centre + tilt), 2.0), uniform(rng, 5.0, 7.0)))

    def paint(slab):
        paint_tubes(anatomy, slab, (side, lobe), [(points, radius + 5.5) for points, radius in tubes], 10.0)
        paint_tubes(anatomy, slab, (side, lobe), tubes, -995.0)

    return Finding("Bronchiectasis", region_of(anatomy, side, lobe), paint, side, lobe)


def fibrotic_sequela(anatomy, rng) -> Finding:
    """A scar: coarse streaks that meet at one point of the upper lobe."""
    side = draw_sides(rng, 0.35)
    streaks = []
    for one in sides_of(side):
        centre = np.array(anatomy.draw_point(rng, one, "upper", 8, 8.0))
        for _ in range(int(rng.integers(20, 28))):
            start = centre + rng.uniform(-1, 1, 3) * (20, 20, 10)
            end = start + uniform(rng, 30, 52) * _unit(rng.normal(0, 1, 3) * (1, 1, 0.6))
            streaks.append((along((start, (start + end) / 2 + rng.normal(0, 4, 3), end), 1.5), uniform(rng, 6, 8)))
    value = uniform(rng, 130, 220)  # a scar contains some calcium

    def paint(slab):
        paint_tubes(anatomy, slab, (side, "upper"), streaks, value)

    return Finding("Pulmonary fibrotic sequela", region_of(anatomy, side, "upper"), paint, side, "upper")


def pleural_effusion(anatomy, rng) -> Finding:
    """Fluid between a lung and the chest wall."""
    side = draw_sides(rng, 0.45)
    thickness = {one: uniform(rng, 18, 46) for one in sides_of(side)}
    level = {one: -anatomy.height * uniform(rng, 0.4, 0.75) for one in sides_of(side)}

    def paint(slab):
        for one, thick in thickness.items():
            low, high = (-200, 0) if one == "right" else (0, 200)
            box = slab.box((low, -0.3 * anatomy.half_depth, -1000), (high, 200, level[one]))
            x, y, z = slab.coordinates(box)
            depth = anatomy.half_depth * (1 - np.sqrt(anatomy.cage(x, y, z)))
            # Fluid sinks to the back and the base: its layer is thicker below and thinner in front.
            reach = thick * np.minimum(1, (level[one] - z) / 50) * np.clip(0.55 + y / anatomy.half_depth, 0, 1)
            fluid = (depth < reach) & slab.lung[box]
            np.copyto(slab.hu[box], 8, where=fluid)

    size = even(max(thickness.values()))
    return Finding("Pleural effusion", region_of(anatomy, side, ""), paint, side, "", size)


def _unit(vector) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def deal_lobes(rng) -> list[tuple[str, str]]:
    """The five lobes in random order: findings that would hide each other in the same lobe each get another one."""
    places = [(side, lobe) for side in SIDES for lobe in LOBES[side]]
    return [places[i] for i in rng.permutation(len(places))]
