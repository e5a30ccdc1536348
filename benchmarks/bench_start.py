"""
Measures how long the package takes to start: `python benchmarks/bench_start.py`, or `make bench-start`.

The import of the package and the `--help` of each command are compared with an import that they need in any case, such
as `import datasets`. Compare the ratios, not the times. The results are printed as a table and written as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ct_rate_pairs.__main__ import COMMANDS
from ct_rate_pairs.eval.tables import format_markdown


PYTHON = sys.executable
DATASETS, TRL = "import datasets", "from trl import SFTConfig"
TRANSFORMERS = "from transformers import AutoModelForImageTextToText"
OF_TRL = ("train", "grpo", "train-matcher")  # their help shows the options of Trainer, so they need TRL
MOST = 1.3  # largest ratio of the times


def measure(arguments: list[str], folder: str) -> tuple[float, float]:
    """Time in seconds and peak memory in MiB of one Python process."""
    start = time.perf_counter()
    process = subprocess.Popen([PYTHON, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {process.returncode}.")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Runs the measurement, prints the table, and writes `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="starts of each process (default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bench_start"))
    args = parser.parse_args()

    help_of = {name: ["-m", "ct_rate_pairs", name, "--help"] for name in COMMANDS}
    baselines = {name: ["-c", name] for name in (DATASETS, TRL, TRANSFORMERS)}
    pairs = {"import ct_rate_pairs": (["-c", "import ct_rate_pairs"], DATASETS)}
    pairs |= {f"{name} --help": (words, TRL if name in OF_TRL else DATASETS) for name, words in help_of.items()}
    pairs["load_reporter"] = ["-c", "from ct_rate_pairs.hub import load_reporter"], TRANSFORMERS
    everything = baselines | {name: words for name, (words, _) in pairs.items()}

    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in everything}
    with tempfile.TemporaryDirectory() as folder:
        for words in everything.values():  # a first start, which reads files from the disk
            measure(words, folder)
        for _ in range(args.repeats):  # in turns, so that noise affects all of them equally
            for name, words in everything.items():
                measured[name].append(measure(words, folder))
    seconds, memory = ({name: median(values[i] for values in of) for name, of in measured.items()} for i in (0, 1))

    lines = [["start", "beside", "seconds", "ratio", "MiB", "ratio"]]
    results = []
    for name, (_, beside) in pairs.items():
        ratios = seconds[name] / seconds[beside], memory[name] / memory[beside]
        lines.append(
            [name, beside, *(f"{seconds[name]:.2f} {ratios[0]:.2f} {memory[name]:.0f} {ratios[1]:.2f}".split())]
        )
        results.append({"start": name, "beside": beside, "seconds": ratios[0], "memory": ratios[1]})
    print(format_markdown(lines, text_columns=2))
    over = [row["start"] for row in results if row["seconds"] > MOST]
    print(f"Over {MOST} in seconds: {', '.join(over) or 'none'}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    (args.output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
