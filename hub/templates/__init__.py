"""The Markdown of the cards. Fields are in braces."""

from pathlib import Path


CT_RATE = "ibrahimhamamci/CT-RATE"
THIS_FOLDER = 'model_id, revision = ".", None  # this folder'  # publishing replaces this line by the name on the Hub
# What the card says of the weights that the results are of. Publishing replaces the first sentence by another.
MEASURED = "The results are those of the weights in this folder."
ROUNDED = (
    "The results are those of the weights of the training, in {types}. The weights here were rounded to bfloat16 when "
    "they were published."
)
KEPT = "The results are those of the weights here, in {types}."


def read_template(name: str) -> str:
    """The text of `NAME.md`: a card, or a part of a card."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")
