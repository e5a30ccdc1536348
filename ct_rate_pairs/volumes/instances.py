"""
Which DICOM image each plane of a volume was stored in. All of this is of the patient: it never goes into a report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instance:
    """
    The DICOM image that holds one plane.

    Args:
        sop_instance_uid (`str`), sop_class_uid (`str`), series_uid (`str`), study_uid (`str`):
            What identifies the image; `""` where its header lacks it.
        number (`int`, *optional*):
            Its `InstanceNumber`; `None` if its header lacks it, and for a frame of an Enhanced CT.
        frame (`int`, *optional*):
            Number of the frame in an Enhanced CT, from 1; `None` for a file with one image.
        position (`tuple[float, float, float]`):
            Place of the centre of its first pixel, in mm in LPS.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    number: int | None
    frame: int | None
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Instances:
    """
    The images of several planes, and of whom they are.

    Args:
        images (`list[Instance]`):
            The image of each plane, superior first.
        header (`pydicom.Dataset`):
            The elements of one image that tell the patient, the study, the equipment and the series. Its values are
            as the file has them, and are not checked.
    """

    images: list[Instance]
    header: object = field(repr=False)

    def at(self, indices: Sequence[int]) -> "Instances":
        """The images of some planes, counted from 1 at the top, as in [`SlicePlace`]."""
        return Instances([self.images[index - 1] for index in indices], self.header)
