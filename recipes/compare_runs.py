"""
Is one run better than another, or is the difference chance? Compare two sets of reports of the same scans:

    ct-rate-pairs compare --first runs/origin --second runs/heter --data_dir /path/to/CT-RATE

For every metric, the command prints the difference with its interval (paired bootstrap by patient) and its p value
(paired randomisation test by patient).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ct_rate_pairs  # noqa: F401 (registers the dataset)
from ct_rate_pairs.command_line import run
from ct_rate_pairs.recipes.arguments import ScanArguments, ScoringArguments, SplitArguments
from ct_rate_pairs.recipes.recipe_parser import RecipeParser
from ct_rate_pairs.shown_text import for_terminal
from ct_rate_pairs.whole_files import write_whole


@dataclass
class ComparisonArguments(ScoringArguments, SplitArguments, ScanArguments):
    """Two runs, and the scans that both runs have reports of."""

    first: str = field(kw_only=True, metadata={"help": "Folder of a run, or a file of predictions."})
    second: str = field(
        kw_only=True, metadata={"help": "The run to compare with it: a folder, or a file of predictions."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the bootstrap and of the randomisation test."})
    output_file: str | None = field(default=None, metadata={"help": "JSON file to write the results to."})


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs compare`."""
    parser = RecipeParser([ComparisonArguments], "ct-rate-pairs compare", __doc__, {"out": "output_file"})
    (args,) = parser.parse(argv)

    from datasets import load_dataset

    from ct_rate_pairs.eval.predictions.provenance import check_references, differences, row_settings_of
    from ct_rate_pairs.eval.predictions.store import count_cut, find_predictions, read_cut, read_predictions
    from ct_rate_pairs.eval.rows import references_of, select_volumes
    from ct_rate_pairs.eval.scoring.comparison import compare_reports
    from ct_rate_pairs.reports.readable import is_missing
    from ct_rate_pairs.trainer.generation import cut_warning
    from ct_rate_pairs.trainer.row_settings import tell_assumed

    paths = [find_predictions(name) for name in (args.first, args.second)]
    runs = [read_predictions(path) for path in paths]
    shared = [volume for volume in runs[0] if volume in runs[1]]
    if not shared:
        raise ValueError(f"{args.first} and {args.second} have no volume in common.")
    for path in paths:
        tell_assumed(str(path), row_settings_of(path) | args.dataset_options(), settings=("target",))
    if changes := differences(*paths):
        print(for_terminal(f"The runs also differ in how they were made: {'; '.join(changes)}"))
    options = row_settings_of(paths[0]) | args.dataset_options() | {"negative": "none", "task": "report"}
    scans = load_dataset("ct_rate_pairs", split=args.split, **options)
    for path in paths:
        check_references(path, scans, args.split)
    volumes, references, labels = references_of(select_volumes(scans, shared))
    reports = ([run[volume] for volume in volumes] for run in runs)
    scoring = args.given(ScoringArguments) | {"ci": args.ci, "seed": args.seed}
    result = compare_reports(*reports, references, labels, volumes, **scoring)

    alone = [len(run) - len(shared) for run in runs]
    print(f"{len(shared)} scans in both; {alone[0]} and {alone[1]} in one alone, left out")
    print(format_comparison(result, args.ci))
    cut = [count_cut(read_cut(path), volumes) for path in paths]
    told = [str(counts["cut"]) if counts else "an unknown number" for counts in cut]
    print(f"cut at the limit of tokens: {told[0]} of the reports of first, {told[1]} of second")
    for name, counts in zip((args.first, args.second), cut, strict=True):
        if warning := cut_warning(counts.get("cut", 0), len(volumes)):
            print(f"{name}: {warning}")
    print(f"labeler: {args.labeler}, recipe: {args.recipe}")
    if any(empty := [sum(is_missing(run[volume]) for volume in shared) for run in runs]):
        print(f"{empty[0]} and {empty[1]} reports hold no text. They count as reports without a finding.")
    if args.output_file:
        content = {"first": args.first, "second": args.second, "n": len(shared), **scoring, "metrics": result}
        content["cut"] = dict(zip(("first", "second"), cut, strict=True))
        Path(args.output_file).parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.output_file, json.dumps(content, indent=2) + "\n")


def format_comparison(result: dict[str, dict], ci: float) -> str:
    """One line per metric for the terminal: both runs, their difference, its interval and its p value."""
    lines = [f"{'':<18}{'first':>8}{'second':>8}{'change':>9}{f'{ci:.0%} interval':>20}{'p':>8}"]
    for metric, row in result.items():
        if row["difference"] is not None:
            bounds = f"{row['ci'][0]:+.3f} to {row['ci'][1]:+.3f}" if row["ci"] else "one patient"
            lines.append(
                f"{metric:<18}{row['first']:>8.3f}{row['second']:>8.3f}{row['difference']:>+9.3f}"
                f"{bounds:>20}{row['p']:>8.3f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
