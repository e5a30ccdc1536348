"""Reports from scans: greedy, batched generation over rows of the dataset."""

import logging
from collections.abc import Iterable, Iterator, Sized
from itertools import islice

from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import Written, cut_warning, write_batch
from ct_rate_pairs.trainer.row_settings import has_findings_line


logger = logging.getLogger(__name__)


def batched(rows: Iterable[dict], size: int) -> Iterator[list[dict]]:
    """Yields lists of `size` rows; the last list may be shorter. A row is read only when its batch is requested."""
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def generate_reports(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Iterable[dict],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 512,
    progress: bool = True,
) -> list[str]:
    """
    Writes one report per row, batch by batch ([`~ct_rate_pairs.trainer.generation.write_batch`]). If more than 1 % of
    the reports are cut at `max_new_tokens`, a warning tells how many.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that generates from the collator's batches. It is in evaluation mode during the call; its former mode
            is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Its method `prompts` turns rows into a left-padded batch that ends where the report begins.
        rows (`Iterable[dict]`):
            Rows of the dataset: a list, or a map-style or streaming dataset. They are read lazily, one batch at a
            time. Only `images`, `slice_mm` and `prompt` are used, so the reference cannot leak into the report.
        batch_size (`int`, *optional*, defaults to `16`):
            Scans per batch.
        max_new_tokens (`int`, *optional*, defaults to `512`):
            Maximum length of a report in tokens. In CT-RATE, findings and impression together have a median of 310
            Qwen tokens, and 99 % of the reports have at most 772.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `list[str]`: the reports in the rows' order, without special tokens, white space at either end and findings
        lines. If `rows` is a dataset with `findings_line`, the first line of each text is taken for that line.
    """
    options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "progress": progress}
    written = write_reports(model, collator, rows, with_line=has_findings_line(rows), **options)
    if warning := cut_warning(sum(report.cut for report in written), len(written), max_new_tokens):
        logger.warning(warning)
    return [text.report for text in written]


def write_reports(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Iterable[dict],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 512,
    progress: bool = True,
    with_line: bool = False,
) -> list[Written]:
    """
    Like [`generate_reports`], but with the findings lines and whether each is cut; it does not warn. For `with_line`
    see [`~ct_rate_pairs.trainer.generation.write_batch`].
    """
    written: list[Written] = []
    total = len(rows) if isinstance(rows, Sized) else None
    with tqdm(total=total, desc="Writing reports", unit="scan", disable=not progress) as bar:
        for batch in batched(rows, batch_size):
            written += write_batch(model, collator, batch, max_new_tokens=max_new_tokens, with_line=with_line)
            bar.update(len(batch))
    return written
