"""Writes a batch of reports for a batch of scans, at temperature 0."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from ct_rate_pairs.reports.findings_line import open_text

from .chat_template import begins_thought, decode_with_marks, end_of_answers, without_thought
from .pair_collator import PairCollator


logger = logging.getLogger(__name__)

MOST_CUT = 0.01  # share of cut texts above which a warning is given
# Always the most likely token, nothing is drawn (paper, section 8).
GREEDY = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and at the end back into its mode from before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class Written(NamedTuple):
    """A text that a model has written."""

    text: str
    cut: bool  # whether it met the limit of tokens before its end
    with_line: bool = False  # whether its first line is a findings line, see `open_text`

    @property
    def report(self) -> str:
        """The text without a findings line."""
        return open_text(self.text, self.with_line).report

    @property
    def line(self) -> str | None:
        """The findings line of the text, or what stands in its place, if there is one."""
        return open_text(self.text, self.with_line).line


def generate_batch(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: list[dict],
    *,
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
    with_line: bool = False,
) -> list[str]:
    """
    Writes one report per row, see [`write_batch`], which also tells which reports are cut.

    Returns:
        `list[str]`: the reports in the order of the rows, without their findings lines.
    """
    options = {"max_new_tokens": max_new_tokens, "streamer": streamer, "with_line": with_line}
    return [written.report for written in write_batch(model, collator, rows, **options)]


@torch.no_grad()
def write_batch(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: list[dict],
    *,
    max_new_tokens: int,
    streamer: BaseStreamer | None = None,
    openings: Sequence[str] | None = None,
    with_line: bool = False,
    line_only: bool = False,
) -> list[Written]:
    """
    Writes one report per row at temperature 0 (paper, section 8): always the most likely token.

    Of the checkpoint's own generation config, only the tokens that end and pad a text are used. Qwen2.5-VL's config
    has a repetition penalty of 1.05, which penalises just the sentences that normal reports share. The token at which
    the chat template ends a turn ends a text, too.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that generates from the batches of the collator. It is in evaluation mode during the call.
        collator ([`PairCollator`]):
            The collator, whose `prompts` turns rows into a left-padded batch that ends where the report begins.
        rows (`list[dict]`):
            Rows of the dataset. Only `images`, `slice_mm` and `prompt` are read, so that the reference cannot leak
            into the report.
        max_new_tokens (`int`):
            Longest report, in tokens.
        streamer ([`~transformers.TextStreamer`], *optional*):
            Receives the text while it is written, after its opening. Only for a single row.
        openings (`Sequence[str]`, *optional*):
            The beginning of each text, from which the model goes on, such as a findings line with its line break. An
            empty one leaves the whole text to the model.
        with_line (`bool`, *optional*, defaults to `False`):
            Whether the model was trained to open its reports with a findings line (`findings_line` of its row
            settings), so that the first line of each text is no text of the report, see
            [`~ct_rate_pairs.reports.findings_line.open_text`].
        line_only (`bool`, *optional*, defaults to `False`):
            Whether to write only up to the first line break: the findings line of a model that writes one.

    Returns:
        `list[Written]`: the reports in the order of the rows, with their openings, without special tokens, without
        white space around them and without thoughts. A report without an end token is cut. If a model that was told to
        think has not finished its thought, its report is empty, and a warning names the volume.

    Raises:
        `ValueError`: if the tokens that end or pad a text are no tokens, see [`end_tokens`]; or for the opening of an
            answer that begins with a thought; or for any opening, if the language model is an encoder-decoder, whose
            answers do not continue the prompt.
    """
    end_ids = end_tokens(model)
    # Idefics3's generation config lacks the token at which its template ends a turn.
    if (end_of_turn := end_of_answers(collator.processor)) is not None and end_of_turn not in end_ids:
        end_ids = [*end_ids, end_of_turn]
    of_text = model.config.get_text_config()
    if of_text.is_encoder_decoder and any(openings or ()):
        raise ValueError("The language model is an encoder-decoder, which cannot go on from a text that is given.")
    generation_config = GenerationConfig(
        **GREEDY,
        max_new_tokens=max_new_tokens,
        use_cache=True,  # training with gradient checkpointing has switched the cache off in the model's own config
        eos_token_id=end_ids or None,
        pad_token_id=model.generation_config.pad_token_id,
        # T5 begins its answers with the token that pads.
        decoder_start_token_id=of_text.pad_token_id if of_text.is_encoder_decoder else None,
    )
    openings = [""] * len(rows) if openings is None else list(openings)
    inputs = {name: tensor.to(model.device) for name, tensor in collator.prompts(rows, openings).items()}
    tokenizer = collator.processor.tokenizer
    begin = 1 if of_text.is_encoder_decoder else inputs["input_ids"].shape[1]
    criteria = StoppingCriteriaList([LineBreak(tokenizer, begin)] if line_only else [])
    stops = {"streamer": streamer, "stopping_criteria": criteria}
    with evaluating(model), generating_by(generation_config, model):
        tokens = model.generate(**inputs, generation_config=generation_config, **stops)  # [B, T]
    answers = tokens[:, begin:]  # [B, T_new]
    texts = [
        opening + decode_with_marks(tokenizer, own) for opening, own in zip(openings, answers.tolist(), strict=True)
    ]
    ends = tokenizer.batch_decode(inputs["input_ids"][:, -8:])  # of the prompts, which are padded on the left
    reports = list(map(without_thought, texts, map(begins_thought, ends)))
    for row, report in zip(rows, reports, strict=True):
        if report is None:
            logger.warning(
                "%s: the model was still thinking after %d tokens, so its report is empty. Raise max_new_tokens, or "
                "turn thinking off.", row.get("volume", "a scan"), max_new_tokens,
            )  # fmt: skip
    ends_with = torch.tensor(end_ids, dtype=answers.dtype, device=answers.device)
    cut = ~torch.isin(answers, ends_with).any(dim=1)  # [B]
    with_line = with_line or line_only
    return [Written(report or "", is_cut, with_line) for report, is_cut in zip(reports, cut.tolist(), strict=True)]


class LineBreak(StoppingCriteria):
    """Ends each text of a batch at its first line break. `begin` is the number of tokens before the answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, begin: int):
        """Takes the tokenizer, and where the texts begin."""
        self.tokenizer, self.begin = tokenizer, begin

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """Whether each text has a line break after some other letter, bool `[B]`."""
        texts = self.tokenizer.batch_decode(input_ids[:, self.begin :])
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=input_ids.device)


@contextmanager
def generating_by(config: GenerationConfig, model: torch.nn.Module) -> Iterator[None]:
    """
    Gives a model a generation config, and at the end its own one again: `generate` takes each setting that its
    argument leaves open from the model's own config. Around a model with an adapter, PEFT has a config, too.
    """
    own = {part: part.generation_config for part in model.modules() if "generation_config" in vars(part)}
    for part in own:
        part.generation_config = config
    try:
        yield
    finally:
        for part, kept in own.items():
            part.generation_config = kept


def end_tokens(model: PreTrainedModel) -> list[int]:
    """
    The tokens that end a text of a model.

    Raises:
        `ValueError`: if these tokens, or the one that pads a text, are not among the model's tokens.
    """
    ends, pad = model.generation_config.eos_token_id, model.generation_config.pad_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    size = model.config.get_text_config().vocab_size
    for name, tokens in (("eos_token_id", ends), ("pad_token_id", [] if pad is None else [pad])):
        if wrong := [token for token in tokens if type(token) is not int or not 0 <= token < size]:
            raise ValueError(
                f"{name} in the generation_config.json of the model is {wrong[0]!r:.80}, which is none of its {size} "
                "tokens. Take that file from the base model."
            )
    return ends


def cut_warning(cut: int, total: int, max_new_tokens: int | None = None, what: str = "reports") -> str:
    """
    A warning with its remedy, if more than `MOST_CUT` of the texts are cut; otherwise an empty string.

    Args:
        cut (`int`), total (`int`):
            Number of texts that are cut, and number of texts.
        max_new_tokens (`int`, *optional*):
            The limit that they met, if it is known.
        what (`str`, *optional*, defaults to `"reports"`):
            What the texts are.
    """
    if not total or cut / total <= MOST_CUT:
        return ""
    limit = f"their limit of {max_new_tokens} tokens" if max_new_tokens else "their limit of tokens"
    return (
        f"{cut} of {total} {what} ({cut / total:.1%}) met {limit} before their end. They are cut, and what they would "
        "have said later is missing from every number. Raise --max_new_tokens, and write them again."
    )
