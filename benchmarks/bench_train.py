"""
Measures the time and memory of a negative in training: `python benchmarks/bench_train.py`, or `make bench-train`.

The training steps of stock `SFTTrainer` and of the pair modes are compared on the same batch, on one thread. For the
times, the variants take turns in one process. The peak memory of each variant is measured in a new process. Compare
the ratios, not the times. The results are printed as a table and written as JSON.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path


os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before torch and the Hub's client are imported

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from trl import SFTConfig, SFTTrainer

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


BATCH, SIDE, SLICES = 8, 112, 10
REPORT = "Trachea and both main bronchi are open. No pleural effusion was observed. A nodule of 8 mm is seen. " * 4
VARIANTS = {
    "stock": None,
    "joint": {"pair_mode": "joint", "max_negative_loss": 100.0},
    "sequential": {"pair_mode": "sequential", "max_negative_loss": 100.0},
    "sequential, all capped": {"pair_mode": "sequential", "max_negative_loss": 1e-6},
}
TARGETS = {  # largest time and memory, as ratios to stock
    "sequential": (2.05, 1.1),
    "sequential, all capped": (1.45, None),
}


def make_rows(number: int = BATCH, side: int = SIDE) -> list[dict]:
    """Rows of noise, because the cost of a step does not depend on the content of the slices."""
    rng = np.random.default_rng(0)
    slices = lambda: [Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)) for _ in range(SLICES)]  # noqa: E731
    return [
        {
            "volume": f"train_{i}_a_1.nii.gz",
            "images": slices(),
            "negative_images": slices(),
            "negative_volume": "",
            "prompt": [{"role": "user", "content": "Write the findings."}],
            "completion": [{"role": "assistant", "content": REPORT}],
            "slice_mm": [30.0 * k for k in range(SLICES)],
        }
        for i in range(number)
    ]


class Steps:
    """Training steps of one variant on one batch."""

    def __init__(self, variant: str, out: Path):
        options = {
            "output_dir": str(out / "trainer"), "per_device_train_batch_size": BATCH, "report_to": "none",
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_steps": 1000, "max_length": None,
            "remove_unused_columns": False,
        }  # fmt: skip
        model, processor = make_tiny_qwen(
            [REPORT, "Write the findings."], hidden_size=256, num_layers=6, vision_depth=4, vision_hidden_size=128
        )
        collator = PairCollator(processor)
        pairs = VARIANTS[variant]
        rows = make_rows()
        if pairs is None:
            rows = [row | {"negative_images": []} for row in rows]
            kind, args = SFTTrainer, SFTConfig(**options)
        else:
            kind, args = NegativeSFTTrainer, NegativeSFTConfig(**options, **pairs, beta=0.1)
        dataset = Dataset.from_dict({"index": [0]}).with_transform(
            lambda _: {name: [rows[0][name]] for name in rows[0]}
        )
        arguments = {"train_dataset": dataset, "data_collator": collator, "processing_class": processor}
        self.trainer = kind(model=model, args=args, **arguments)
        self.trainer.model_accepts_loss_kwargs = True  # as in our trainer: the class of Qwen2.5-VL says False
        self.trainer.create_optimizer()
        self.batch = dict(collator(rows))
        self.tokens = (self.batch["labels"] != -100).sum()

    def __call__(self) -> None:
        """Takes one step."""
        self.trainer.training_step(self.trainer.model, dict(self.batch), num_items_in_batch=self.tokens)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()


def kilobytes(name: str) -> int:
    """A value of `/proc/self/status`, such as the resident memory `VmRSS`."""
    return int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])


def measure_memory(variant: str, out: Path) -> float:
    """Peak memory of a step in this process, in MB, without the memory that is still used after the first step."""
    step = Steps(variant, out)
    step()
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    for _ in range(3):
        step()
    return (kilobytes("VmHWM") - before) / 1e3


def main(out: Path, rounds: int) -> None:
    """Runs all measurements, and writes `bench_train.json` to `out`."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    steps = {variant: Steps(variant, out) for variant in VARIANTS}
    times = {variant: [] for variant in VARIANTS}
    for i in range(rounds + 1):
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            if i:  # the first round warms up
                times[variant].append(time.perf_counter() - start)
    seconds = {variant: statistics.median(values) for variant, values in times.items()}
    memory = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--out", str(out), "--memory-of", variant]
        # Freed memory goes back to the system at once, so that the resident memory is the memory in use.
        allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | allocator)
        memory[variant] = float(run.stdout.splitlines()[-1])

    weights = sum(parameter.numel() for parameter in steps["stock"].trainer.model.parameters())
    print(
        f"tiny Qwen2.5-VL of {weights / 1e6:.1f} M weights, batch {BATCH} of {SLICES} slices {SIDE} x {SIDE}, "
        f"one thread, median of {rounds} steps in turns; {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}"
    )
    print(f"{'':<26}{'s/step':>10}{'x stock':>9}{'target':>9}{'peak MB':>10}{'x stock':>9}{'target':>9}")
    report = []
    for variant in VARIANTS:
        time_target, memory_target = TARGETS.get(variant, (None, None))
        time_ratio, memory_ratio = seconds[variant] / seconds["stock"], memory[variant] / memory["stock"]
        report.append(
            {"variant": variant, "seconds": seconds[variant], "time_ratio": time_ratio, "time_target": time_target,
             "peak_mb": memory[variant], "memory_ratio": memory_ratio, "memory_target": memory_target}
        )  # fmt: skip
        targets = [f"<= {target}" if target else "" for target in (time_target, memory_target)]
        print(
            f"{variant:<26}{seconds[variant]:>10.3f}{time_ratio:>9.2f}{targets[0]:>9}"
            f"{memory[variant]:>10.0f}{memory_ratio:>9.2f}{targets[1]:>9}"
        )
    (out / "bench_train.json").write_text(json.dumps(report, indent=2))
    print(f"as JSON: {out}/bench_train.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_train"), help="folder for the JSON")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each variant (default: %(default)s)")
    # `main` starts this script with this option, to measure the memory of one variant in a new process.
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(measure_memory(arguments.memory_of, arguments.out))
    else:
        main(arguments.out, arguments.rounds)
