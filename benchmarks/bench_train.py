"""
Measures the time and memory of a negative in training: `python benchmarks/bench_train.py`, or `make bench-train`.

The training steps of stock `SFTTrainer` and of the ways to train with negatives are compared on the same batch, on one
thread: on a tiny model, and on small models in which the vision tower weighs as much beside the language model as it
does in Qwen2.5-VL 3B and 7B (in floating-point operations, see `shapes.py`). For the times, the variants take turns in
one process; they are times of the processor, so that other programs on the machine count less. The peak memory of each
variant is measured in a process of its own. Compare the ratios, not the times. The results are printed as tables and
written as JSON.

Reading and decoding scans is not in these times: `bench_data.py` measures it. A variant with a share of the steps has
steps with negatives and steps without. Both kinds are timed, and the mean by the share is printed. Its peak memory is
that of its steps with negatives, as without a share.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import re
import statistics
import time
from itertools import count
from pathlib import Path


os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before torch and the Hub's client are imported

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from shapes import GRID, PROMPT_TOKENS, REPORT_TOKENS, TEXT, ratio, released_ratio, scale_tower
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import SFTConfig, SFTTrainer

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.loss import has_negatives
from ct_rate_pairs.trainer.mutual_pairs import MutualPairs
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


BATCH, SIDE, SLICES = 4, 112, 10
REPORT = "Trachea and both main bronchi are open. No pleural effusion was observed. A nodule of 8 mm is seen. " * 4
NEVER_CAPPED = {"max_negative_loss": 100.0}
# The kind of negatives, and the options of `NegativeSFTConfig`.
VARIANTS = {
    "stock": ("none", None),
    "heter, joint": ("heter", {"pair_mode": "joint", **NEVER_CAPPED}),
    "heter, sequential": ("heter", NEVER_CAPPED),
    "heter, sequential, all capped": ("heter", {"max_negative_loss": 1e-6}),
    "mutual": ("mutual", NEVER_CAPPED),
    "heter, share .25": ("heter", {"negative_share": 0.25, **NEVER_CAPPED}),
    "mutual, share .25": ("mutual", {"negative_share": 0.25, **NEVER_CAPPED}),
}
# Largest time and memory, as ratios to stock, by the shape and the variant.
TARGETS = {
    ("tiny", "heter, sequential"): (2.05, 1.1),
    ("tiny", "heter, sequential, all capped"): (1.45, None),
    ("3B", "mutual"): (1.6, 1.1),
    ("3B", "mutual, share .25"): (1.2, 1.1),
}
# Variants with a share of the steps, and those that their steps with negatives are.
OF_A_SHARE = {"heter, share .25": "heter, sequential", "mutual, share .25": "mutual"}
SHAPES = ("tiny", *TEXT)
# Options of `mallopt`: freed memory goes back to the system at once, so that the resident memory is the memory in use.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = (-1, 0), (-3, 65536), (-8, 1)


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
            "labels": rng.integers(0, 2, 18).tolist(),
            "slice_mm": [30.0 * k for k in range(SLICES)],
        }
        for i in range(number)
    ]


def make_batch(collator: PairCollator, rows: list[dict], kind: str) -> dict:
    """The batch of some rows with the kind of negatives of a variant."""
    if kind == "heter":
        return dict(collator(rows))
    rows = [row | {"negative_images": []} for row in rows]
    return dict(MutualPairs(collator, air=0)(rows) if kind == "mutual" else collator(rows))


def make_model(shape: str) -> tuple:
    """The model of a shape, its processor, and its ratio of the operations of tower and language model."""
    # The tower of 7B weighs too little beside its language model for the larger of the two.
    depth, width = (2, 64) if shape == "7B" else (4, 128)
    sizes = {"hidden_size": 192, "num_layers": 4, "vision_depth": depth, "vision_hidden_size": width}
    model, processor = make_tiny_qwen([REPORT, "Write the findings."], **sizes)
    batch = make_batch(PairCollator(processor), make_rows(1), "none")
    grid, report_tokens = batch["video_grid_thw"][0].tolist(), int((batch["labels"] != -100).sum())
    visual_tokens = int((batch["input_ids"] == model.config.video_token_id).sum())
    seen = (tuple(grid), batch["input_ids"].shape[1] - visual_tokens - report_tokens, report_tokens)
    if shape in TEXT:
        scale_tower(model.config, released_ratio(shape), *seen)
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(model.config)
    return model, processor, ratio(model.config, *seen)


def step_of(share: float, seed: int, negatives: bool) -> int:
    """The number of a step that has negatives, or has none."""
    return next(step for step in count() if has_negatives(step, share, seed) == negatives)


class Steps:
    """Training steps of one variant on one batch."""

    def __init__(self, shape: str, variant: str, out: Path):
        options = {
            "output_dir": str(out / "trainer"), "per_device_train_batch_size": BATCH, "report_to": "none",
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_steps": 1000, "max_length": None,
            "remove_unused_columns": False,
        }  # fmt: skip
        model, processor, self.ratio = make_model(shape)
        collator = PairCollator(processor)
        kind, pairs = VARIANTS[variant]
        rows = make_rows()
        if pairs is None:
            trainer, args = SFTTrainer, SFTConfig(**options)
        else:
            trainer, args = NegativeSFTTrainer, NegativeSFTConfig(**options, **pairs, beta=0.1)
        dataset = Dataset.from_dict({"index": [0]}).with_transform(
            lambda _: {name: [rows[0][name]] for name in rows[0]}
        )
        arguments = {"train_dataset": dataset, "data_collator": collator, "processing_class": processor}
        self.trainer = trainer(model=model, args=args, **arguments)
        self.trainer.model_accepts_loss_kwargs = True  # as in our trainer: the class of Qwen2.5-VL says False
        self.trainer.create_optimizer()
        self.batch = make_batch(collator, rows, kind)
        self.tokens = (self.batch["labels"] != -100).sum()
        share = 1.0 if pairs is None else args.negative_share
        # The step to take, and its weight in the mean: with negatives, then without.
        self.kinds = [(step_of(share, args.seed, True), share)]
        if share < 1:
            self.kinds.append((step_of(share, args.seed, False), 1 - share))

    def __call__(self, number: int) -> None:
        """Takes one step."""
        self.trainer.state.global_step = number
        self.trainer.training_step(self.trainer.model, dict(self.batch), num_items_in_batch=self.tokens)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()


def kilobytes(name: str) -> int:
    """A value of `/proc/self/status`, such as the resident memory `VmRSS`."""
    return int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])


def measure_memory(shape: str, variant: str, out: Path) -> float:
    """Peak memory of a step in this process, in MB, without the memory that is still used after the first step."""
    for option, value in (TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX):
        assert ctypes.CDLL(None).mallopt(option, value)
    step = Steps(shape, variant, out)
    step(step.kinds[0][0])
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    step(step.kinds[0][0])
    return (kilobytes("VmHWM") - before) / 1e3


def time_in_turns(steps: dict[str, Steps], rounds: int) -> dict[str, float]:
    """Time of a step of each variant, in seconds: medians, and of several kinds of steps their mean."""
    times = {(variant, number): [] for variant, step in steps.items() for number, _ in step.kinds}
    for i in range(rounds + 1):
        for (variant, number), measured in times.items():
            start = time.process_time()
            steps[variant](number)
            if i:  # the first round warms up
                measured.append(time.process_time() - start)
    return {
        variant: sum(weight * statistics.median(times[variant, number]) for number, weight in step.kinds)
        for variant, step in steps.items()
    }


def memory_of_each(shape: str, out: Path) -> dict[str, float]:
    """Peak memory of each variant, in MB, each in a process of its own."""
    memory = {}
    for variant in VARIANTS:
        if variant in OF_A_SHARE:
            memory[variant] = memory[OF_A_SHARE[variant]]
            continue
        with multiprocessing.get_context("fork").Pool(1) as process:
            memory[variant] = process.apply(measure_memory, (shape, variant, out))
    return memory


def operations(variant: str, tower: float) -> float:
    """
    The operations of a step, as a multiple of stock, if a backward has twice those of its forward. `tower` is the
    ratio of the operations of the vision tower to those of the language model.
    """
    if variant in OF_A_SHARE:
        return 1 + 0.25 * (operations(OF_A_SHARE[variant], tower) - 1)
    if variant == "mutual":  # the tower runs once, the language model twice
        return (tower + 2) / (tower + 1)
    return {"stock": 1.0, "heter, sequential, all capped": 4 / 3}.get(variant, 2.0)


def measure(shape: str, memory: dict[str, float], out: Path, rounds: int) -> list[dict]:
    """Prints and returns the figures of a shape."""
    steps = {variant: Steps(shape, variant, out) for variant in VARIANTS}
    seconds = time_in_turns(steps, rounds)
    stock = steps["stock"]
    weights = sum(parameter.numel() for parameter in stock.trainer.model.parameters())
    print(f"\n{shape}: {weights / 1e6:.1f} M weights; operations of the vision tower / of the language model:")
    released = ""
    if shape in TEXT:
        seen = f"patches {GRID}, {PROMPT_TOKENS} tokens of the prompt, {REPORT_TOKENS} of the report"
        released = f"; {released_ratio(shape):.3f} in Qwen2.5-VL {shape} ({seen})"
    print(f"{stock.ratio:.3f} here{released}")
    print(f"{'':<32}{'s/step':>10}{'x stock':>9}{'target':>9}{'FLOPs':>12}{'peak MB':>10}{'x stock':>9}{'target':>9}")
    report = []
    for variant in VARIANTS:
        time_target, memory_target = TARGETS.get((shape, variant), (None, None))
        time_ratio, memory_ratio = seconds[variant] / seconds["stock"], memory[variant] / memory["stock"]
        report.append(
            {"shape": shape, "ratio": stock.ratio, "variant": variant, "seconds": seconds[variant],
             "operations": operations(variant, stock.ratio), "time_ratio": time_ratio, "time_target": time_target,
             "peak_mb": memory[variant],
             "memory_ratio": memory_ratio, "memory_target": memory_target}
        )  # fmt: skip
        targets = [f"<= {target}" if target else "" for target in (time_target, memory_target)]
        print(
            f"{variant:<32}{seconds[variant]:>10.3f}{time_ratio:>9.2f}{targets[0]:>9}"
            f"{report[-1]['operations']:>12.2f}{memory[variant]:>10.0f}{memory_ratio:>9.2f}{targets[1]:>9}",
            flush=True,
        )
    return report


def main(shapes: list[str], out: Path, rounds: int) -> None:
    """Runs all measurements, and writes `bench_train.json` to `out`."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    print(
        f"tiny Qwen2.5-VLs, batch {BATCH} of {SLICES} slices {SIDE} x {SIDE}, one thread, processor time, median of "
        f"{rounds} steps in turns; {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    # First, while this process has no freed memory of its own, which a forked one would use again unseen.
    memory = {shape: memory_of_each(shape, out) for shape in shapes}
    report = [row for shape in shapes for row in measure(shape, memory[shape], out, rounds)]
    (out / "bench_train.json").write_text(json.dumps(report, indent=2))
    print(f"as JSON: {out}/bench_train.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, help="(default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_train"), help="folder for the JSON")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each variant (default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.shapes, arguments.out, arguments.rounds)
