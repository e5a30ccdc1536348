"""The random stream of each draw. It depends on (seed, epoch, volume, purpose) and on nothing else."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """
    Purpose numbers, so that each kind of draw has its own random stream. The first negative of a volume has no number.
    """

    PLANES = 1
    QUESTIONS = 2
    OPTIONS = 3
    FURTHER_NEGATIVES = 4  # followed by the number of the volume's row
    ERRORS = 5
    EXAMPLES = 6  # followed by the number of the volume's row
    PROMPT_LINES = 7  # followed by the number of the volume's row


def random_stream(*numbers: int) -> np.random.Generator:
    """The random stream of these numbers. Zeros at their end change nothing: numpy fills its seed with zeros."""
    return np.random.default_rng(numbers)


def draw_rng(seed: int, epoch: int | None, volume: str | None, *purpose: int) -> np.random.Generator:
    """
    The random stream of one draw. It depends only on the arguments, so workers, ranks and restarts change nothing.

    Args:
        seed (`int`):
            Seed of the dataset, or of an evaluation.
        epoch (`int` or `None`):
            Epoch. For a stream, a key made from its epoch and its shuffling seed. `None` if the draw is the same in
            every epoch.
        volume (`str` or `None`):
            Name of the volume that the draw is for. `None` for a draw about a whole split.
        purpose (`int`):
            A [`Purpose`], and further numbers that distinguish draws of the same purpose.

    Returns:
        `np.random.Generator`: a new generator.
    """
    named = None if volume is None else int.from_bytes(volume.encode(), "big")
    return random_stream(seed, *(key for key in (epoch, named) if key is not None), *purpose)
