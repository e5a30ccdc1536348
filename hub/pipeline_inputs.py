"""Turns a row of the dataset into inputs of the `pipeline("image-text-to-text")` of transformers."""

import logging

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.generation import StoppingCriteria, StoppingCriteriaList

from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import GREEDY, cut_warning
from ct_rate_pairs.trainer.row_checks import check_rows


logger = logging.getLogger(__name__)


class WarnIfCut(StoppingCriteria):
    """
    Stops nothing, and warns if a text meets its limit of tokens before its end: a pipeline returns the text alone.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model. A text that ends in one of its special tokens is not cut.
        max_new_tokens (`int`):
            The limit.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int):
        """Knows the special tokens and the limit."""
        self.special, self.max_new_tokens = tokenizer.all_special_ids, max_new_tokens
        self.prompt, self.length = 0, 0  # tokens of the prompt, and tokens at the last call

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        """Looks at the last token of each text, `[B, T]`; `False` for each text."""
        if input_ids.shape[1] != self.length + 1:  # the first token after a prompt
            self.prompt = input_ids.shape[1] - 1
        self.length = input_ids.shape[1]
        if self.length - self.prompt == self.max_new_tokens:
            cut = ~torch.isin(input_ids[:, -1], torch.tensor(self.special, device=input_ids.device))
            if warning := cut_warning(int(cut.sum()), len(cut), self.max_new_tokens):
                logger.warning(warning)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def pipeline_inputs(row: dict, processor: ProcessorMixin, max_new_tokens: int = 1200) -> dict:
    """
    Makes the arguments with which the pipeline writes the same report as
    [`~ct_rate_pairs.eval.generate.generate_reports`].

    The slices are passed unchanged and, for a video, with timestamps from their distance. Generation is greedy. If the
    report is cut at `max_new_tokens`, a warning tells ([`WarnIfCut`]); its count is that of one call. What
    [`~ct_rate_pairs.trainer.PairCollator`] adds to a chat template, such as `enable_thinking=False`, is written into
    the processor's template.

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
        `ValueError`: for uneven slices and Qwen2.5-VL, because the pipeline cannot tell the model their depths.

    Example:

    ```python
    pipe = pipeline("image-text-to-text", "USER/model")
    pipe(**pipeline_inputs(row, pipe.processor))[0]["generated_text"]
    ```
    """
    collator = PairCollator(processor)
    check_rows([row], depths=collator.takes_video)
    if "second_per_grid_ts" in processor.model_input_names and collator._uneven_places(row["slice_mm"]):
        raise ValueError(
            "The pipeline takes one frame rate per volume, but the slices of this row are uneven (slices='jitter' "
            "or 'key'). Use generate_reports, or a row of evenly spread slices."
        )
    options = collator._slices([row], "images")  # in the form in which the collator passes them to the processor
    if collator.takes_video:
        (frames,) = options.pop("videos")  # [T, C, H, W]
        slices = [{"type": "video", "video": frames}]
    else:
        (images,) = options.pop("images")
        slices = [{"type": "image", "image": image} for image in images]
    *before, question = [
        {"role": turn["role"], "content": [{"type": "text", "text": text_of(turn)}]} for turn in row["prompt"]
    ]
    question["content"] = slices + question["content"]
    return {
        "text": [*before, question],
        "processor_kwargs": options,
        "generate_kwargs": {
            "max_new_tokens": max_new_tokens,
            "stopping_criteria": StoppingCriteriaList([WarnIfCut(processor.tokenizer, max_new_tokens)]),
            **GREEDY,
        },
        "return_full_text": False,
    }
