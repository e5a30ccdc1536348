"""
What a report of a scan costs: `python benchmarks/bench_report.py MODEL SCAN`.

The benchmark reports the scan four times, on one core, and prints the median seconds of each step, without the first
time. `saving` writes the files; it is counted in seconds of the processor. Then it prints the size of each file.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from ct_rate_pairs.hub.reporting.files import save
from ct_rate_pairs.hub.reporting.load import load_reporter


TIMES = 4


def main() -> None:
    """Prints two lines: seconds, and kB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("model", help="name on the Hub, or folder of a trained model")
    parser.add_argument("scan", type=Path, help="scan to report")
    args = parser.parse_args()
    torch.set_num_threads(1)
    reporter = load_reporter(args.model, device="cpu")
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(TIMES):
            report = reporter.report(args.scan, force=True)
            start = time.process_time()
            save(report, Path(folder), {})
            for step, took in (report.seconds | {"saving": time.process_time() - start}).items():
                seconds.setdefault(step, []).append(took)
        sizes = {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir())}
    print(", ".join(f"{step} {statistics.median(took[1:]):.2f} s" for step, took in seconds.items()))
    print(", ".join(f"{name} {size / 1000:.0f} kB" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
