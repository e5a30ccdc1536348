"""
Is one run better than another, or is it chance? Every metric of two sets of reports of the same scans:

    python recipes/compare_runs.py --first runs/origin --second runs/heter --data_dir /path/to/CT-RATE

prints the difference with its interval (paired bootstrap by patient) and p (paired randomisation by patient).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from data_arguments import DataArguments
from datasets import load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.comparison import compare_reports
from ct_rate_pairs.eval.predictions import read_predictions, references_of


@dataclass
class ComparisonArguments(DataArguments):
    """Two runs, and the scans that both wrote reports for."""

    first: str = field(kw_only=True, metadata={"help": "Folder of a run, or a file of predictions."})
    second: str = field(kw_only=True, metadata={"help": "The one to compare with it."})
    split: str = field(default="test", metadata={"help": "test (CT-RATE's validation set), validation or train."})
    recipe: str = field(default="lower", metadata={"help": "Of the text metrics: lower, or vlm3d (the challenge's)."})
    labeler: str = field(
        default="rules", metadata={"help": "What reads generated reports: rules, or radbert:CHECKPOINT."}
    )
    ci: float = field(default=0.95, metadata={"help": "Level of the intervals."})
    seed: int = field(default=0, metadata={"help": "Of the draws and swaps."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write as well."})


def main(args: ComparisonArguments) -> None:
    runs = []
    for name in (args.first, args.second):
        path = Path(name)
        runs.append(read_predictions(path / "predictions.jsonl" if path.is_dir() else path))
    volumes = [volume for volume in runs[0] if volume in runs[1]]
    if not volumes:
        raise ValueError(f"{args.first} and {args.second} have no volume in common.")
    alone = [len(run) - len(volumes) for run in runs]
    scans = load_dataset("ct_rate_pairs", split=args.split, **args.dataset_options() | {"negative": "none"})
    references, labels = references_of(scans, volumes)
    reports = ([run[volume] for volume in volumes] for run in runs)
    options = {"labeler": args.labeler, "recipe": args.recipe, "ci": args.ci, "seed": args.seed}
    result = compare_reports(*reports, references, np.array(labels), volumes, **options)

    print(f"{len(volumes)} scans in both; {alone[0]} and {alone[1]} in one alone, left out")
    print(f"{'':<18}{'first':>8}{'second':>8}{'change':>9}{f'{args.ci:.0%} interval':>20}{'p':>8}")
    for metric, row in result.items():
        if row["difference"] is not None:
            low, high = row["ci"]
            print(
                f"{metric:<18}{row['first']:>8.3f}{row['second']:>8.3f}{row['difference']:>+9.3f}"
                f"{f'{low:+.3f} to {high:+.3f}':>20}{row['p']:>8.3f}"
            )
    print(f"labeler: {args.labeler}, recipe: {args.recipe}")
    if args.out:
        content = {"first": args.first, "second": args.second, "n": len(volumes), **options, "metrics": result}
        Path(args.out).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(*TrlParser((ComparisonArguments,)).parse_args_and_config())
