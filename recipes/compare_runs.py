"""
Is one run better than another, or is it chance? Every metric of two sets of reports of the same scans:

    python recipes/compare_runs.py --first runs/origin --second runs/heter --data_dir /path/to/CT-RATE

prints the difference with its interval (paired bootstrap by patient) and p (paired randomisation by patient).
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datasets import load_dataset
from trl import TrlParser

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.eval.predictions.provenance import check_references, row_settings_of
from ct_rate_pairs.eval.predictions.store import find_predictions, read_predictions
from ct_rate_pairs.eval.rows import references_of, select_volumes
from ct_rate_pairs.eval.scoring.comparison import compare_reports
from ct_rate_pairs.recipes.arguments import ScanArguments


@dataclass
class ComparisonArguments(ScanArguments):
    """Two runs, and the scans that both wrote reports for."""

    first: str = field(kw_only=True, metadata={"help": "Folder of a run, or a file of predictions."})
    second: str = field(kw_only=True, metadata={"help": "The one to compare with it."})
    split: Literal["test", "validation", "train"] = field(
        default="test", metadata={"help": "test is CT-RATE's validation set."}
    )
    recipe: str = field(default="lower", metadata={"help": "Of the text metrics: lower, or vlm3d (the challenge's)."})
    labeler: str = field(
        default="rules", metadata={"help": "What reads generated reports: rules, or radbert:CHECKPOINT."}
    )
    meteor: bool = field(default=False, metadata={"help": "METEOR too; it needs Java."})
    bertscore_model: str | None = field(default=None, metadata={"help": "Encoder for BERTScore: name or folder."})
    ci: float = field(default=0.95, metadata={"help": "Level of the intervals."})
    seed: int = field(default=0, metadata={"help": "Of the draws and swaps."})
    out: str | None = field(default=None, metadata={"help": "JSON file to write as well."})


def main(args: ComparisonArguments) -> None:
    paths = [find_predictions(name) for name in (args.first, args.second)]
    runs = [read_predictions(path) for path in paths]
    shared = [volume for volume in runs[0] if volume in runs[1]]
    if not shared:
        raise ValueError(f"{args.first} and {args.second} have no volume in common.")
    options = row_settings_of(paths[0]) | args.dataset_options() | {"negative": "none", "task": "report"}
    scans = load_dataset("ct_rate_pairs", split=args.split, **options)
    for path in paths:
        check_references(path, scans, args.split)
    volumes, references, labels = references_of(select_volumes(scans, shared))
    reports = ([run[volume] for volume in volumes] for run in runs)
    scoring = ("labeler", "recipe", "meteor", "bertscore_model", "ci", "seed")
    scoring = {name: getattr(args, name) for name in scoring}
    result = compare_reports(*reports, references, labels, volumes, **scoring)

    alone = [len(run) - len(shared) for run in runs]
    print(f"{len(shared)} scans in both; {alone[0]} and {alone[1]} in one alone, left out")
    print(f"{'':<18}{'first':>8}{'second':>8}{'change':>9}{f'{args.ci:.0%} interval':>20}{'p':>8}")
    for metric, row in result.items():
        if row["difference"] is not None:
            bounds = f"{row['ci'][0]:+.3f} to {row['ci'][1]:+.3f}" if row["ci"] else "one patient"
            print(
                f"{metric:<18}{row['first']:>8.3f}{row['second']:>8.3f}{row['difference']:>+9.3f}"
                f"{bounds:>20}{row['p']:>8.3f}"
            )
    print(f"labeler: {args.labeler}, recipe: {args.recipe}")
    if args.out:
        content = {"first": args.first, "second": args.second, "n": len(shared), **scoring, "metrics": result}
        Path(args.out).write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(*TrlParser((ComparisonArguments,)).parse_args_and_config())
