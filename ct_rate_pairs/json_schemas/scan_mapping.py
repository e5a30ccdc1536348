"""The private file that maps the reports of scans to the scans."""

from typing import Annotated

from pydantic import Field

from .schema import Schema


class MappedSlice(Schema):
    """A slice of a report, and the DICOM image that it was taken from."""

    number: Annotated[int, Field(ge=1)]
    sop_instance_uid: str
    instance_number: int | None
    frame: int | None


class MappedScan(Schema):
    """A report, and its scan."""

    name: str
    path: str | None
    digest: str | None
    study_uid: str | None
    series_uid: str | None
    slices: list[MappedSlice]


class ScanMappings(Schema):
    """The file."""

    notice: str
    output_dir: str
    scans: list[MappedScan]
