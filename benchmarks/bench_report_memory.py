"""
Measures the memory of a process that reports a scan, and computes that of the weights of the released sizes:
`python benchmarks/bench_report_memory.py RUN SCAN`, for the folder of a run and a scan.

The first table is measured, each line in a process of its own on the CPU: the most memory that the process has held
after its imports, after it has loaded the model, and after a report. The second table is computed from the shapes of
the weights, which are made without their numbers. No released weights could be loaded where this was built.
"""

import argparse
import multiprocessing
import resource
import sys
from pathlib import Path

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from ct_rate_pairs.eval.tables import format_markdown
from ct_rate_pairs.hub import load_reporter
from ct_rate_pairs.hub.card_memory import memory_of, written
from ct_rate_pairs.trainer.plan.shapes import MODELS, make_config


STEPS = ("imports", "model", "report")


def peak() -> int:
    """The most memory that this process has held until now, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of Linux


def measure(run: Path, scan: Path, dtype: str) -> list[int]:
    """The peaks after the imports, after the model is loaded, and after a report."""
    found = [peak()]
    reporter = load_reporter(run, device="cpu", dtype=dtype)
    found.append(peak())
    reporter.report(scan, force=True)
    return [*found, peak()]


def compute(size: str) -> dict[str, float]:
    """Bytes of the weights of a released size, see [`~ct_rate_pairs.hub.card_memory.memory_of`]."""
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration._from_config(make_config(size), dtype=torch.bfloat16)
    return memory_of({name: list(weight.shape) for name, weight in model.named_parameters()})


def main(argv: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("scan", type=Path, help="a scan")
    args = parser.parse_args(argv)
    measured = [["measured, peak of the process after", *STEPS]]
    for dtype in ("float32", "bfloat16"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            sizes = pool.apply(measure, (args.run, args.scan, dtype))
        measured.append([f"{args.run.name}, {dtype}", *map(written, sizes)])
    print(format_markdown(measured))
    computed = {size: compute(size) for size in MODELS}
    lines = [[f"Qwen2.5-VL-{size}", *map(written, sizes.values())] for size, sizes in computed.items()]
    print(format_markdown([["computed, weights alone", *computed[MODELS[0]]], *lines]))


if __name__ == "__main__":
    main(sys.argv[1:])
