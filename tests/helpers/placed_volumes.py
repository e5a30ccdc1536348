"""NIfTI files whose axes are permuted, flipped and oblique."""

import itertools

import nibabel as nib
import numpy as np


AXES = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((1, -1), repeat=3))


def affine_of(axes, flips, spacing, degrees=0.0) -> np.ndarray:
    """A matrix whose array axes are the body's `axes`, turned by some degrees about an oblique line."""
    matrix = np.zeros((3, 3))
    matrix[list(axes), range(3)] = np.multiply(flips, spacing)
    line = np.array([1.0, 2.0, 2.0]) / 3
    cross = np.array([[0, -line[2], line[1]], [line[2], 0, -line[0]], [-line[1], line[0], 0]])
    turn = np.radians(degrees)
    rotation = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation @ matrix, (-31.5, 12.25, 80.0)
    return affine


def save(path, array, affine):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path
