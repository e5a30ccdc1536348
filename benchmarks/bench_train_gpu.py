"""
Measures the time and memory of a negative in training, with models of the released sizes:
`python benchmarks/bench_train_gpu.py`, or `make bench-train` on a machine with a GPU.

The models are Qwen2.5-VL 3B and 7B with random weights, in bfloat16 with gradient checkpointing, trained with LoRA and
in full. A step takes one volume of ten slices and its report. The model FLOPs utilisation (MFU) is relative to the
speed of a matrix product measured on the same GPU. `--shapes tiny` runs on any machine, to try the script.
"""

import argparse
import gc
import json
import os
import statistics
import time
from pathlib import Path


os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from bench_train import REPORT, VARIANTS, make_rows
from datasets import Dataset
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl import SFTConfig, SFTTrainer

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen


# From the config.json of the released checkpoints.
SHAPES = {
    "tiny": {},
    "3B": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
}  # fmt: skip
VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
}  # fmt: skip
SIDE = {"tiny": 112}  # pixels; 448 otherwise: 1,280 visual tokens
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_model(shape: str):
    """An untrained Qwen2.5-VL of a shape, and a processor."""
    model, processor = make_tiny_qwen([REPORT, "Write the findings."])
    if shape == "tiny":
        return model.to(torch.bfloat16), processor
    tokens = {name: getattr(model.config, name) for name in vars(model.config) if name.endswith("_token_id")}
    text, tied = SHAPES[shape], SHAPES[shape]["tie_word_embeddings"]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": rope},
        vision_config=VISION | {"out_hidden_size": text["hidden_size"]},
        tie_word_embeddings=tied,
        **tokens,
    )
    with torch.device(DEVICE):
        return Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16), processor


def make_trainer(shape: str, tuning: str, variant: str, out: Path):
    """A trainer of one variant, and the batch of its steps."""
    options = {
        "output_dir": str(out / "trainer"), "per_device_train_batch_size": 1, "report_to": "none", "max_length": None,
        "use_cpu": DEVICE == "cpu", "bf16": True, "gradient_checkpointing": True, "max_steps": 1000,
        "remove_unused_columns": False,
    }  # fmt: skip
    model, processor = make_model(shape)
    collator = PairCollator(processor)
    row = make_rows(number=1, side=SIDE.get(shape, 448))[0]
    pairs = VARIANTS[variant]
    if pairs is None:
        row["negative_images"] = []
        kind, args = SFTTrainer, SFTConfig(**options)
    else:
        kind, args = NegativeSFTTrainer, NegativeSFTConfig(**options, **pairs, beta=0.1)
    trainer = kind(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"index": [0]}).with_transform(lambda _: {name: [row[name]] for name in row}),
        data_collator=collator,
        processing_class=processor,
        peft_config=LoraConfig(r=16, target_modules=r".*language_model.*_proj") if tuning == "lora" else None,
    )
    trainer.model_accepts_loss_kwargs = True
    trainer.create_optimizer()
    batch = {name: value.to(DEVICE) if torch.is_tensor(value) else value for name, value in collator([row]).items()}
    return trainer, batch


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


def model_flops(trainer, batch: dict, tuning: str, variant: str) -> float:
    """Number of FLOP that a step needs. Recomputation for gradient checkpointing is not counted."""
    inputs = {name: value for name, value in batch.items() if name != "volumes" and not name.startswith("negative_")}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trainer.model(**inputs)
    forward = counter.get_total_flops()
    modules = counter.get_flop_counts()
    vision = max(sum(counts.values()) for name, counts in modules.items() if name.endswith(".visual"))
    # With LoRA, the frozen weights need no gradient, so their backward costs as much as their forward. The frozen
    # vision tower comes before all trained weights, so it needs no backward.
    backward = forward - vision if tuning == "lora" else 2 * forward
    passes = {"stock": (1, 1), "sequential, all capped": (2, 1)}.get(variant, (2, 2))
    return passes[0] * forward + passes[1] * backward


def measure(shape: str, tuning: str, variant: str, out: Path, repeats: int, ceiling: float) -> dict:
    """Time, peak memory and MFU of the steps of one variant."""
    trainer, batch = make_trainer(shape, tuning, variant, out)
    tokens = (batch["labels"] != -100).sum()

    def step() -> None:
        trainer.training_step(trainer.model, dict(batch), num_items_in_batch=tokens)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    flops = model_flops(trainer, batch, tuning, variant)
    step()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = seconds_of(step, repeats)
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
    print("targets: sequential <= 2.05x time and 1.1x memory of stock, all capped <= 1.45x time")
    print(f"{'':<36}{'s/step':>10}{'x stock':>9}{'peak GB':>9}{'x stock':>9}{'tokens/s':>10}{'MFU':>7}")
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
                    f"{shape + ' ' + tuning + ', ' + variant:<36}{row['seconds']:>10.3f}{time_ratio:>9}"
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
