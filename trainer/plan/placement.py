"""Where the model lies: whole on each GPU if it fits there, else sharded over all GPUs."""

from typing import NamedTuple

from .memory import Memory, memory_per_gpu
from .options import GPUS, PlanOptions
from .ways import Way


class Placement(NamedTuple):
    """
    A model on its GPUs.

    Attributes:
        way ([`~ct_rate_pairs.trainer.plan.ways.Way`]):
            The way of training, as it is there.
        shards (`int`):
            GPUs that share the model; 1 if each GPU has all of it.
        rows (`int`):
            Rows that a GPU takes at once.
        joint (`bool`):
            Whether volume and negative are in one forward.
        memory ([`~ct_rate_pairs.trainer.plan.memory.Memory`]):
            Bytes on one GPU.
        fits (`bool`):
            Whether the GPU has as many bytes.
    """

    way: Way
    shards: int
    rows: int
    joint: bool
    memory: Memory
    fits: bool


def place(options: PlanOptions, way: Way, shards: int) -> Placement:
    """The model, trained in this way and shared by `shards` GPUs. A sharded model trains its pairs jointly."""
    rows = max(options.per_device_train_batch_size, way.least_rows)
    joint = shards > 1 and way.negative != "none"
    memory = memory_per_gpu(options.model, options.row, options.tuning, rows, joint, shards)
    trained = way.sharded if shards > 1 else way
    return Placement(trained, shards, rows, joint, memory, memory.total <= GPUS[options.gpu][1])


def placement(options: PlanOptions, way: Way, gpus: int) -> Placement:
    """How the model is trained on `gpus` GPUs: whole on each if it fits, or if there is one GPU; else sharded."""
    whole = place(options, way, 1)
    return whole if whole.fits or gpus == 1 else place(options, way, gpus)
