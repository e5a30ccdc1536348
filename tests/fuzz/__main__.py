"""`make fuzz`: runs many cases, and prints the number of each outcome."""

import argparse
import sys
import time

from . import volumes
from .harness import OUTCOMES, run


KINDS = {**volumes.KINDS}

parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
parser.add_argument("--cases", type=int, default=10_000, help="in all, spread over the kinds")
parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
args = parser.parse_args()
start = time.monotonic()
counts, bad = run({name: KINDS[name] for name in args.kinds}, -(-args.cases // len(args.kinds)), args.first)
print("\n\n".join(bad))
print("| input | cases | " + " | ".join(OUTCOMES) + " |")
print("|---|" + "---|" * (1 + len(OUTCOMES)))
for name, count in {**counts, "all": sum(counts.values(), type(next(iter(counts.values())))())}.items():
    print(f"| {name} | {count.total():,} | " + " | ".join(f"{count[outcome]:,}" for outcome in OUTCOMES) + " |")
print(f"{time.monotonic() - start:.0f} s")
sys.exit(bool(bad))
