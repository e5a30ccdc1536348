"""`make fuzz`: runs many cases, and prints the number of each outcome."""

import argparse
import sys
from collections import Counter

from . import json_files, long_texts, metaimages, own_tables, tables, texts, volumes
from .harness import OUTCOMES, run


OF_VOLUMES, OF_TABLES = volumes.KINDS | metaimages.KINDS, tables.KINDS | own_tables.KINDS
KINDS = {**OF_VOLUMES, **OF_TABLES, **json_files.KINDS, **texts.KINDS, **long_texts.KINDS}


def _print_row(name: str, counts: Counter) -> None:
    print(
        f"| {name} | {counts.total():,} | " + " | ".join(f"{counts[what]:,}" for what in OUTCOMES) + " |", flush=True
    )


parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
parser.add_argument("--cases", type=int, default=10_000, help="in all, spread over the kinds")
parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
args = parser.parse_args()

print("| input | cases | " + " | ".join(OUTCOMES) + " |")
print("|---|" + "---|" * (1 + len(OUTCOMES)))
total, bad = Counter(), []
for name in args.kinds:
    counts, failed = run(KINDS[name], name, -(-args.cases // len(args.kinds)), args.first)
    _print_row(name, counts)
    total += counts
    bad += failed
_print_row("all", total)
print("\n\n".join(bad))
sys.exit(total.total() > total["read"] + total["refused"] + total["cured"])
