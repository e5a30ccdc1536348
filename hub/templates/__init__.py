"""The Markdown of the cards. Fields are in braces."""

from pathlib import Path


CT_RATE = "ibrahimhamamci/CT-RATE"
THIS_FOLDER = 'model_id, revision = ".", None  # this folder'  # publishing replaces this line by the name on the Hub


def read_template(name: str) -> str:
    """The text of `NAME.md`: a card, or a part of a card."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
