"""The stream's shards and epochs, in the terms of `datasets`."""

from copy import deepcopy

import numpy as np
from datasets.iterable_dataset import ExamplesIterable, _shuffle_gen_kwargs


class PairExamplesIterable(ExamplesIterable):
    """
    One shard a row (`volumes` names them): any number of workers and ranks gets its share, and resuming reads nothing
    again. Shuffling, which `datasets` does once an epoch, also renews the key of the draws.
    """

    def __iter__(self):
        start = self._state_dict["shard_idx"] if self._state_dict else 0
        for i, volume in enumerate(self.kwargs["volumes"][start:], start + 1):
            rows = list(self.generate_examples_fn(**{**self.kwargs, "volumes": [volume]}))  # none for a skipped volume
            if self._state_dict:
                # Ahead of the row: the base class counts a shard after its last row, and would read that row again.
                self._state_dict["shard_idx"] = i
            yield from rows

    def shuffle_data_sources(self, generator: np.random.Generator) -> "PairExamplesIterable":
        # Over the key so far, as an epoch's generator may be the very one that the seed gave.
        keys = [self.kwargs["draw_key"], int(deepcopy(generator).integers(1 << 62))]
        draw_key = int(np.random.default_rng(keys).integers(1 << 62))
        kwargs = _shuffle_gen_kwargs(deepcopy(generator), {**self.kwargs, "draw_key": draw_key})
        return PairExamplesIterable(self.generate_examples_fn, kwargs)

    def shard_data_sources(self, num_shards: int, index: int, contiguous=True) -> "PairExamplesIterable":
        indices = self.split_shard_indices_by_worker(num_shards, index, contiguous=contiguous)
        volumes = [self.kwargs["volumes"][i] for i in indices]
        return PairExamplesIterable(self.generate_examples_fn, {**self.kwargs, "volumes": volumes})

    def reshard_data_sources(self) -> "PairExamplesIterable":
        return self  # a volume cannot be split further
