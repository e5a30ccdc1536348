"""What keeps the GPUs fed: how fast rows are computed, made and read, and which of the three is the slowest."""

import math
from typing import NamedTuple

from .unit_costs import RowCost


class Site(NamedTuple):
    """
    Where a training runs.

    Attributes:
        gpus (`int`):
            Number of GPUs.
        workers (`int`):
            Worker processes for each GPU. Each needs a core.
        store_rate (`float`):
            Bytes per second that the store gives to all GPUs together.
        stream_rate (`float`):
            Bytes per second that one worker gets at most, as of a single download.
    """

    gpus: int
    workers: int
    store_rate: float
    stream_rate: float = math.inf


class Feeding(NamedTuple):
    """
    The rates of the three parts of a training, over all GPUs.

    Attributes:
        gpu (`float`):
            Rows per second that the GPUs compute.
        workers (`float`):
            Rows per second that the workers make.
        store (`float`):
            Rows per second that the store gives.
    """

    gpu: float
    workers: float
    store: float

    @property
    def rate(self) -> float:
        """Rows per second of the training: those of the slowest part."""
        return min(self)

    @property
    def bottleneck(self) -> str:
        """Name of the slowest part. At a tie, it is the GPUs: they are fed."""
        return self._fields[self.index(self.rate)]


def feeding(gpu_seconds: float, cost: RowCost, site: Site) -> Feeding:
    """
    Rows per second of the three parts of a training.

    Args:
        gpu_seconds (`float`):
            Seconds that one GPU computes for a row.
        cost ([`~ct_rate_pairs.trainer.plan.unit_costs.RowCost`]):
            What the row costs before.
        site ([`Site`]):
            Where the training runs.

    Returns:
        [`Feeding`]: the three rates.
    """
    return Feeding(
        site.gpus / gpu_seconds,
        site.gpus * site.workers / worker_seconds(cost, site),
        site.store_rate / cost.bytes,
    )


def worker_seconds(cost: RowCost, site: Site) -> float:
    """Seconds that a worker takes for a row: it works, and waits for its bytes."""
    return cost.seconds + cost.bytes / min(site.stream_rate, site.store_rate)


def cores_per_gpu(gpu_seconds: float, cost: RowCost) -> float:
    """Cores that make rows as fast as a GPU takes them. It is no whole number: the GPUs of a machine share cores."""
    return cost.seconds / gpu_seconds


def workers_per_gpu(gpu_seconds: float, cost: RowCost, site: Site) -> int:
    """Worker processes that keep a GPU fed. They are more than its cores, because workers wait for their bytes."""
    return max(1, math.ceil(round(worker_seconds(cost, site) / gpu_seconds, 9)))
