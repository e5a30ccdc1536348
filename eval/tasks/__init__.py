"""
The evaluation of each task. A new task needs a file in this folder, with a function that takes the same arguments, and
an entry in `EVALUATIONS`.

Reports are not in `EVALUATIONS`: they are written first and then measured by
[`~ct_rate_pairs.eval.tasks.report.evaluate_model`].
"""

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator

from .errors import evaluate_errors
from .matching import evaluate_matching
from .own_questions import evaluate_own_questions
from .settings import TaskSettings
from .vqa import evaluate_vqa


EVALUATIONS = {
    "vqa": evaluate_vqa,
    "matching": evaluate_matching,
    "errors": evaluate_errors,
    "own_questions": evaluate_own_questions,
}


def evaluate_tasks(
    model: PreTrainedModel,
    collator: PairCollator,
    indexes: Mapping[str, DatasetDict],
    options: dict,
    out: str | Path,
    settings: TaskSettings,
) -> dict[str, dict]:
    """
    Measures a model on all tasks that it was trained on, except reports.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and its collator.
        indexes (`Mapping[str, DatasetDict]`):
            Maps the name of a task to its dataset.
        options (`dict`):
            The options of `load_dataset("ct_rate_pairs", ...)` that the model was trained with.
        out (`str` or `Path`):
            Folder to write to. If there are several tasks, each gets a subfolder.
        settings ([`TaskSettings`]):
            How much is measured, and how.

    Returns:
        `dict[str, dict]`: maps the name of a task to the contents of its `results.json`.
    """
    results = {}
    for task, index in indexes.items():
        if task in EVALUATIONS:
            # Without negatives, which would read a second volume per row.
            held_out = {**options, "task": task, "negative": "none"}
            test: Dataset = load_dataset("ct_rate_pairs", split="test", **held_out)
            folder = Path(out, task) if len(indexes) > 1 else Path(out)
            results[task] = EVALUATIONS[task](model, collator, test, index["train"], folder, settings)
    return results
