"""Writes reports of a batch of scans, reads the probabilities of their findings lines, and may set these lines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer

from ct_rate_pairs.eval.looking.line_probabilities import line_logits, read_findings_lines
from ct_rate_pairs.eval.scoring.operating_points import OperatingPoint
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import Written, write_batch


class Prediction(NamedTuple):
    """A text that a model has written, and the log-odds of the 18 labels in the model's own findings line."""

    written: Written
    logits: np.ndarray  # [18]; NaN without a sound line of the model


def predict(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Sequence[dict],
    *,
    max_new_tokens: int,
    with_line: bool = False,
    operating_point: OperatingPoint | None = None,
    streamer: BaseStreamer | None = None,
) -> list[Prediction]:
    """
    Writes one report per row, with the probabilities of its findings line.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into inputs of the model.
        rows (`Sequence[dict]`):
            Scans, one batch. Only `images`, `slice_mm` and `prompt` are read.
        max_new_tokens (`int`):
            Longest text, in tokens.
        with_line (`bool`, *optional*, defaults to `False`):
            Whether the model opens its reports with a findings line, as for
            [`~ct_rate_pairs.trainer.generation.write_batch`].
        operating_point ([`~ct_rate_pairs.eval.scoring.operating_points.OperatingPoint`], *optional*):
            Sets the line. The model writes its own line first, and its probabilities decide on the line that is set;
            then the model writes the report below that line. If a model's own line is malformed, nothing is known, and
            the model writes the whole text by itself. By default, it does so for every scan.
        streamer ([`~transformers.TextStreamer`], *optional*):
            Receives the text while it is written, without a line that is set. Only for a single row.

    Returns:
        `list[Prediction]`: the predictions in the order of the rows.
    """
    rows, options = list(rows), {"max_new_tokens": max_new_tokens, "with_line": with_line}
    if operating_point is None:
        written = write_batch(model, collator, rows, **options, streamer=streamer)
        logits = line_logits(model, collator, rows, [text.line for text in written])
        return list(map(Prediction, written, logits))
    own = [text.line for text in write_batch(model, collator, rows, **options, line_only=True)]
    readings = read_findings_lines(model, collator, rows, own)
    lines = [
        operating_point.set_line(reading.logits, line, reading.sides)
        for reading, line in zip(readings, own, strict=True)
    ]
    openings = [f"{line}\n" if line else "" for line in lines]
    written = write_batch(model, collator, rows, **options, streamer=streamer, openings=openings)
    return [Prediction(text, reading.logits) for text, reading in zip(written, readings, strict=True)]
