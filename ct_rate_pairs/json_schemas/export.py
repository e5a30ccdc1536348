"""What was exported for another model: the manifest of scans, and texts to embed."""

from pydantic import ConfigDict

from .schema import Schema


class ExportManifest(Schema):
    """`manifest.json` of an export. What it tells of the array beside these fields is compared as it is."""

    model_config = ConfigDict(extra="allow")

    format: str
    split: str
    cohort: str
    scans: dict[str, str]
    failed: dict[str, str]


class TextToEmbed(Schema):
    """A line of `texts.jsonl`."""

    id: str
    text: str
