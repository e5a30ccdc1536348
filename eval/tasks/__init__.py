"""Whichever task a split asks for -> its evaluation."""

from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel

from ct_rate_pairs.eval.rows import first_volumes
from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer import PairCollator

from .errors import detect_by_answer, write_detection
from .matching import evaluate_choice, first_groups
from .vqa import evaluate_vqa


def evaluate_task(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    out: str | Path,
    *,
    scans: int = 0,
    batch_size: int = 8,
    max_new_tokens: int = 96,
    answers: str = "letters",
    ci: float = 0.95,
) -> dict:
    """
    Measures a model on the task `"vqa"`, `"matching"` or `"errors"`, see [`~ct_rate_pairs.eval.tasks.vqa.evaluate_vqa`],
    [`~ct_rate_pairs.eval.tasks.matching.evaluate_choice`] and [`~ct_rate_pairs.eval.tasks.errors.detect_by_answer`].

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            A held-out split, as `load_dataset` gave it, and the training split.
        out (`str` or `Path`):
            Folder to write to.
        scans (`int`, *optional*, defaults to `0`):
            How many of the split's volumes are used: the first ones with all of their questions, or the first whole
            groups; 0 for all.
        batch_size (`int`, *optional*, defaults to `8`), max_new_tokens (`int`, *optional*, defaults to `96`):
            Questions at a time, and the longest answer in tokens, of `"vqa"`.
        answers (`str`, *optional*, defaults to `"letters"`):
            How the options of `"matching"` are scored.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the bootstrap intervals.

    Returns:
        `dict`: the contents of `results.json`.
    """
    task = reader_of(rows).config.task
    if task == "matching":
        chosen = first_groups(rows, scans) if scans else rows
        return evaluate_choice(model, collator, chosen, train, out, answers=answers, ci=ci)
    chosen = first_volumes(rows, scans) if scans else rows
    if task == "errors":
        results = detect_by_answer(model, collator, chosen, train, ci=ci)
        write_detection(results, chosen, out)
        return results
    sizes = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    return evaluate_vqa(model, collator, chosen, train, out, ci=ci, **sizes)
