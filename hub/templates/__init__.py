"""The Markdown of cards, with their fields in braces."""

from pathlib import Path


CT_RATE = "ibrahimhamamci/CT-RATE"
THIS_FOLDER = 'model_id, revision = ".", None  # this folder'  # publishing puts the name on the Hub in its place


def read_template(name: str) -> str:
    """The card, or a part of one, in `NAME.md`."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
