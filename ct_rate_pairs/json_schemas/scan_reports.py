"""The files that a batch of scans writes, and reads to resume."""

from typing import Annotated

from pydantic import Field, RootModel

from .schema import Schema


# As [`~ct_rate_pairs.hub.reporting.batch`] names a scan, or a reader does. The name becomes that of a folder.
SCAN_NAME = r"^(?:scan number [0-9]{1,9}|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$"


class Failure(Schema):
    """A scan of a batch that could not be read."""

    name: Annotated[str, Field(pattern=SCAN_NAME)]
    number: Annotated[int, Field(ge=1)]
    digest: str | None
    error: str


class Failures(RootModel[list[Failure]]):
    """`failures.json` of a batch of scans."""


class FinishedReport(Schema):
    """What a batch reads in the `report.json` of a scan."""

    model: str
    version: str
    digest: str | None
    series: int | None
    code: str | None = None
    max_new_tokens: Annotated[int, Field(ge=1)]
    operating_point: str | None = None
    findings_given: list[str] | None = None
    metadata_given: list[str] | None = None
    force: bool = False
    with_masks: bool = False
    cut: bool = False


class WrittenReport(Schema):
    """What questions after a report need of its `report.json`."""

    text: str
    line: str | None = None
