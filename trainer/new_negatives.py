"""Tells a map-style dataset which epoch it is, so that its negatives are drawn anew."""

from datasets import Dataset
from transformers import TrainerCallback


class NewNegativesEachEpoch(TrainerCallback):
    """
    Passes the epoch to the row reader of a map-style `ct_rate_pairs` dataset, workers included. A streamed dataset
    gets its epoch from `accelerate`.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs):
        dataset = train_dataloader.dataset
        if isinstance(dataset, Dataset):
            dataset.format["format_kwargs"]["transform"].set_epoch(int(state.epoch))
