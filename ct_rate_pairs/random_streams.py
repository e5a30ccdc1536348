"""The random stream of each draw: of (seed, epoch, volume, purpose) and of nothing else."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What is drawn, so that each kind of draw has a random stream of its own. A volume's first negative has none."""

    PLANES = 1
    QUESTIONS = 2
    OPTIONS = 3
    FURTHER_NEGATIVES = 4  # followed by the number of the volume's row
    ERRORS = 5


def draw_rng(seed: int, epoch: int | None, volume: str | None, *purpose: int) -> np.random.Generator:
    """
    The random stream of one draw. It depends on the arguments alone, so that workers, ranks and restarts change
    nothing.

    Args:
        seed (`int`):
            Seed of the dataset, or of an evaluation.
        epoch (`int` or `None`):
            Epoch, or the key that a stream makes of its epoch and of the seed that it is shuffled with. `None` for a
            draw that no epoch renews.
        volume (`str` or `None`):
            Name of the volume that is drawn for; `None` for a draw about a whole split.
        purpose (`int`):
            A [`Purpose`], and what else tells the draw from others of that purpose.

    Returns:
        `np.random.Generator`: a new one.
    """
    named = None if volume is None else int.from_bytes(volume.encode(), "big")
    return np.random.default_rng([seed, *(key for key in (epoch, named) if key is not None), *purpose])
