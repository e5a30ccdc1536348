"""What each partner rule does to a split, as a table: the command `python -m ct_rate_pairs.partners`."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from .builder import CTRatePairsConfig
from .labels import LABELS
from .partners import PartnerSampler
from .source import open_source
from .tables import read_tables


RULES = (("heter", "uniform"), ("heter", "balanced"), ("hard", "uniform"), ("hard", "balanced"))
BAR = 12  # characters of a whole bar of the histogram

# Lines of the table: key of `PartnerSampler.statistics`, words for it, how to print the value
LINES = (
    ("share_with_a_partner", "volumes with a partner at the distance", "{:.1%}"),
    ("share_of_draws_that_lack_a_finding", "draws that lack a finding of the report", "{:.1%}"),
    ("share_of_volumes_that_serve_half_of_the_draws", "volumes that serve half of the draws", "{:.1%}"),
    ("most_draws_of_one_volume", "most draws of one volume, an epoch", "{:.1f}"),
    ("share_of_volumes_idle_in_an_epoch", "volumes that serve nobody in an epoch", "{:.1%}"),
    ("share_of_volumes_that_never_serve", "volumes that can never serve", "{:.1%}"),
    ("mean_positives_of_partner", "positive labels of a partner", "{:.2f}"),
)


def describe_partners(
    labels: np.ndarray, patients: list[str], min_label_distance: int = 10, max_label_distance: int = 3
) -> dict:
    """
    Compare the rules on a split.

    Args:
        labels (`np.ndarray`):
            0/1 labels of shape `[N, 18]`.
        patients (`list[str]`):
            Patient of each of the N volumes.
        min_label_distance, max_label_distance (`int`, *optional*, defaults to `10` and `3`):
            Of the heter and of the hard rule, see [`~ct_rate_pairs.partners.PartnerSampler`].

    Returns:
        `dict`: the cohort's numbers, and under `rules` one entry a rule: its
        [`~ct_rate_pairs.partners.PartnerSampler.statistics`], `prevalence` of each label among the partners, and
        `share_of_draws_at_distance`, 0 to 18.
    """
    report = {
        "volumes": len(labels),
        "patients": len(set(patients)),
        "min_label_distance": min_label_distance,
        "max_label_distance": max_label_distance,
        "mean_positives": float(labels.sum(axis=1).mean()),
        "prevalence": _by_label(labels.mean(axis=0)),
        "rules": {},
    }
    for kind, sampling in RULES:
        sampler = PartnerSampler(
            labels, patients, min_label_distance, sampling, kind == "hard", max_label_distance=max_label_distance
        )
        has_label = sampler.patterns[:, None] >> np.arange(len(LABELS)) & 1  # [P, 18]
        report["rules"][f"{kind} {sampling}"] = {
            **sampler.statistics(),
            "prevalence": _by_label(sampler.expected_draws.of_pattern @ has_label / len(labels)),
            "share_of_draws_at_distance": (sampler.expected_draws.at_distance / len(labels)).tolist(),
        }
    return report


def _by_label(values: np.ndarray) -> dict[str, float]:
    return dict(zip(LABELS, values.tolist(), strict=True))


def format_report(report: dict) -> str:
    """What [`describe_partners`] found, as text for a terminal."""
    rules = report["rules"]
    first = next(iter(rules.values()))

    def line(name: str, cells: list[str], cohort: str = "") -> str:
        return f"{name:<40} {cohort:>7}" + "".join(f"{cell:>17}" for cell in cells)

    lines = [
        f"{report['volumes']:,} volumes, {report['patients']:,} patients, {first['label_patterns']:,} label patterns",
        f"heter: {report['min_label_distance']} labels or more differ; hard: {report['max_label_distance']} or fewer",
        "",
        line("", list(rules), "cohort"),
    ]
    for key, name, number in LINES:
        positives = f"{report['mean_positives']:.2f}" if key == "mean_positives_of_partner" else ""
        lines.append(line(name, [number.format(rule[key]) for rule in rules.values()], positives))
    lines += ["", "Prevalence of each label, among the partners and in the cohort"]
    for label, share in report["prevalence"].items():
        lines.append(line(label, [f"{rule['prevalence'][label]:.1%}" for rule in rules.values()], f"{share:.1%}"))
    lines += ["", "Draws by how many labels differ", " " * 9 + "".join(f"{name:<23}" for name in rules).rstrip()]
    shares = np.array([rule["share_of_draws_at_distance"] for rule in rules.values()])  # [rules, 19]
    bars = np.round(BAR * shares / shares.max(axis=1, keepdims=True)).astype(int)
    seen = np.flatnonzero(shares.any(axis=0))
    for distance in range(seen[0], seen[-1] + 1):
        cells = [
            f"{share:.1%}".rjust(6) + f" {'#' * bar:<{BAR + 4}}" if share else " " * (BAR + 11)
            for share, bar in zip(shares[:, distance], bars[:, distance], strict=True)
        ]
        lines.append(f"{distance:>6}   {''.join(cells)}".rstrip())
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m ct_rate_pairs.partners",
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
What is left then is the rule's doing: a smaller --min-label-distance is the remedy.

All numbers are expectations over an epoch of one draw a volume; nothing is drawn and no volume is read.""",
        epilog="examples:\n  python -m ct_rate_pairs.partners runs/phantom_cohort\n"
        "  python -m ct_rate_pairs.partners --split test --min-label-distance 7 --json partners.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data_dir", nargs="?", metavar="DIR", help="tree, phantom or prepared copy (default: CT-RATE on the Hub)")
    add("--split", choices=("train", "validation", "test"), default="train", help="(default: %(default)s)")
    add("--min-label-distance", type=int, default=10, metavar="N", help="of heter, 1 to 18 (default: %(default)s)")
    add("--max-label-distance", type=int, default=3, metavar="N", help="of hard, 1 to 18 (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the numbers to this file too")
    args = parser.parse_args()
    try:
        table = read_tables(open_source(args.data_dir), CTRatePairsConfig(data_dir=args.data_dir))[args.split]
        if not len(table):
            raise ValueError(f"{args.data_dir or 'CT-RATE'} has no scan in the split '{args.split}'.")
        distances = (args.min_label_distance, args.max_label_distance)
        report = describe_partners(table[list(LABELS)].to_numpy(), table["patient"].tolist(), *distances)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.data_dir or 'CT-RATE on the Hub'}, split {args.split}:\n{format_report(report)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"data_dir": args.data_dir, "split": args.split, **report}, indent=2) + "\n")
