"""
The command `ct-rate-pairs partners` (also `python -m ct_rate_pairs.partners`), which shows what each partner rule does
to a split.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ct_rate_pairs.command_line import CommandParser, add_data_dir, run
from ct_rate_pairs.config import LABEL_DISTANCE


def main(argv: Sequence[str]) -> None:
    """Runs the command with its arguments."""
    parser = CommandParser(
        "ct-rate-pairs partners",
        old_names={"json": "output_file"},
        description="""\
Show what the partner rules do to a split: which volumes serve as negatives, and how often.

The negative of a volume is a volume of another patient, its partner. With negative="heter" (section 7.2 of the
paper), the partner differs in at least 10 of the 18 labels. If no volume differs that much, the volumes that differ
most are used. With negative="hard" (future work in the paper), the partner differs in at most 3 labels and lacks a
finding of the report: a label that is 1 in the volume and 0 in the partner. If no such volume is that near, the
nearest such volumes are used. A volume without findings gets a near partner with a finding that the report denies.

Why look? Most scans have few findings, so only very sick scans differ from them in 10 labels. These few scans then
serve most draws, and a model can recognise the negative as "a very sick scan" without comparing it with the report.
What the table shows:
  - reuse: the share of volumes that serve half of the draws (a small share is bad), and the number of draws that the
    most used volume serves (a large number is bad);
  - label load: the positive labels of partners and of the cohort, and the prevalence of each label (a large difference
    is bad);
  - the histogram of label distances: bars outside the wanted distance mean that the split is too small for the rule.
With partner_sampling="balanced", rarely used partners are drawn more often, so that all volumes serve as equally as
the rule allows. The imbalance that remains comes from the rule itself: a smaller --min_label_distance reduces it.
With partner_sampling="mutual", the volumes of a training batch are each other's partners, so each serves once; a
training prints what that does to its label distances.

All numbers are expected values for an epoch with one draw per volume. Nothing is drawn, and no volume is read.""",
        epilog="examples:\n  ct-rate-pairs partners runs/phantom_cohort\n"
        "  ct-rate-pairs partners --split test --min_label_distance 7 --output_file partners.json",
    )
    add = parser.add_argument
    add_data_dir(parser)
    add("--split", choices=("train", "validation", "test"), default="train", help="(default: %(default)s)")
    distance = {"type": int, "range": LABEL_DISTANCE, "metavar": "N"}
    add("--min_label_distance", **distance, default=10, help="for heter, 1 to 18 (default: %(default)s)")
    add("--max_label_distance", **distance, default=3, help="for hard, 1 to 18 (default: %(default)s)")
    add("--output_file", type=Path, metavar="FILE", help="also write the numbers to this file")
    args = parser.parse_args(argv)

    from ct_rate_pairs.config import CTRatePairsConfig
    from ct_rate_pairs.reports.labels import LABELS
    from ct_rate_pairs.sources import open_source
    from ct_rate_pairs.splits import read_tables
    from ct_rate_pairs.whole_files import write_whole

    from .statistics import describe_partners, format_report

    table = read_tables(open_source(args.data_dir), CTRatePairsConfig(data_dir=args.data_dir))[args.split]
    if not len(table):
        raise ValueError(f"{args.data_dir or 'CT-RATE'} has no scan in the split '{args.split}'.")
    distances = (args.min_label_distance, args.max_label_distance)
    report = describe_partners(table[list(LABELS)].to_numpy(), table["patient"].tolist(), *distances)
    print(f"{args.data_dir or 'CT-RATE on the Hub'}, split {args.split}:\n{format_report(report)}")
    if args.output_file:
        args.output_file.parent.mkdir(parents=True, exist_ok=True)
        content = {"data_dir": args.data_dir, "split": args.split, **report}
        write_whole(args.output_file, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
