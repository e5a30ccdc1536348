"""
Does a model notice that a statement of a report does not fit the scan?

    python recipes/detect_errors.py --model runs/heter --data_dir /path/to/CT-RATE
    python recipes/detect_errors.py --model runs/errors --data_dir /path/to/CT-RATE --ask

In each report one statement is turned into its opposite. A model that writes reports finds it by the loss of its
words given the scan, against noise; one trained on `ct_rate_pairs.eval.report_flips.with_errors` is asked for its
number (`--ask`). Prints a table and writes JSON. `docs/error_detection.md` says how to read it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from data_arguments import DataArguments
from datasets import load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.bootstrap import check_level
from ct_rate_pairs.eval.error_detection import detect_by_answer, detect_by_likelihood, format_detection
from ct_rate_pairs.eval.load_model import is_model_folder, load_model, version_of
from ct_rate_pairs.eval.predictions import references_of
from ct_rate_pairs.eval.report_flips import collect_statements
from ct_rate_pairs.trainer import read_row_settings


@dataclass
class DetectionArguments(DataArguments):
    """A model, and the scans whose reports get an error."""

    model: str = field(kw_only=True, metadata={"help": "Model or adapter: folder, or name on the Hub."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."})
    ask: bool = field(default=False, metadata={"help": "Ask for the number, of a model that was trained to tell it."})
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
            "help": "JSON file. By default MODEL/evaluation/errors.json, runs/USER-MODEL/errors.json for the Hub."
        },
    )


def output_file(args: DetectionArguments) -> Path:
    if args.out:
        return Path(args.out)
    name = "asked_errors.json" if args.ask else "errors.json"
    if is_model_folder(args.model):
        return Path(args.model) / "evaluation" / name
    return Path("runs") / args.model.replace("/", "-") / name


def main(args: DetectionArguments) -> None:
    check_level(args.ci)
    options = read_row_settings(args.model, args.revision) | args.dataset_options()
    dataset = load_dataset("ct_rate_pairs", **options | {"negative": "none", "task": "report"})
    rows = dataset[args.split]
    rows = rows.select(range(min(args.scans or len(rows), len(rows))))
    statements = collect_statements(references_of(dataset["train"])[1])
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model, collator = load_model(args.model, args.revision, args.dtype, device)
    if args.ask:
        result = detect_by_answer(
            model, collator, rows, statements, seed=args.seed, language=args.prompt or "en", ci=args.ci
        )
    else:
        result = detect_by_likelihood(
            model, collator, rows, statements, seed=args.seed, batch_size=args.batch_size, ci=args.ci
        )
    out = output_file(args)
    out.parent.mkdir(parents=True, exist_ok=True)
    asked = {"model": version_of(args.model, args.revision), "split": args.split, "seed": args.seed}
    out.write_text(json.dumps(asked | result, indent=2) + "\n")
    print(format_detection(result), f"written to {out}", sep="\n")


if __name__ == "__main__":
    main(*TrlParser((DetectionArguments,)).parse_args_and_config())
