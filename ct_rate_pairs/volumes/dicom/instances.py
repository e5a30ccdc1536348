"""Reads which image each slice of a series is, and of whom the images are."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.filereader import read_partial

from ..instances import Instance, Instances
from .headers import SHORT, Header, unquoted
from .plain_files import before_pixels, read_meta


_LAST_GROUP = 0x0020  # patient, study, equipment and series are told in the groups up to it


def instances_of(headers: Sequence[Header]) -> Instances:
    """The images of the planes whose headers are given, superior first."""
    return Instances([_instance(header) for header in headers], _of_whom(headers[0]))


def _instance(header: Header) -> Instance:
    is_frame = bool(header["Multiframe"])
    number = header.get("InstanceNumber")
    return Instance(
        sop_instance_uid=header["SOPInstanceUID"],
        sop_class_uid=header["SOPClassUID"],
        series_uid=header["SeriesInstanceUID"],
        study_uid=header["StudyInstanceUID"],
        number=None if is_frame or number is None else int(number),
        frame=header["frame"] + 1 if is_frame else None,
        position=tuple(header["ImagePositionPatient"].tolist()),
    )


def _of_whom(header: Header) -> Dataset:
    """The short elements of a file up to the group of the series."""
    with unquoted(f"file {header['count']} of the scan is damaged"), header["file"]() as opened:
        _, plain, _ = read_meta(header["count"], opened)
        dataset = read_partial(
            before_pixels(header["count"], plain), lambda tag, *_: tag.group > _LAST_GROUP, specific_tags=SHORT
        )
        return Dataset({tag: dataset.get_item(tag) for tag in tuple(dataset.keys())})
