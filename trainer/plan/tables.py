"""A plan as tables for the terminal, one per question."""

from collections.abc import Iterator
from typing import Any


MARKS = {
    "s": "sharded, because the whole model does not fit on one GPU. Mutual then runs the vision tower twice.",
    "!": "does not fit, see the memory below.",
}


def format_plan(plan: dict[str, Any]) -> str:
    """
    A plan as text.

    Args:
        plan (`dict`):
            Of [`~ct_rate_pairs.trainer.plan.overview.make_plan`].

    Returns:
        `str`: what was measured and what was not, and then a table per question.
    """
    return "\n".join(
        [_opening(plan), *_operations(plan), *_feeding(plan), *_hours(plan), *_memory(plan), *_disk(plan)]
    )


def table(heading: list[str], rows: list[list[str]], words: int = 1) -> str:
    """Aligned columns. The first `words` columns hold words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = []
    for line in (heading, *rows):
        cells = [
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _opening(plan: dict[str, Any]) -> str:
    options, row, measured = plan["options"], plan["row"], plan["measured"]
    lines = [
        f"Qwen2.5-VL-{options['model']}, tuning: {options['tuning']}, GPU: {options['gpu']}. A volume of "
        f"{options['num_slices']} slices of {options['side']} x {options['side']} pixels",
        f"is {row['visual']:,} tokens, beside {row['text']} of text.",
        f"Measured: processor seconds, and bytes of a prepared row ({measured['command']}; {measured['date']},",
        f"{measured['machine']}). All else is computed; nothing was measured on a GPU.",
    ]
    if measured["side"] != options["side"]:
        lines.append(f"The processor seconds are those of slices of {measured['side']} pixels, not {options['side']}.")
    return "\n".join(lines)


def _percents(plan: dict[str, Any], what: str) -> list[str]:
    """A column's name for each MFU."""
    return [f"{what} at {mfu:.0%}" for mfu in plan["options"]["mfu"]]


def _by_mfu(plan: dict[str, Any], values: dict[str, float], form: str) -> list[str]:
    """A column's values for each MFU."""
    return [format(values[str(mfu)], form) for mfu in plan["options"]["mfu"]]


def _operations(plan: dict[str, Any]) -> Iterator[str]:
    yield "\nOperations of a row, in TFLOP. Needed: what an MFU counts. Run: with what gradient checkpointing repeats."
    heading = ["way", "needed", "run", *_percents(plan, "GPU s"), *_percents(plan, "of peak")]
    yield table(
        heading,
        [
            [
                one["way"],
                f"{one['needed'] / 1e12:.1f}",
                f"{one['run'] / 1e12:.1f}",
                *_by_mfu(plan, one["gpu_seconds"], ".3f"),
                *_by_mfu(plan, one["of_peak"], ".0%"),
            ]
            for one in plan["operations"]
        ],
    )


def _feeding(plan: dict[str, Any]) -> Iterator[str]:
    yield "\nWhat feeds one GPU: processor seconds and MB of a row; cores, and workers (more, if they wait for bytes)."
    heading = ["way", "store", "CPU s", "MB", *_percents(plan, "cores"), *_percents(plan, "workers")]
    yield table(
        heading,
        [
            [
                one["way"],
                one["store"],
                f"{one['processor_seconds']:.3f}",
                f"{one['bytes'] / 1e6:.1f}",
                *_by_mfu(plan, one["cores_per_gpu"], ".2f"),
                *_by_mfu(plan, one["workers_per_gpu"], "d"),
            ]
            for one in plan["feeding"]
        ],
        words=2,
    )


def _hours(plan: dict[str, Any]) -> Iterator[str]:
    options = plan["options"]
    heading = ["way", "store", *(f"{gpus} GPU" + "s" * (gpus > 1) for gpus in options["gpus"])]
    told = [f"{mark}: {meaning}" for mark, meaning in MARKS.items() if mark in map(_mark, plan["epochs"])]
    for mfu in options["mfu"]:
        yield (
            f"\nHours of an epoch of {options['rows']:,} rows at {mfu:.0%} MFU, and what is slowest: "
            f"{options['workers']} workers per GPU,\n{options['store_gb_s']:g} GB/s from the store to all GPUs."
        )
        yield from told
        cells: dict[tuple[str, str], list[str]] = {}
        for one in plan["epochs"]:
            if one["mfu"] == mfu:
                cell = f"{one['hours']:.2f} {one['bottleneck']} {_mark(one)}"
                cells.setdefault((one["way"], one["store"]), []).append(cell if told else cell.rstrip())
        yield table(heading, [[*names, *hours] for names, hours in cells.items()], words=2)


def _mark(epoch: dict[str, Any]) -> str:
    """How the model is trained, as one letter."""
    if not epoch["fits"]:
        return "!"
    return "s" if epoch["shards"] > 1 else " "


def _memory(plan: dict[str, Any]) -> Iterator[str]:
    options = plan["options"]
    yield "\nMemory of a GPU in GB, by way and by rows that the GPU takes at once; activations are an estimate."
    parts = ("weights", "gradients", "optimizer", "activations", "total")
    yield table(
        ["way", "model on", "rows", *parts, f"fits {options['gpu']}"],
        [
            [
                one["way"],
                "each GPU" if one["shards"] == 1 else f"{one['shards']} GPUs, sharded",
                str(one["rows"]),
                *(f"{one[part] / 1e9:.1f}" for part in parts),
                "yes" if one["fits"] else "no",
            ]
            for one in plan["memory"]
        ],
        words=2,
    )


def _disk(plan: dict[str, Any]) -> Iterator[str]:
    yield "\nDisk in GB."
    yield table(
        ["what", "of", "GB"], [[one["what"], one["of"], f"{one['bytes'] / 1e9:.1f}"] for one in plan["disk"]], 2
    )
