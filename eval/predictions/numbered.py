"""A volume as images that are numbered in the prompt, as MedGemma 1.5 is shown a CT."""

import re

from transformers import ProcessorMixin

from ct_rate_pairs.trainer import PairCollator


class NumberedCollator(PairCollator):
    """
    [`~ct_rate_pairs.trainer.PairCollator`] that passes one image per slice to any model family, with `SLICE 1`,
    `SLICE 2`, ... after the images, and the question last.

    This is the form of MedGemma 1.5's notebook for CT (`notebooks/high_dimensional_ct_hugging_face.ipynb` of
    Google-Health/medgemma, commit d89262cd), but for the notebook's own sentences before and after the slices.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of an image-text-to-text model whose chat template keeps images and texts in their order.
        chat_template_kwargs (`dict`, *optional*):
            See [`~ct_rate_pairs.trainer.PairCollator`].

    Raises:
        `ValueError`: if the chat template moves the images before the texts, or takes no images.
    """

    def __init__(self, processor: ProcessorMixin, chat_template_kwargs: dict | None = None):
        """Sets the collator up for images, also for a family whose volumes are videos."""
        super().__init__(processor, chat_template_kwargs=chat_template_kwargs)
        self.takes_video = False
        self.pixels = "pixel_values"
        shown = self.processor.apply_chat_template([{"role": "user", "content": self._places(2)}])
        between = re.search(r"SLICE 1(.*?)SLICE 2", shown, re.DOTALL)
        if not between or not between[1].strip():
            raise ValueError(
                f"The chat template of this {type(processor).__name__} does not keep images between texts, so its "
                "slices cannot be numbered: pass --slices_as slices or montage."
            )

    def _places(self, number: int) -> list[dict[str, str]]:
        """The places of `number` slices in the turn that asks, each with its number."""
        return [
            part
            for place in range(1, number + 1)
            for part in ({"type": "image"}, {"type": "text", "text": f"SLICE {place}"})
        ]
