"""The plan of a training: operations, feeding, hours, memory and disk, as numbers."""

from dataclasses import asdict
from typing import Any

from ct_rate_pairs.json_schemas.unit_costs import UnitCosts

from .feeding import cores_per_gpu, feeding, worker_seconds, workers_per_gpu
from .flops import count_flops
from .memory import count_parameters, disk_of_checkpoints
from .options import ALL_SCANS, GPUS, PlanOptions
from .placement import Placement, place, placement
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
    placed = {(way, gpus): placement(options, way, gpus) for way in options.ways for gpus in options.gpus}
    ways = list(dict.fromkeys(on.way for on in placed.values()))
    seconds = {(way, mfu): flops.needed(way) / (mfu * peak) for way in ways for mfu in options.mfu}
    row_costs = {
        (way, store): row_cost(costs, store, way.negative, options.stored, options.volume_mb * 1e6)
        for way in ways
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
            for way in ways
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
            {"way": way.name, "store": store, "mfu": mfu, "gpus": gpus, "shards": on.shards, "fits": on.fits}
            | _epoch(options, store, row_costs[on.way, store], seconds[on.way, mfu], gpus)
            for mfu in options.mfu
            for way in options.ways
            for store in options.store
            for gpus in options.gpus
            for on in [placed[way, gpus]]
        ],
        "memory": [
            _memory(way, place(options, way, shards)) for way in options.ways for shards in sorted({1, *options.gpus})
        ],
        "disk": _disk(options, costs),
    }


def _epoch(options: PlanOptions, store: str, cost: RowCost, gpu_seconds: float, gpus: int) -> dict[str, Any]:
    rates = feeding(gpu_seconds, cost, options.site(gpus, store))
    return {
        "hours": options.rows / rates.rate / 3600,
        "bottleneck": "network" if store == "hub" and rates.bottleneck == "store" else rates.bottleneck,
        "rows_per_second": rates._asdict(),
    }


def _memory(way: Way, on: Placement) -> dict[str, Any]:
    return {
        "way": way.name,
        "rows": on.rows,
        "shards": on.shards,
        "joint": on.joint,
        **on.memory._asdict(),
        "total": on.memory.total,
        "fits": on.fits,
    }


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
