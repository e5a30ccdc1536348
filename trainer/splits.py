"""The splits of a task, checked for what a run needs, and their texts."""

from collections.abc import Iterable, Sequence
from itertools import chain

from datasets import Dataset, DatasetDict, load_dataset

from ct_rate_pairs.readers import split_of
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.volume_names import patient_of


LEAST_PATIENTS = 5  # of confidences, which are fitted in as many folds


def load_splits(options: dict, *, validates: bool, confidence_scans: int = 0) -> DatasetDict:
    """
    Loads the splits of a task, and checks that they have the scans that a run needs.

    Args:
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)`.
        validates (`bool`):
            Whether the run evaluates on the split `validation` during training.
        confidence_scans (`int`, *optional*, defaults to `0`):
            Scans of the split `validation` on which confidences will be fitted.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        `ValueError`: if a split that the run needs has no scan, or too few patients for confidences.
    """
    index = load_dataset("ct_rate_pairs", **options)
    needed = ("train", "test", "validation") if validates or confidence_scans else ("train", "test")
    for split in needed:
        split_of(index, split)
    if confidence_scans:
        check_patients(index["validation"].with_format(None)["volume"][:], confidence_scans)
    return index


def check_patients(volumes: Sequence[str], confidence_scans: int) -> None:
    """Raises a `ValueError` with the remedy if the first `confidence_scans` of `volumes` are of too few patients."""
    given, all_there = (len({patient_of(volume) for volume in some}) for some in (volumes[:confidence_scans], volumes))
    if given >= LEAST_PATIENTS:
        return
    if all_there >= LEAST_PATIENTS:
        remedy = f"gives {given} of the {all_there} of the split 'validation'. Raise the number"
    else:
        remedy = (
            f"cannot give more than the {all_there} of the split 'validation'. A larger cohort has more: the split is "
            "5 % of the patients to train on, about 1 in 20. Or mark more rows of your own table as validation"
        )
    raise ValueError(
        f"Confidences need at least {LEAST_PATIENTS} patients, but confidence_scans={confidence_scans} {remedy}. "
        "Or pass --confidence_scans 0 --operating_point none for no confidences."
    )


def texts_of(rows: Dataset, column: str = "completion") -> list[str]:
    """The texts of a column of turns. They are read from the index, so no volume is read."""
    return [text_of(turns[-1]) for turns in rows.with_format(None)[column]]


def texts_to_learn(indexes: Iterable[DatasetDict]) -> list[str]:
    """All completions, then all prompts, of the training rows of several tasks, to learn a vocabulary from."""
    return list(chain(*(texts_of(index["train"], name) for index in indexes for name in ("completion", "prompt"))))
