"""
Measures the time and memory of a negative in training, with models of the released sizes:
`python benchmarks/bench_train_gpu.py`, or `make bench-train` on a machine with a GPU.

The models are Qwen2.5-VL 3B and 7B with random weights, in bfloat16 with gradient checkpointing, trained with LoRA and
in full. A step takes two volumes of ten slices and their reports. The model FLOPs utilisation (MFU) is relative to the
speed of a matrix product measured on the same GPU. `--shapes tiny` runs on any machine, to try the script.
"""

import argparse
import gc
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path


os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from bench_train import REPORT, VARIANTS, make_batch, make_rows, step_of
from datasets import Dataset
from peft import LoraConfig
from shapes import TEXT, released_config
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import SFTConfig, SFTTrainer

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


SHAPES = ("tiny", *TEXT)
BATCH = 2  # mutual partners need two volumes
SIDE = {"tiny": 112}  # pixels; 448 otherwise: 1,280 visual tokens
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_model(shape: str):
    """An untrained Qwen2.5-VL of a shape, and a processor."""
    model, processor = make_tiny_qwen([REPORT, "Write the findings."])
    if shape == "tiny":
        return model.to(torch.bfloat16), processor
    tokens = {name: getattr(model.config, name) for name in vars(model.config) if name.endswith("_token_id")}
    config = released_config(shape, **tokens)
    with torch.device(DEVICE):
        return Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16), processor


def make_trainer(shape: str, tuning: str, variant: str, out: Path):
    """A trainer of one variant, and the batch of its steps."""
    options = {
        "output_dir": str(out / "trainer"), "per_device_train_batch_size": BATCH, "report_to": "none",
        "use_cpu": DEVICE == "cpu", "bf16": True, "gradient_checkpointing": True, "max_steps": 1000,
        "max_length": None, "remove_unused_columns": False,
    }  # fmt: skip
    model, processor = make_model(shape)
    collator = PairCollator(processor)
    rows = make_rows(number=BATCH, side=SIDE.get(shape, 448))
    kind, pairs = VARIANTS[variant]
    if pairs is None:
        of_trainer, args = SFTTrainer, SFTConfig(**options)
    else:
        of_trainer, args = NegativeSFTTrainer, NegativeSFTConfig(**options, **pairs, beta=0.1)
    row = rows[0]
    trainer = of_trainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"index": [0]}).with_transform(lambda _: {name: [row[name]] for name in row}),
        data_collator=collator,
        processing_class=processor,
        peft_config=LoraConfig(r=16, target_modules=r".*language_model.*_proj") if tuning == "lora" else None,
    )
    trainer.model_accepts_loss_kwargs = True
    trainer.create_optimizer()
    batch = make_batch(collator, rows, kind)
    return trainer, {name: value.to(DEVICE) if torch.is_tensor(value) else value for name, value in batch.items()}


def wait() -> None:
    """Waits until the GPU has finished."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, repeats: int) -> float:
    """Median time of a call, in seconds."""
    times = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # without the first call, which warms up


def matrix_ceiling(side: int) -> float:
    """Speed of a bfloat16 matrix product on this device, in FLOP/s."""
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, repeats=20)


def model_flops(trainer, batch: dict, tuning: str, variant: str) -> tuple[float, float]:
    """
    Number of FLOP that a step with negatives needs, and one without. Recomputation for gradient checkpointing is not
    counted.
    """
    own = ("volumes", "partners")
    inputs = {name: value for name, value in batch.items() if name not in own and not name.startswith("negative_")}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trainer.model(**inputs)
    modules = counter.get_flop_counts()
    tower = max(sum(counts.values()) for name, counts in modules.items() if name.endswith(".visual"))
    language = counter.get_total_flops() - tower
    # With LoRA, the frozen weights need no gradient, so their backward costs as much as their forward. The frozen
    # vision tower comes before all trained weights, so it needs no backward.
    tower_backward, language_backward = (0, language) if tuning == "lora" else (2 * tower, 2 * language)
    plain = tower + tower_backward + language + language_backward
    kind, pairs = VARIANTS[variant]
    if pairs is None:
        return plain, plain
    further = language if variant.endswith("all capped") else language + language_backward
    if kind == "heter":
        further += tower if variant.endswith("all capped") else tower + tower_backward
    return plain + further, plain


def measure(shape: str, tuning: str, variant: str, out: Path, repeats: int, ceiling: float) -> dict:
    """Time, peak memory and MFU of the steps of one variant; of several kinds of steps, the mean by their share."""
    trainer, batch = make_trainer(shape, tuning, variant, out)
    tokens = (batch["labels"] != -100).sum()

    def step(number: int) -> None:
        trainer.state.global_step = number
        trainer.training_step(trainer.model, dict(batch), num_items_in_batch=tokens)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    share = 1.0 if VARIANTS[variant][1] is None else trainer.args.negative_share
    kinds = [(step_of(share, trainer.args.seed, True), share)]
    if share < 1:
        kinds.append((step_of(share, trainer.args.seed, False), 1 - share))
    weights = (share, 1 - share)
    flops = sum(
        weight * own for weight, own in zip(weights, model_flops(trainer, batch, tuning, variant), strict=True)
    )
    step(kinds[0][0])
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = sum(weight * seconds_of(partial(step, number), repeats) for number, weight in kinds)
    return {
        "shape": shape,
        "tuning": tuning,
        "variant": variant,
        "seconds": seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else None,
        "tokens_per_second": batch["input_ids"].numel() / seconds,
        "mfu": flops / seconds / ceiling,
    }


def main(shapes: list[str], out: Path, repeats: int) -> None:
    """Runs all measurements, and writes `bench_train_gpu.json` to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    ceiling = matrix_ceiling(8192 if DEVICE == "cuda" else 1024)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{os.cpu_count()} CPU cores"
    print(f"{name}, torch {torch.__version__}; a bfloat16 matrix product: {ceiling / 1e12:.2f} TFLOP/s")
    print("targets: heter, sequential <= 2.05x time and 1.1x memory of stock, all capped <= 1.45x time;")
    print("full fine-tuning of 3B: mutual <= 1.6x time and 1.1x memory, with share .25 <= 1.2x time")
    print(f"{'':<44}{'s/step':>10}{'x stock':>9}{'peak GB':>9}{'x stock':>9}{'tokens/s':>10}{'MFU':>7}")
    report, path = [], out / "bench_train_gpu.json"
    for shape in shapes:
        for tuning in ("lora", "full"):
            for variant in VARIANTS:
                gc.collect()  # frees the last model before the next one is made
                torch.cuda.empty_cache()
                try:
                    row = measure(shape, tuning, variant, out, repeats, ceiling)
                except torch.cuda.OutOfMemoryError:
                    print(f"{shape} {tuning}, {variant}: out of memory", flush=True)
                    report.append({"shape": shape, "tuning": tuning, "variant": variant, "seconds": None})
                    continue
                report.append(row)
                path.write_text(json.dumps({"device": name, "ceiling": ceiling, "rows": report}, indent=2))
                stock = report[-1 - list(VARIANTS).index(variant)]
                known = stock["seconds"] is not None
                time_ratio = f"{row['seconds'] / stock['seconds']:.2f}" if known else "-"
                peak, memory_ratio = "-", "-"
                if row["peak_gb"] is not None:
                    peak = f"{row['peak_gb']:.2f}"
                    memory_ratio = f"{row['peak_gb'] / stock['peak_gb']:.2f}" if known else "-"
                print(
                    f"{shape + ' ' + tuning + ', ' + variant:<44}{row['seconds']:>10.3f}{time_ratio:>9}"
                    f"{peak:>9}{memory_ratio:>9}{row['tokens_per_second']:>10.0f}{row['mfu']:>7.2f}",
                    flush=True,
                )
    print(f"as JSON: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["3B", "7B"])
    parser.add_argument("--out", type=Path, default=Path("runs/bench_train"), help="folder for the JSON")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each variant (default: %(default)s)")
    arguments = parser.parse_args()
    if DEVICE == "cpu" and arguments.shapes != ["tiny"]:
        parser.exit(message="No GPU here: the released shapes were not run (`--shapes tiny` tries the script).\n")
    main(arguments.shapes, arguments.out, arguments.repeats)
