"""
The evaluation of each task. A new one is a file here, with a function of the same arguments, and a line in
`EVALUATIONS`. Reports are measured in two steps, see [`~ct_rate_pairs.eval.tasks.report.evaluate_model`].
"""

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, DatasetDict, load_dataset
from transformers import PreTrainedModel

from ct_rate_pairs.trainer import PairCollator

from .errors import evaluate_errors
from .matching import evaluate_matching
from .settings import TaskSettings
from .vqa import evaluate_vqa


EVALUATIONS = {"vqa": evaluate_vqa, "matching": evaluate_matching, "errors": evaluate_errors}


def evaluate_tasks(
    model: PreTrainedModel,
    collator: PairCollator,
    indexes: Mapping[str, DatasetDict],
    options: dict,
    out: str | Path,
    settings: TaskSettings,
) -> dict[str, dict]:
    """
    Measures a model on all tasks that it was trained on, but for reports.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        indexes (`Mapping[str, DatasetDict]`):
            Name of a task to its dataset.
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)` that the model was trained with.
        out (`str` or `Path`):
            Folder to write to. Of several tasks, each has a folder of its own in it.
        settings ([`TaskSettings`]):
            How much is measured, and how.

    Returns:
        `dict[str, dict]`: name of a task to the contents of its `results.json`.
    """
    results = {}
    for task, index in indexes.items():
        if task in EVALUATIONS:
            # Without negatives, which would take a second volume per row.
            held_out = {**options, "task": task, "negative": "none"}
            test: Dataset = load_dataset("ct_rate_pairs", split="test", **held_out)
            folder = Path(out, task) if len(indexes) > 1 else Path(out)
            results[task] = EVALUATIONS[task](model, collator, test, index["train"], folder, settings)
    return results
