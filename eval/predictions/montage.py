"""A volume as one picture, for models that take a single image or whose context is too short for one per slice."""

from collections.abc import Sequence

from transformers import ProcessorMixin

from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.row_checks import check_rows, depths_of
from ct_rate_pairs.volumes.montage import montage


def with_layout(row: dict, as_montage: bool) -> list[dict]:
    """The row's prompt with a description of the slices before it, for models that were not trained on such rows."""
    slices, depths = row["images"], depths_of(row)
    gap_mm = (depths[-1] - depths[0]) / (len(depths) - 1)
    order = "in one picture, left to right and top to bottom" if as_montage else "in this order"
    layout = (
        f"{len(slices)} axial slices of one chest CT {order}, from the top of the chest downwards, {gap_mm:.0f} mm "
        "apart. The patient's right is on the left of a slice."
    )
    *before, question = row["prompt"]
    return [*before, question | {"content": f"{layout}\n{text_of(question)}"}]


class MontageCollator(PairCollator):
    """
    [`~ct_rate_pairs.trainer.PairCollator`] that passes one picture per volume to any model family, as an image.

    The prompt describes how the slices are arranged in the picture.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of an image-text-to-text model.
        chat_template_kwargs (`dict`, *optional*):
            See [`~ct_rate_pairs.trainer.PairCollator`].
    """

    def __init__(self, processor: ProcessorMixin, chat_template_kwargs: dict | None = None):
        """Sets the collator up for images, also for a family whose volumes are videos."""
        super().__init__(processor, chat_template_kwargs=chat_template_kwargs)
        self.takes_video = False
        self.pixels = "pixel_values"

    def __call__(self, rows: list[dict]) -> dict:
        """Turns rows into a training batch, with one picture per volume."""
        check_rows(rows, depths=True)
        return super().__call__([as_montage(row) for row in rows])

    def prompts(self, rows: list[dict], openings: Sequence[str] | None = None) -> dict:
        """Turns rows into a batch of prompts to generate from, with one picture per volume."""
        check_rows(rows, depths=True)
        return super().prompts([as_montage(row) for row in rows], openings)


def as_montage(row: dict) -> dict:
    """The row with one picture per volume, its own and its negative, and a prompt that describes the layout."""
    pictures = {
        name: [montage(row[name])] if row[name] else []
        for name in ("images", "negative_images")
        if name in row  # a row to generate from may have no negative
    }
    return row | pictures | {"prompt": with_layout(row, as_montage=True)}
