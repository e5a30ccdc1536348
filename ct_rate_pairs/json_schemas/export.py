"""The manifest of scans that were exported for another model."""

from pydantic import ConfigDict

from .schema import Schema


class ExportManifest(Schema):
    """`manifest.json` of an export. What it tells of the array beside these fields is compared as it is."""

    model_config = ConfigDict(extra="allow")

    format: str
    split: str
    scans: dict[str, str]
    failed: dict[str, str]
