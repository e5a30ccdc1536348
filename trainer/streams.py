"""The training rows of one task or of several: their splits, and all epochs as one stream."""

from collections.abc import Iterable, Mapping
from itertools import chain

from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets, interleave_datasets, load_dataset

from ct_rate_pairs.volume_names import patient_of

from .negative_sft_config import NegativeSFTConfig


def load_splits(options: dict, *, validates: bool, confidence_scans: int = 0) -> DatasetDict:
    """
    Loads the splits of a task, after a look at whether they have the scans that a run will ask them for.

    Args:
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)`.
        validates (`bool`):
            Whether the run evaluates on the split `validation` while it trains.
        confidence_scans (`int`, *optional*, defaults to `0`):
            Scans of the split `validation` that confidences will be fitted on.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        `ValueError`: if a split that the run needs has no scan, or too few patients for confidences.
    """
    index = load_dataset("ct_rate_pairs", **options)
    needed = ("train", "test", "validation") if validates or confidence_scans else ("train", "test")
    for split in needed:
        if not len(index.get(split, ())):
            raise ValueError(f"{options.get('data_dir', 'CT-RATE')} has no readable scan for the split '{split}'.")
    if confidence_scans:
        volumes = index["validation"].with_format(None)["volume"][:confidence_scans]
        if (patients := len({patient_of(volume) for volume in volumes})) < 5:
            raise ValueError(
                f"Confidences are fitted on 5 patients at least, but confidence_scans={confidence_scans} takes "
                f"{patients} of the split 'validation': raise it, or pass --confidence_scans 0 for none."
            )
    return index


def texts_of(rows: Dataset, column: str = "completion") -> list[str]:
    """The texts of a column of turns, by the index: no volume is read."""
    return [turns[0]["content"] for turns in rows.with_format(None)[column]]


def texts_to_learn(indexes: Iterable[DatasetDict]) -> list[str]:
    """All completions, then all prompts, of the training rows of several tasks: what a vocabulary is learnt from."""
    return list(chain(*(texts_of(index["train"], name) for index in indexes for name in ("completion", "prompt"))))


def stream_rows(
    args: NegativeSFTConfig, weights: Mapping[str, float], indexes: Mapping[str, DatasetDict], options: dict
) -> IterableDataset:
    """
    The training rows of all epochs and tasks as one stream. It sets `args.max_steps`, which Trainer needs.

    Args:
        args ([`NegativeSFTConfig`]):
            Arguments of the training.
        weights (`Mapping[str, float]`):
            Share of each task, see [`mix_tasks`].
        indexes (`Mapping[str, DatasetDict]`):
            Name of a task to its splits.
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)`.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    num_rows = {task: len(index["train"]) for task, index in indexes.items()}
    if args.max_steps <= 0:
        args.max_steps = max(1, int(args.num_train_epochs * sum(num_rows.values()) / batch))
    args.accelerator_config.dispatch_batches = False  # else rank 0 reads every volume and hands the batches out
    return mix_tasks(weights, num_rows, args.max_steps * batch, **options)


def stream_epochs(num_epochs: int, *, seed: int, **options) -> IterableDataset:
    """
    The training rows of several epochs as one stream, each epoch in its own order and with its own negatives.

    In one pass, because Trainer finds its place again in a pass, but not in the epochs of a stream.

    Args:
        num_epochs (`int`):
            Epochs.
        seed (`int`):
            Seed of the dataset; with the epoch's number added, of its order.
        options:
            Other options of `load_dataset("ct_rate_pairs", ...)`.

    Returns:
        [`~datasets.IterableDataset`]: the rows.
    """
    stream = load_dataset("ct_rate_pairs", split="train", streaming=True, seed=seed, **options)
    # A volume is a shard, so shuffling shards is all the shuffling: no buffer, and no volume read ahead for it.
    shuffling = {"buffer_size": 1, "max_buffer_input_shards": 1}
    return concatenate_datasets([stream.shuffle(seed=seed + epoch, **shuffling) for epoch in range(num_epochs)])


def mix_tasks(
    weights: Mapping[str, float], num_rows: Mapping[str, int], total: int, *, seed: int, **options
) -> IterableDataset:
    """
    Draws each training row's task by weight, and the row from the epochs of that task.

    Args:
        weights (`Mapping[str, float]`):
            Share of each task, such as `{"report": 0.5, "vqa": 0.5}`; they sum to 1. With one task nothing is drawn.
        num_rows (`Mapping[str, int]`):
            Rows of an epoch of each.
        total (`int`):
            Rows that will be taken of the stream. It has at least as many, whatever is drawn.
        seed (`int`):
            Seed of the dataset and of the draw.
        options:
            Other options of `load_dataset("ct_rate_pairs", ...)`.

    Returns:
        [`~datasets.IterableDataset`]: the rows. A column that only other tasks have is `None`.
    """
    streams = [stream_epochs(1 + total // num_rows[task], seed=seed, **options | {"task": task}) for task in weights]
    if len(streams) == 1:
        return streams[0]
    return interleave_datasets(streams, probabilities=list(weights.values()), seed=seed)
