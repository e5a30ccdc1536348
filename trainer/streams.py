"""Training rows as one stream: all epochs of a task, and several tasks mixed by weight."""

from collections.abc import Mapping

from datasets import IterableDataset, concatenate_datasets, interleave_datasets, load_dataset


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
