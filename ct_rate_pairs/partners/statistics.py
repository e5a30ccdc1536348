"""What each partner rule does to a split, as numbers and as a table (`ct-rate-pairs partners` prints it)."""

import numpy as np

from ct_rate_pairs.reports.labels import LABELS

from .sampler import PartnerSampler


RULES = (("heter", "uniform"), ("heter", "balanced"), ("hard", "uniform"), ("hard", "balanced"))
BAR = 12  # length of the longest bar of the histogram, in characters

# Lines of the table: key of `PartnerSampler.statistics`, name of the line, format of the value.
LINES = (
    ("share_with_a_partner", "volumes with a partner at the distance", "{:.1%}"),
    ("share_of_draws_that_lack_a_finding", "draws that lack a finding of the report", "{:.1%}"),
    ("share_of_volumes_that_serve_half_of_the_draws", "volumes that serve half of the draws", "{:.1%}"),
    ("most_draws_of_one_volume", "most draws of one volume, per epoch", "{:.1f}"),
    ("share_of_volumes_idle_in_an_epoch", "volumes that serve nobody in an epoch", "{:.1%}"),
    ("share_of_volumes_that_never_serve", "volumes that can never serve", "{:.1%}"),
    ("mean_positives_of_partner", "positive labels of a partner", "{:.2f}"),
)


def describe_partners(
    labels: np.ndarray, patients: list[str], min_label_distance: int = 10, max_label_distance: int = 3
) -> dict:
    """
    Compare the partner rules on a split.

    Args:
        labels (`np.ndarray`):
            0/1 labels of shape `[N, 18]`.
        patients (`list[str]`):
            Patient of each of the N volumes.
        min_label_distance (`int`, *optional*, defaults to `10`):
            Smallest label distance of a heter partner.
        max_label_distance (`int`, *optional*, defaults to `3`):
            Largest label distance of a hard partner.

    Returns:
        `dict`: the numbers of the cohort, and under `rules` one entry per rule. An entry has the
        [`~ct_rate_pairs.partners.sampler.PartnerSampler.statistics`] of the rule, the `prevalence` of each label among
        the partners, and `share_of_draws_at_distance` (19 shares, for the label distances 0 to 18).
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
    """The result of [`describe_partners`] as text for a terminal."""
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
