"""The plan of a training: operations, feeding, hours, memory and disk, as numbers."""

from dataclasses import asdict
from typing import Any

from ct_rate_pairs.json_schemas.unit_costs import UnitCosts

from .feeding import cores_per_gpu, feeding, worker_seconds, workers_per_gpu
from .flops import count_flops
from .memory import count_parameters, disk_of_checkpoints, memory_per_gpu
from .options import ALL_SCANS, GPUS, PlanOptions
from .unit_costs import RowCost, row_cost
from .ways import Way


def make_plan(options: PlanOptions, costs: UnitCosts) -> dict[str, Any]:
    """
    Computes a plan.

    Args:
        options ([`~ct_rate_pairs.trainer.plan.options.PlanOptions`]):
            What is planned.
        costs ([`~ct_rate_pairs.json_schemas.unit_costs.UnitCosts`]):
            The measured unit costs.

    Returns:
        `dict`: `options`, `measured` (who measured the unit costs, when and where), `row` (tokens), `parameters`, and
        lists of `dict`: `operations`, `feeding`, `epochs`, `memory` and `disk`. Times are in seconds or hours,
        operations in FLOP, sizes in bytes.

    Raises:
        `ValueError`: if the unit costs have no such data type or store, or were measured on slices of another size.
    """
    if options.stored not in costs.volumes and options.store != ("prepared",):
        raise ValueError(f"--stored {options.stored}: measured were {', '.join(costs.volumes)} ({costs.command}).")
    row = options.row
    flops = count_flops(options.model, row, options.tuning)
    peak = GPUS[options.gpu][0]
    seconds = {(way, mfu): flops.needed(way) / (mfu * peak) for way in options.ways for mfu in options.mfu}
    row_costs = {
        (way, store): row_cost(costs, store, way.negative, options.stored, options.volume_mb * 1e6)
        for way in options.ways
        for store in options.store
    }
    return {
        "options": asdict(options),
        "measured": {"command": costs.command, "date": costs.date, "machine": costs.machine, "side": costs.side},
        "row": {"patches": row.patches, "visual": row.visual, "text": row.prompt + row.report, "tokens": row.tokens},
        "parameters": count_parameters(options.model)._asdict(),
        "operations": [
            {
                "way": way.name,
                "tower": flops.tower._asdict(),
                "language": flops.language._asdict(),
                "needed": flops.needed(way),
                "run": flops.run(way),
                "gpu_seconds": {str(mfu): seconds[way, mfu] for mfu in options.mfu},
                "of_peak": {str(mfu): mfu * flops.run(way) / flops.needed(way) for mfu in options.mfu},
            }
            for way in options.ways
        ],
        "feeding": [
            {
                "way": way.name,
                "store": store,
                "processor_seconds": cost.seconds,
                "bytes": cost.bytes,
                "worker_seconds": worker_seconds(cost, options.site(1, store)),
                "cores_per_gpu": {str(mfu): cores_per_gpu(seconds[way, mfu], cost) for mfu in options.mfu},
                "workers_per_gpu": {
                    str(mfu): workers_per_gpu(seconds[way, mfu], cost, options.site(1, store)) for mfu in options.mfu
                },
            }
            for (way, store), cost in row_costs.items()
        ],
        "epochs": [
            _epoch(options, way, store, cost, mfu, seconds[way, mfu], gpus)
            for mfu in options.mfu
            for (way, store), cost in row_costs.items()
            for gpus in options.gpus
        ],
        "memory": _memory(options),
        "disk": _disk(options, costs),
    }


def _epoch(
    options: PlanOptions, way: Way, store: str, cost: RowCost, mfu: float, gpu_seconds: float, gpus: int
) -> dict[str, Any]:
    rates = feeding(gpu_seconds, cost, options.site(gpus, store))
    return {
        "way": way.name,
        "store": store,
        "mfu": mfu,
        "gpus": gpus,
        "hours": options.rows / rates.rate / 3600,
        "bottleneck": "network" if store == "hub" and rates.bottleneck == "store" else rates.bottleneck,
        "rows_per_second": rates._asdict(),
    }


def _memory(options: PlanOptions) -> list[dict[str, Any]]:
    """Memory of a GPU: all of the model on each, or shared by all. A sharded model trains its pairs jointly."""
    has_pairs = options.negative != ("none",)
    found = []
    for shards in sorted({1, *options.gpus}):
        joint = shards > 1 and has_pairs
        arguments = (options.model, options.row, options.tuning, options.per_device_train_batch_size, joint, shards)
        memory = memory_per_gpu(*arguments)
        fits = memory.total <= GPUS[options.gpu][1]
        found.append({"shards": shards, "joint": joint, **memory._asdict(), "total": memory.total, "fits": fits})
    return found


def _disk(options: PlanOptions, costs: UnitCosts) -> list[dict[str, Any]]:
    """Bytes on disk: the store, and the checkpoints of a run."""
    volume = options.volume_mb * 1e6
    sizes = {
        "fixed": (ALL_SCANS * volume, f"{ALL_SCANS:,} volumes, one per scan"),
        "original": (ALL_SCANS * volume, f"{ALL_SCANS:,} volumes, one per scan"),
        "hub": (
            options.gpus[-1] * options.workers * volume,
            f"a volume per worker of {options.gpus[-1]} GPUs, deleted when it is read",
        ),
        "prepared": (ALL_SCANS * costs.prepared.bytes, f"{ALL_SCANS:,} volumes, one per scan"),
    }
    found = [{"what": store, "bytes": sizes[store][0], "of": sizes[store][1]} for store in options.store]
    checkpoint, model = disk_of_checkpoints(options.model, options.tuning)
    return [
        *found,
        {"what": "checkpoints", "bytes": 3 * checkpoint, "of": "three: two are kept while a third is written"},
        {"what": "model", "bytes": model, "of": "the finished run"},
    ]
