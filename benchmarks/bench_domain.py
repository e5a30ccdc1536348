"""
How well limits that are fitted on a cohort tell its scans from others: false alarms among scans of other patients, and
the limits that given scans are beyond.

    python benchmarks/bench_domain.py COHORT [SCAN ...]
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import load_dataset

from ct_rate_pairs.hub.reporting.domain import fit_domain, measure_row, trained_on
from ct_rate_pairs.hub.reporting.seen import see
from ct_rate_pairs.readers import reader_of


SPACING = (4.5, 4.5, 6.5)  # of the demo
DRAWS = 40


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("scans", nargs="*", type=Path)
    args = parser.parse_args()
    splits = load_dataset("ct_rate_pairs", data_dir=str(args.cohort), negative="none", spacing=SPACING)
    reader = reader_of(splits["train"])
    measured = {row["volume"]: measure_row(row, reader) for rows in splits.values() for row in rows}
    names, kind = list(measured), trained_on(reader.source)
    print(f"{len(names)} scans: {kind}")
    for size in (24, 100):
        alarms, rng = [], np.random.default_rng(0)
        for _ in range(DRAWS):
            order = rng.permutation(names).tolist()
            domain = fit_domain({name: measured[name] for name in order[:size]}, kind)
            alarms += [bool(domain.unlike(measured[name])) for name in order[size:]]
        print(f"limits of {size} scans, {DRAWS} draws: {np.mean(alarms):.2%} of the other scans are beyond one")
    domain = fit_domain(measured, kind)
    print(f"limits of all: {domain.false_alarms:.2%} in the cross-validation, over patients")
    for number, scan in enumerate(args.scans, start=1):
        unlike = domain.unlike(see(scan, reader.source.settings).measures)
        print(f"scan {number} is beyond {len(unlike)} of {len(domain.limits)} limits: {'; '.join(unlike)}")


if __name__ == "__main__":
    main()
