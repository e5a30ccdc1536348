"""`ct-rate-pairs partners`, also `python -m ct_rate_pairs.partners`: what each partner rule does to a split."""

import json
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, run


def main(argv: Sequence[str]) -> None:
    parser = CommandParser(
        "ct-rate-pairs partners",
        description="""\
Show what the partner rules do to a split: which volumes serve as negatives, and how often.

With negative="heter" (the paper, section 7.2) each volume gets as its negative a volume of another patient whose
labels differ in at least 10 of 18; where none does, the farthest there are. With negative="hard" (section 11.2, future
work 2) it gets one that differs in at most 3 labels, yet lacks a finding of the report: a label that is 1 in the
volume and 0 in the partner. Where none is so near, the nearest that lacks one. A volume without findings gets, as
near, one with a finding that its report denies.

Why look? Most scans have few findings, so only very sick ones are 10 labels away from them. The few very sick scans
then serve most draws, and a model can tell the negative by "a very sick scan" instead of comparing the scan with
the report. Read off
  - reuse: how few volumes serve half of the draws, and how often the busiest one does. Small is bad;
  - label load: positive labels of partners against the cohort's, and each label's prevalence. Far apart is bad;
  - the histogram: where bars stand outside the distance asked for, the split is too small for the rule.
partner_sampling="balanced" draws rare partners more often, so that volumes serve as equally as the rule lets them.
What is left then is the rule's doing: a smaller --min_label_distance is the remedy.

All numbers are expectations over an epoch of one draw a volume; nothing is drawn and no volume is read.""",
        epilog="examples:\n  ct-rate-pairs partners runs/phantom_cohort\n"
        "  ct-rate-pairs partners --split test --min_label_distance 7 --json partners.json",
    )
    add = parser.add_argument
    add("data_dir", nargs="?", metavar="DIR", help="tree, phantom or prepared copy (default: CT-RATE on the Hub)")
    add("--split", choices=("train", "validation", "test"), default="train", help="(default: %(default)s)")
    add("--min_label_distance", type=int, default=10, metavar="N", help="of heter, 1 to 18 (default: %(default)s)")
    add("--max_label_distance", type=int, default=3, metavar="N", help="of hard, 1 to 18 (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file too")
    args = parser.parse_args(argv)

    from ct_rate_pairs.config import CTRatePairsConfig
    from ct_rate_pairs.reports.labels import LABELS
    from ct_rate_pairs.sources import open_source
    from ct_rate_pairs.splits import read_tables

    from .statistics import describe_partners, format_report

    table = read_tables(open_source(args.data_dir), CTRatePairsConfig(data_dir=args.data_dir))[args.split]
    if not len(table):
        raise ValueError(f"{args.data_dir or 'CT-RATE'} has no scan in the split '{args.split}'.")
    distances = (args.min_label_distance, args.max_label_distance)
    report = describe_partners(table[list(LABELS)].to_numpy(), table["patient"].tolist(), *distances)
    print(f"{args.data_dir or 'CT-RATE on the Hub'}, split {args.split}:\n{format_report(report)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"data_dir": args.data_dir, "split": args.split, **report}, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
