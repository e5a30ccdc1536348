"""A row of the dataset as transformers' own `pipeline("image-text-to-text")` takes it."""

from transformers import ProcessorMixin

from ct_rate_pairs.trainer import PairCollator


def pipeline_inputs(row: dict, processor: ProcessorMixin, max_new_tokens: int = 1200) -> dict:
    """
    Makes the arguments with which the pipeline writes the very report that
    [`~ct_rate_pairs.eval.generate.generate_reports`] writes: the slices untouched, timed by their distance, greedily.

    Args:
        row (`dict`):
            Row of the dataset, or of [`~ct_rate_pairs.hub.reporting.reporter.Reporter.read`]: `images`, `slice_mm` and `prompt`.
        processor ([`~transformers.ProcessorMixin`]):
            The pipeline's.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Longest report in tokens.

    Returns:
        `dict`: keyword arguments of the pipeline's call.

    Example:

    ```python
    >>> pipe = pipeline("image-text-to-text", "USER/model")
    >>> pipe(**pipeline_inputs(row, pipe.processor))[0]["generated_text"]
    ```
    """
    collator = PairCollator(processor)
    options = collator._slices([row], "images")  # as the collator hands them to the processor
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
        "generate_kwargs": {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": 1.0,
        },
        "return_full_text": False,
    }
