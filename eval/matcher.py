"""
Measures a dual encoder on a held-out split, and writes `results.json` and Markdown tables.

Three things are measured: the benchmark `matching`, by which vision-language models are measured too; retrieval; and
zero-shot labels. [`~ct_rate_pairs.eval.matcher_scores`] has the scores.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import Dataset
from tqdm.auto import tqdm

from ct_rate_pairs.eval.looking.likelihood import on_device
from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.trainer.generation import evaluating
from ct_rate_pairs.trainer.matcher import MatcherModel
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator

from .generate import batched
from .matcher_scores import score_vectors, texts_to_embed, write_matcher_results


@torch.no_grad()
def embed_scans(
    model: MatcherModel,
    collator: MatcherCollator,
    rows: Dataset | Sequence[dict],
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> tuple[list[int], torch.Tensor]:
    """
    Embeds each scan, and a blank volume of the same size. Each scan is read once.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            Turns scans into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans per batch.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `tuple`: the indices in `rows` of the `N` scans that could be read; and unit vectors, float32 `[2, N, D]`,
        first of the scans, then of the same scans with blank slices. A scan that cannot be read is left out
        (`on_error="skip"`).

    Raises:
        `ValueError`: if there is no row, or if rows cannot be read by index.
    """
    if not len(rows):
        raise ValueError("There are no rows to match reports on.")
    places, seen, blank = [], [], []
    bar = tqdm(rows, "Reading scans", len(rows), unit="scan", disable=not progress)
    readable = ((place, row) for place, row in enumerate(bar) if is_readable(row))
    for numbered in batched(readable, batch_size):
        places += [place for place, _ in numbered]
        batch = [row for _, row in numbered]
        unseen = [row | {"images": blank_slices(row)} for row in batch]
        for vectors, scans in ((seen, batch), (blank, unseen)):
            vectors.append(model.embed_images(**on_device(collator.images(scans), model)).float().cpu())
    return places, torch.stack([torch.cat(seen), torch.cat(blank)])


@torch.no_grad()
def embed_texts(
    model: MatcherModel, collator: MatcherCollator, texts: Sequence[str], *, batch_size: int = 32
) -> torch.Tensor:
    """Unit vectors of `N` texts, float32 `[N, D]`. The arguments are those of [`embed_scans`]."""
    batches = (on_device(collator.texts(batch), model) for batch in batched(texts, batch_size))
    return torch.cat([model.embed_texts(**batch).float().cpu() for batch in batches])


def evaluate_matcher(
    model: MatcherModel,
    collator: MatcherCollator,
    scans: Dataset,
    train: Dataset,
    choices: Sequence[tuple[Dataset, Dataset]],
    out: str | Path,
    *,
    beside: Mapping[str, Mapping] | None = None,
    batch_size: int = 32,
) -> dict[str, dict]:
    """
    Measures a dual encoder and writes `results.json` and `table.md`.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]), \
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            The model and its collator.
        scans ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="report"`: all scans of a held-out split, and the training split. No volume of `train` is
            read.
        choices (`Sequence[tuple[Dataset, Dataset]]`):
            For each kind of options, the same two splits of `task="matching"`.
        out (`str` or `Path`):
            Folder to write to.
        beside (`Mapping[str, Mapping]`, *optional*):
            Maps the name of another model to its scores, as
            [`~ct_rate_pairs.eval.tasks.matching.score_choices`] gives them. They join the table of the same kind of
            options.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans or texts per batch.

    Returns:
        `dict[str, dict]`: the contents of `results.json`:

        - `matching`: for each kind of options, what [`~ct_rate_pairs.eval.tasks.matching.score_choices`] gives.
        - `retrieval`: what [`~ct_rate_pairs.eval.metrics.ranking.retrieval`] gives.
        - `zero_shot`: scores of the labels by the prompts of
          [`~ct_rate_pairs.eval.matcher_scores.label_prompts`].
        - `zero_shot_sentences`: scores of the labels by the prompts of
          [`~ct_rate_pairs.eval.matcher_scores.sentence_prompts`]. Some labels may lack such
          prompts.
        - `n`: the number of scans.
        - `scans`: the fingerprint of scans and reports.
    """
    with evaluating(model):
        places, vectors = embed_scans(model, collator, scans, batch_size=batch_size)  # [2, N, D]
        scans = scans.select(places)
        texts = texts_to_embed(scans, train, choices)
        embedded = dict(zip(texts, embed_texts(model, collator, texts, batch_size=batch_size), strict=True))
    results = score_vectors(vectors, scans, embedded, train, choices)
    write_matcher_results(results, out, beside=beside)
    return results
