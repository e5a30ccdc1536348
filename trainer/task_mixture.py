"""The training rows of one task or of several tasks, mixed by weight, with all their epochs as one stream."""

from collections.abc import Mapping

from datasets import DatasetDict, IterableDataset, concatenate_datasets, interleave_datasets, load_dataset

from .negative_sft_config import NegativeSFTConfig


def stream_rows(
    args: NegativeSFTConfig, weights: Mapping[str, float], indexes: Mapping[str, DatasetDict], options: dict
) -> IterableDataset:
    """
    The training rows of all epochs and tasks as one stream. Trainer needs the number of steps of a stream, so
    `args.max_steps` is set.

    Args:
        args ([`NegativeSFTConfig`]):
            Arguments of the training.
        weights (`Mapping[str, float]`):
            Share of each task, see [`mix_tasks`].
        indexes (`Mapping[str, DatasetDict]`):
            Name of each task -> its splits.
        options (`dict`):
            Options of `load_dataset("ct_rate_pairs", ...)`, with `seed`.

    Returns:
        [`~datasets.IterableDataset`]: the rows.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    num_rows = {task: len(index["train"]) for task, index in indexes.items()}
    if args.max_steps <= 0:
        args.max_steps = max(1, int(args.num_train_epochs * sum(num_rows.values()) / batch))
    # Otherwise, rank 0 would read all volumes and send the batches to the other ranks.
    args.accelerator_config.dispatch_batches = False
    return mix_tasks(weights, num_rows, args.max_steps * batch, **options)


def stream_epochs(num_epochs: int, *, seed: int, **options) -> IterableDataset:
    """The training rows of several epochs as one stream. Each epoch has its own order and its own negatives."""
    # All epochs are one pass over the stream: Trainer can resume within a pass, but not within the epochs of a stream.
    stream = load_dataset("ct_rate_pairs", split="train", streaming=True, seed=seed, **options)
    # Each volume is a shard, so it is enough to shuffle shards. Without a buffer, no volume is read ahead.
    shuffling = {"buffer_size": 1, "max_buffer_input_shards": 1}
    return concatenate_datasets([stream.shuffle(seed=seed + epoch, **shuffling) for epoch in range(num_epochs)])


def mix_tasks(
    weights: Mapping[str, float], num_rows: Mapping[str, int], total: int, *, seed: int, **options
) -> IterableDataset:
    """
    Mixes the training rows of several tasks. For each row, a task is drawn by its weight, and the next row of this
    task is taken.

    Args:
        weights (`Mapping[str, float]`):
            Share of each task, such as `{"report": 0.5, "vqa": 0.5}`. The shares sum to 1. With one task, nothing is
            drawn.
        num_rows (`Mapping[str, int]`):
            Rows per epoch of each task.
        total (`int`):
            Rows that will be taken from the stream. The stream has at least this number of rows.
        seed (`int`):
            Seed of the dataset and of the draws.
        options:
            Other options of `load_dataset("ct_rate_pairs", ...)`.

    Returns:
        [`~datasets.IterableDataset`]: the rows. A column that only other tasks have is `None`.
    """
    streams = [stream_epochs(1 + total // num_rows[task], seed=seed, **options | {"task": task}) for task in weights]
    if len(streams) == 1:
        return streams[0]
    return interleave_datasets(streams, probabilities=list(weights.values()), seed=seed)
