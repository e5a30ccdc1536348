"""
Does a model notice that a statement of a report does not fit the scan?

    python recipes/detect_errors.py --model runs/heter --data_dir /path/to/CT-RATE

In each report one statement is turned into its opposite. A model that writes reports finds it by the loss of its
words given the scan, against noise; one that was trained to tell its number (`recipes/configs/errors.yaml`) is asked
by `recipes/evaluate_task.py --task errors`. Prints a table and writes it beside `results.json`.
`docs/error_detection.md` says how to read it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from datasets import load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.load_model import is_model_folder, load_model, version_of
from ct_rate_pairs.eval.metrics.bootstrap import check_level
from ct_rate_pairs.eval.rows import references_of
from ct_rate_pairs.eval.tasks.errors import detect_by_likelihood, write_detection
from ct_rate_pairs.recipes.arguments import ScanArguments
from ct_rate_pairs.trainer import read_row_settings


@dataclass
class DetectionArguments(ScanArguments):
    """A model, and the scans whose reports get an error."""

    model: str = field(kw_only=True, metadata={"help": "Model or adapter: folder, or name on the Hub."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."})
    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "test is CT-RATE's validation set."}
    )
    scans: int = field(default=0, metadata={"help": "First scans of the split; 0: all."})
    batch_size: int = field(default=8, metadata={"help": "Reports at a time."})
    dtype: str = field(default="auto", metadata={"help": "Type of the weights; auto: as they were saved."})
    ci: float = field(default=0.95, metadata={"help": "Level of the bootstrap intervals by patient."})
    seed: int = field(default=0, metadata={"help": "Of the errors and of the noise."})
    out: str | None = field(
        default=None,
        metadata={
            "help": "Folder for all of it. By default MODEL/evaluation/error_losses, runs/USER-MODEL/error_losses for "
            "the Hub."
        },
    )


def output_folder(args: DetectionArguments) -> Path:
    if args.out:
        return Path(args.out)
    if is_model_folder(args.model):
        return Path(args.model) / "evaluation" / "error_losses"
    return Path("runs") / args.model.replace("/", "-") / "error_losses"


def main(args: DetectionArguments) -> None:
    check_level(args.ci)
    options = read_row_settings(args.model, args.revision) | args.dataset_options()
    dataset = load_dataset("ct_rate_pairs", **options | {"negative": "none", "task": "report"})
    rows = dataset[args.split]
    train_volumes, train_reports, _ = references_of(dataset["train"])
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model, collator = load_model(args.model, args.revision, args.dtype, device)
    sizes = {"num_scans": args.scans or None, "seed": args.seed, "batch_size": args.batch_size, "ci": args.ci}
    result = detect_by_likelihood(model, collator, rows, train_volumes, train_reports, **sizes)
    asked = {"model": version_of(args.model, args.revision), "split": args.split, "seed": args.seed}
    write_detection(asked | result, rows, output_folder(args))


if __name__ == "__main__":
    main(*TrlParser((DetectionArguments,)).parse_args_and_config())
