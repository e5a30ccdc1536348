"""Where the slices that a model sees lie in their scan, so that a reader finds them again."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlicePlace:
    """
    The place of one slice in its scan.

    A slice may lie between two stored planes of the scan, or show several of them as a projection. So it has the
    nearest stored plane, and the first and the last one that it is computed from. Planes are counted from 1 at the
    top, whatever the order of the file.

    Args:
        number (`int`):
            Number of the slice, from 1 at the top.
        mm (`float`):
            Depth of the slice below the first slice, in mm.
        table_mm (`float`, *optional*):
            Place of the slice along the patient, in mm: the third coordinate of DICOM's `ImagePositionPatient`, which
            grows towards the head. In a tilted scan it is that of the first pixel. `None` if the scan does not tell
            its place.
        index (`int`):
            The stored plane that is nearest.
        first (`int`), last (`int`):
            The stored planes that the slice is computed from.
        planes (`int`):
            Number of planes that the scan has.
        in_lungs (`bool`, *optional*):
            Whether the slice lies in the extent of the lungs from top to bottom; `None` if no lungs are found.
    """

    number: int
    mm: float
    table_mm: float | None
    index: int
    first: int
    last: int
    planes: int
    in_lungs: bool | None

    def __str__(self) -> str:
        """The place in words, such as `"table -152.5 mm, plane 41 of 120"`."""
        place = f"{self.mm:.0f} mm below the first" if self.table_mm is None else f"table {self.table_mm:.1f} mm"
        return f"{place}, plane {self.index} of {self.planes}"


def places_of(
    positions: list[tuple[float, float, float]],
    depths: list[float],
    planes: int,
    affine: np.ndarray | None = None,
    lungs: tuple[float, float] | None = None,
) -> list[SlicePlace]:
    """
    The places of the slices of a volume.

    Args:
        positions (`list[tuple[float, float, float]]`):
            Of each slice, the place of its first, its middle and its last plane, in stored planes from 0 at the top.
        depths (`list[float]`):
            Depth of each slice below the first one, in mm.
        planes (`int`):
            Number of stored planes.
        affine (`np.ndarray`, *optional*):
            Matrix `[4, 4]` from stored voxels (x, y, z) to RAS in mm; `None` if the place of the scan is not known.
        lungs (`tuple[float, float]`, *optional*):
            Where the lungs begin and end, as shares of the depth from the top.

    Returns:
        `list[SlicePlace]`: the places.
    """
    return [
        SlicePlace(
            number=number,
            mm=mm,
            table_mm=None if affine is None else round(float(affine[2, 2] * middle + affine[2, 3]), 2),
            index=math.floor(middle + 0.5) + 1,
            first=math.floor(first) + 1,
            last=math.ceil(last) + 1,
            planes=planes,
            in_lungs=None if lungs is None else lungs[0] <= (middle + 0.5) / planes <= lungs[1],
        )
        for number, ((first, middle, last), mm) in enumerate(zip(positions, depths, strict=True), start=1)
    ]
