"""A batch of reports from a batch of scans, at temperature 0."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from .pair_collator import PairCollator


# The likeliest token each time, nothing drawn (paper, section 8).
GREEDY = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and back into the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def generate_batch(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: list[dict],
    *,
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
) -> list[str]:
    """
    Writes one report per row at temperature 0 (paper, section 8): the likeliest token each time, nothing drawn.

    Sampling settings and the repetition penalty of the checkpoint's own generation config are left out on purpose:
    Qwen2.5-VL ships a penalty of 1.05, which punishes exactly the sentences that normal reports share.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that generates from the collator's batches. It is put into evaluation mode and back.
        collator ([`PairCollator`]):
            Its `prompts` turns rows into a left-padded batch that ends where the report begins.
        rows (`list[dict]`):
            Rows of the dataset. Only `images`, `slice_mm` and `prompt` are used, so that the reference cannot leak
            into the report.
        max_new_tokens (`int`):
            Longest report in tokens.
        streamer ([`~transformers.TextStreamer`], *optional*):
            Gets the text of a single row while it is written.

    Returns:
        `list[str]`: the reports in the rows' order, without special tokens and outer white space.
    """
    generation_config = GenerationConfig(
        **GREEDY,
        max_new_tokens=max_new_tokens,
        use_cache=True,  # which training under gradient checkpointing has switched off in the model's own
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
    )
    inputs = {name: tensor.to(model.device) for name, tensor in collator.prompts(rows).items()}
    with evaluating(model):
        tokens = model.generate(**inputs, generation_config=generation_config, streamer=streamer)  # [B, T]
    answers = tokens[:, inputs["input_ids"].shape[1] :]  # [B, T_new]
    return [text.strip() for text in collator.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)]
