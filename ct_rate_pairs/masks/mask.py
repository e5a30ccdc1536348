"""One mask: which voxels of which file are a finding."""

from pathlib import Path
from typing import NamedTuple


class Mask(NamedTuple):
    """
    The voxels of one finding, or of one structure, in one volume.

    Args:
        finding (`str`):
            Name of the finding, such as `"Lung nodule"`, or of the structure, such as `"heart"`.
        file (`Path`):
            A NIfTI file.
        place (`str`):
            How messages name the mask. It holds no path of a reader's own table.
        value (`int`, *optional*):
            Value of the finding's voxels. By default, all that are not 0.
        channel (`int`, *optional*):
            Position of the finding along the first of the four axes of the file. By default, the file is one volume.
        sentence (`str`, *optional*, defaults to `""`):
            The sentence of the report that states the finding.
    """

    finding: str
    file: Path
    place: str
    value: int | None = None
    channel: int | None = None
    sentence: str = ""
