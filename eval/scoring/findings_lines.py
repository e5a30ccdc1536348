"""Scores findings lines on their own, and compares each line with the report below it."""

from collections.abc import Mapping, Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.bootstrap import divide, estimate
from ct_rate_pairs.eval.metrics.label_metrics import coverage, label_accuracy
from ct_rate_pairs.reports.findings_line import open_text
from ct_rate_pairs.reports.labels import LABELS


MEASURES = ("coverage", "precision_micro", "f1_micro", "f1_macro", "accuracy")


def score_lines(
    lines: Mapping[str, str],
    volumes: Sequence[str],
    stated: np.ndarray,
    labels: np.ndarray,
    *,
    ci: float | None = None,
) -> dict:
    """
    Scores the findings lines of a model.

    Args:
        lines (`Mapping[str, str]`):
            Maps a VolumeName to the findings line that the model wrote before its report.
        volumes (`Sequence[str]`):
            VolumeNames of the `N` reports.
        stated (`np.ndarray` of shape `[N, 18]`):
            Labels that the reports state, 0 or 1.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. By default no intervals are computed.

    Returns:
        `dict`: `line_coverage`, `line_precision_micro`, `line_f1_micro`, `line_f1_macro` and `line_accuracy` of the
        lines against the true labels; `line_agreement`, the share of the reports that state just the labels of their
        line, among those with a line; `line_malformed`, the number of reports without a line, or with one that is not
        as [`~ct_rate_pairs.reports.findings_line.write_line`] writes it. Such a line states no label. With `ci` also
        the intervals.
    """
    read = [open_text(lines.get(volume, "")).labels for volume in volumes]
    given = np.array([labels_of is not None for labels_of in read])
    of_lines = np.array([labels_of or (0,) * len(LABELS) for labels_of in read])  # [N, 18]
    by_patient = {"volumes": volumes, "ci": ci}
    scores = coverage(of_lines, labels, LABELS, **by_patient) | label_accuracy(of_lines, labels, LABELS, **by_patient)
    names = [name for measure in MEASURES for name in (measure, f"{measure}_ci") if name in scores]
    agreement = estimate({"agree": given & (of_lines == stated).all(axis=1), "given": given}, _agreement, volumes, ci)
    return {
        **{f"line_{name}": scores[name] for name in names},
        **{name: value for name, value in agreement.items() if name != "ci_level"},
        "line_malformed": int((~given).sum()),
    }


def _agreement(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"line_agreement": divide(sums["agree"], sums["given"])}
