"""Ribs, spine, sternum and shoulder blades of one patient, painted into a slab."""

import numpy as np


VERTEBRA, DISC = 26.0, 6.0  # height of a vertebra including its disc, and of the disc alone, in mm
SPINE_Y = 56.0  # y of the centre of the vertebral bodies in the average thorax, in mm


def paint_skeleton(slab, anatomy, cage):
    """
    Paints the bones into a slab.

    Args:
        slab ([`Slab`]):
            Slab with the lungs and the soft tissue. It is changed in place.
        anatomy ([`Anatomy`]):
            The patient.
        cage (`np.ndarray`):
            [`Anatomy.cage`] at the slab's voxels, of shape `[Z, Y, X]`.
    """
    _paint_ribs(slab, anatomy, cage)
    _paint_scapulae(slab, anatomy, cage)
    _paint_sternum(slab, anatomy)
    _paint_spine(slab, anatomy)


def _paint_ribs(slab, anatomy, cage):
    # A rib descends from the spine to the front, so an axial plane shows it as an arc.
    phase = np.mod(slab.z - 0.42 * slab.y + anatomy.rib_phase, VERTEBRA)  # [Z, Y, 1]
    levels = (phase < 11) & (slab.z < 6) & (slab.z > -anatomy.height - 75)
    bone = np.where(slab.y < -0.72 * anatomy.half_depth, 110, anatomy.bone_hu + 160)  # costal cartilage in front
    shell = (cage > 1.05) & (cage < 1.24)
    np.copyto(slab.hu, bone, where=shell & levels)


def _paint_scapulae(slab, anatomy, cage):
    wide, deep, _ = anatomy.scale
    for sign in (-1, 1):
        box = slab.box(*_corners((sign * 98 * wide, 62 * deep, -55), (34, 34, 62)))
        x, y, z = slab.coordinates(box)
        outward, back = (sign * x - 98 * wide) * 0.72, (y - 62 * deep) * 0.69
        thin = np.abs(outward + back) < 4.5 + 0.02 * (z + 55)
        blade = thin & (np.abs(outward - back) < 34 + 0.2 * (z + 55)) & (cage[box] > 1.34)
        np.copyto(slab.hu[box], anatomy.bone_hu + 200, where=blade & (slab.hu[box] > 0))


def _paint_sternum(slab, anatomy):
    z = slab.z
    depth = np.clip(-z, 0, 95) / 95
    narrowing = 0.45 + 0.55 * (1 - (1 - depth) ** 2)
    front = -3 + 22 * (1 - narrowing) - 1.08 * anatomy.half_depth * narrowing  # [Z, 1, 1]
    plate = (np.abs(slab.y - front) < 5.5) & (z < -32) & (z > -170)
    box = slab.box((-15, -200, -1000), (15, 0, 1000))
    np.copyto(slab.hu[box], anatomy.bone_hu, where=plate[:, box[1]] & (slab.x[:, :, box[2]] < np.inf))


def _paint_spine(slab, anatomy):
    centre = SPINE_Y * anatomy.scale[1]
    box = slab.box((-34, centre - 20, -1000), (34, centre + 62, 1000))
    x, y, z = slab.coordinates(box)
    hu = slab.hu[box]
    disc = np.mod(z + anatomy.rib_phase, VERTEBRA) < DISC  # [Z, 1, 1]
    body = (x / 18) ** 2 + ((y - centre) / 15) ** 2  # [1, Y, X]
    arch = (x / 15) ** 2 + ((y - centre - 23) / 13) ** 2
    process = (np.abs(x) < 3.5) & (y > centre + 34) & (y < centre + 54)
    transverse = (np.abs(x) < 32) & (np.abs(y - centre - 24) < 5)
    np.copyto(hu, anatomy.bone_hu + 120, where=((arch < 1) | process | transverse) & ~disc)
    np.copyto(hu, 25, where=(arch < 0.4) & (z < np.inf))  # the canal
    np.copyto(hu, np.where(disc, 80, anatomy.bone_hu + 190 * (body > 0.72)), where=(body < 1) & (z < np.inf))
    slab.lung[box] &= ~((body < 1) | transverse)


def _corners(centre, half):
    low = [c - h for c, h in zip(centre, half, strict=True)]
    high = [c + h for c, h in zip(centre, half, strict=True)]
    return low, high
