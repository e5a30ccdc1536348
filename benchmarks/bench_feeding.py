"""
Checks the feeding figures of `ct-rate-pairs plan` by simulation: `python benchmarks/bench_feeding.py`, or
`make bench-scale`.

The loader, the dataset and the collator are real. The store is throttled: it gives each volume after the time that its
bytes take. A step of the GPU is a sleep. So rows per second can be measured where there is no GPU and no CT-RATE. They
are compared with what the plan's arithmetic says of the same rates: the printed ratios should be 0.9 to 1.1.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import NamedTuple


os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before torch and the Hub's client are imported

import torch
from datasets import load_dataset
from torch.multiprocessing import Value
from torch.utils.data import DataLoader

from ct_rate_pairs.phantom.cohort import write_cohort
from ct_rate_pairs.prepare import prepare
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.sources import open_source
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.plan.feeding import Site, feeding, workers_per_gpu
from ct_rate_pairs.trainer.plan.unit_costs import RowCost
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


VOLUME = 100e6  # bytes that a volume counts, whatever the phantom's volume has
WITHIN = 0.1


class Case(NamedTuple):
    """What is simulated: a negative, seconds of a step, workers, and bytes per second of the store and of a worker."""

    name: str
    negative: str
    step: float
    workers: int
    store_rate: float = math.inf
    stream_rate: float = math.inf


class ThrottledStore:
    """
    A source that gives its volumes at a rate.

    Args:
        source ([`~ct_rate_pairs.sources.Source`]):
            Reads the volumes.
        case ([`Case`]):
            The rates.
    """

    def __init__(self, source, case: Case):
        self.source, self.case = source, case
        self.free = Value("d", 0.0)  # when the store has sent what it owes, over all workers
        self.sent = Value("d", 0.0)  # bytes

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def read_slices(self, scan, fractions=None):
        """As the source does, after the time that the bytes take."""
        begun = time.monotonic()
        with self.free.get_lock():
            self.free.value = max(self.free.value, begun) + VOLUME / self.case.store_rate
            until = self.free.value
            self.sent.value += VOLUME
        time.sleep(max(0.0, max(until, begun + VOLUME / self.case.stream_rate) - time.monotonic()))
        return self.source.read_slices(scan, fractions)


def open_rows(copy: Path, negative: str):
    """The real rows of a prepared copy of the phantom."""
    return load_dataset("ct_rate_pairs", data_dir=str(copy), split="train", negative=negative, validation_size=0.0)


def seconds_per_row(dataset, collator) -> float:
    """Seconds that a row takes here, without a throttle."""
    rows = len(dataset)
    collator([dataset[0]])
    begun = time.perf_counter()
    for place in range(rows):
        collator([dataset[place]])
    return (time.perf_counter() - begun) / rows


def simulate(dataset, collator, case: Case, rows: int) -> tuple[float, float]:
    """Rows per second that reach the GPU after the loader has filled its queues, and bytes that the store has sent."""
    reader = reader_of(dataset)
    store, real = ThrottledStore(reader.source, case), reader.source
    reader.source = store
    filled = 3 * case.workers
    order = [place % len(dataset) for place in range(rows + filled)]
    loader = DataLoader(dataset, batch_size=1, sampler=order, num_workers=case.workers, collate_fn=collator)
    try:
        done = begun = time.monotonic()  # when the GPU has done what it was given
        for place, _ in enumerate(loader, start=1):
            # As on a GPU, a step is only started here. The next row is fetched while the step is computed.
            time.sleep(max(0.0, done - time.monotonic()))
            done = max(done, time.monotonic()) + case.step
            if place == filled:
                begun = done
        seconds = done - begun
    finally:
        reader.source = real
    return rows / seconds, store.sent.value


def predict(case: Case, own: float) -> tuple[float, str]:
    """Rows per second by the plan's arithmetic, and the bottleneck."""
    cost = RowCost(own, VOLUME * (2 if case.negative == "heter" else 1))
    rates = feeding(case.step, cost, Site(1, case.workers, case.store_rate, case.stream_rate))
    return rates.rate, rates.bottleneck


def make_cases(own: float) -> list[Case]:
    """The cases: each of the three is the slowest, and a GPU has the plan's own number of workers, and one less."""
    # All is slow, so that the processor time of the rows themselves hardly counts, on a busy machine, too.
    step, fast, slow = 0.6, 0.1, 80e6  # seconds; bytes per second of a worker: a volume takes 1.25 s
    enough = workers_per_gpu(step, RowCost(own, VOLUME), Site(1, 1, math.inf, slow))
    return [
        Case("the GPU is slowest", "none", step, 4),
        Case("one worker", "none", fast, 1, math.inf, slow),
        Case("four workers", "none", fast, 4, math.inf, slow),
        Case("four workers, two volumes", "heter", fast, 4, math.inf, slow),
        Case("four workers, noise", "gauss", fast, 4, math.inf, slow),
        Case("the store is slowest", "none", fast, 6, 1.6e8),
        Case("the store is slowest, two volumes", "heter", fast, 6, 1.6e8),
        Case(f"the plan's {enough} workers", "none", step, enough, math.inf, slow),
        Case(f"{enough - 1} of these", "none", step, enough - 1, math.inf, slow),
    ]


def main(out: Path, rows: int) -> None:
    """Runs all cases, prints their ratios, and writes `bench_feeding.json` to `out`."""
    torch.set_num_threads(1)
    cohort, copy = out / "cohort", out / "prepared"
    if not (copy / "prepared.json").exists():
        write_cohort(cohort, 12, valid_scans=2, workers=1, reconstructions=0.0)
        prepare(open_source(cohort, spacing=(4.5, 4.5, 6.5)), copy, workers=1)
    _, processor = make_tiny_qwen(["Write the findings and the impression of this chest CT."])
    collator = PairCollator(processor)
    datasets = {negative: open_rows(copy, negative) for negative in ("none", "gauss", "heter")}
    own = {negative: seconds_per_row(dataset, collator) for negative, dataset in datasets.items()}
    print(f"{'':<36}{'slowest':>9}{'predicted':>11}{'measured':>10}{'ratio':>7}   rows per second")
    report = []
    for case in make_cases(own["none"]):
        rate, slowest = predict(case, own[case.negative])
        measured, sent = simulate(datasets[case.negative], collator, case, rows)
        told = {name: None if value == math.inf else value for name, value in case._asdict().items()}
        report.append(told | {"slowest": slowest, "predicted": rate, "measured": measured, "bytes": sent})
        print(f"{case.name:<36}{slowest:>9}{rate:>11.2f}{measured:>10.2f}{measured / rate:>7.2f}", flush=True)
    off = [one["name"] for one in report if abs(one["measured"] / one["predicted"] - 1) > WITHIN]
    print(f"more than {WITHIN:.0%} off: {', '.join(off) or 'none'}")
    (out / "bench_feeding.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"as JSON: {out}/bench_feeding.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench_feeding"), help="folder for the copy and the JSON"
    )
    parser.add_argument("--rows", type=int, default=40, help="rows that are timed in each case (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.out, arguments.rows)
