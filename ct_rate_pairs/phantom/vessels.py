"""The great vessels and the airways of an average thorax, and the tree of vessels of each lung."""

import numpy as np


# Each vessel in the average thorax, as the corners (x, y, z) of its path and its radius, in mm.
AORTA = (
    *((-6, -12, -108), (-16, -24, -88), (-16, -24, -66), (-8, -16, -51), (8, 6, -44), (22, 26, -52)),
    *((27, 33, -75), (26, 33, -120), (18, 31, -185), (8, 32, -300)),
)
AORTA_RADIUS = 13.0
SUPERIOR_VENA_CAVA = ((-20, -22, 10), (-25, -16, -35), (-26, -12, -105))
GREAT_VESSELS = {
    "aorta": (AORTA, AORTA_RADIUS),
    "superior vena cava": (SUPERIOR_VENA_CAVA, 8.0),
    "brachiocephalic artery": (((-8, -12, -46), (-16, -8, 20)), 5.0),
    "left carotid artery": (((6, 0, -44), (12, 0, 20)), 4.0),
    "left subclavian artery": (((16, 14, -48), (26, 10, 20)), 4.5),
    "pulmonary trunk": (((14, -34, -104), (16, -24, -84)), 12.0),
    "right pulmonary artery": (((14, -24, -86), (-14, -4, -88), (-38, 4, -90)), 8.0),
    "left pulmonary artery": (((16, -24, -84), (40, 8, -84)), 8.5),
    "right pulmonary vein": (((-40, 8, -106), (-6, 8, -118)), 6.0),
    "left pulmonary vein": (((42, 10, -106), (10, 10, -118)), 6.0),
    "inferior vena cava": (((-22, -2, -170), (-20, 6, -300)), 10.0),
}
OESOPHAGUS = (((4, 22, 20), (2, 25, -110), (8, 24, -190)), 6.0)
AIRWAYS = (
    (((0, 8, 30), (0, 13, -72)), 8.5),
    (((0, 13, -72), (-36, 14, -98)), 6.0),
    (((0, 13, -72), (42, 15, -102)), 5.5),
)
HILA = {"right": (-38, 10, -95), "left": (42, 12, -95)}


def draw_lung_tree(rng, side, anatomy) -> list[tuple[np.ndarray, float]]:
    """
    Draws the arteries and veins of one lung: three generations of branches, from the hilum into the whole lung.

    Args:
        rng (`np.random.Generator`):
            The patient's random stream.
        side (`str`):
            `"right"` or `"left"`.
        anatomy ([`Anatomy`]):
            The patient.

    Returns:
        `list[tuple[np.ndarray, float]]`: points `[steps, branches, 3]` and radius of each generation, in mm. The
        finest branches come first.
    """
    sign = -1 if side == "right" else 1
    hilum = anatomy.at(HILA[side])
    # The ends of the first branches are spread over the height and the depth of the lung, so every lobe has vessels.
    count = 14
    aims = np.stack(
        [
            sign * rng.uniform(55, 105, count),
            np.tile((-58, -15, 25, 62), 4)[:count] + rng.uniform(-14, 14, count),
            np.linspace(-20, -215, count) + rng.uniform(-8, 8, count),
        ],
        axis=1,
    )
    starts, ends = np.repeat(hilum[None], count, 0), hilum + 0.5 * (anatomy.at(aims) - hilum)
    generations = []
    for radius, children, spread, share in ((2.8, 3, 0.5, 0.7), (1.6, 3, 0.6, 0.75), (1.0, 0, 0.0, 0.0)):
        middles = (starts + ends) / 2 + rng.normal(0, 5, starts.shape)
        # Bent branches, as quadratic curves in steps of about one millimetre: [steps, branches, 3].
        t = np.linspace(0, 1, int(np.linalg.norm(ends - starts, axis=1).max() / max(1.0, radius / 2)) + 2)[
            :, None, None
        ]
        curve = (1 - t) ** 2 * starts + 2 * t * (1 - t) * middles + t**2 * ends
        generations.append((curve.astype(np.float32), radius))
        if children:
            direction = np.repeat(ends - starts, children, 0)
            length = np.linalg.norm(direction, axis=1, keepdims=True)
            starts = np.repeat(ends, children, 0)
            ends = starts + share * (direction + spread * length * rng.normal(0, 1, direction.shape))
    return generations[::-1]


def paint_lung_tree(slab, tree, lung_hu):
    """Paint the vessels of a lung. A vessel thinner than a voxel brightens it by its share of the cross-section."""
    flat, lung = slab.hu.reshape(-1), slab.lung.reshape(-1)
    stride = max(1, int(min(slab.spacing) / 2))  # coarse voxels need fewer points than one per millimetre
    for points, radius in tree:
        voxels = slab.sweep(points[::stride].reshape(-1, 3), radius)
        share = min(1.0, np.pi * radius**2 / (slab.spacing[0] * slab.spacing[1]))
        flat[voxels[lung[voxels]]] = lung_hu + share * (35 - lung_hu)
