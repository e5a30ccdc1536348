"""Turns a row of the dataset into inputs of the `pipeline("image-text-to-text")` of transformers."""

from transformers import ProcessorMixin

from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import GREEDY


def pipeline_inputs(row: dict, processor: ProcessorMixin, max_new_tokens: int = 1200) -> dict:
    """
    Makes the arguments with which the pipeline writes the same report as
    [`~ct_rate_pairs.eval.generate.generate_reports`].

    The slices are passed unchanged and, for a video, with timestamps from their distance. Generation is greedy. The
    default arguments of [`~ct_rate_pairs.trainer.PairCollator`], such as `enable_thinking=False`, are written into the
    processor's chat template.

    Args:
        row (`dict`):
            Row of the dataset, or of [`~ct_rate_pairs.hub.reporting.reporter.Reporter.read`], with `images`,
            `slice_mm` and `prompt`.
        processor ([`~transformers.ProcessorMixin`]):
            Processor of the pipeline.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Maximum length of the report in tokens.

    Returns:
        `dict`: keyword arguments for the call of the pipeline.

    Raises:
        `ValueError`: if the chat template writes something before an answer that a pipeline would leave out.

    Example:

    ```python
    pipe = pipeline("image-text-to-text", "USER/model")
    pipe(**pipeline_inputs(row, pipe.processor))[0]["generated_text"]
    ```
    """
    collator = PairCollator(processor)
    if opening := collator._opening(row):
        raise ValueError(
            f"The chat template writes {opening!r} before an answer, which a pipeline would not write. Use "
            "generate_reports or load_reporter."
        )
    options = collator._slices([row], "images")  # in the form in which the collator passes them to the processor
    if collator.takes_video:
        (frames,) = options.pop("videos")  # [T, C, H, W]
        slices = [{"type": "video", "video": frames}]
    else:
        (images,) = options.pop("images")
        slices = [{"type": "image", "image": image} for image in images]
    *before, question = [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in row["prompt"]
    ]
    question["content"] = slices + question["content"]
    return {
        "text": [*before, question],
        "processor_kwargs": options,
        "generate_kwargs": {"max_new_tokens": max_new_tokens, **GREEDY},
        "return_full_text": False,
    }
