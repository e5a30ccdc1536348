"""Scores findings lines on their own: against the scans, against the reports below them, and as probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.bootstrap import divide, estimate
from ct_rate_pairs.eval.metrics.calibration import calibration_error_by_chance
from ct_rate_pairs.eval.metrics.label_metrics import coverage, label_accuracy
from ct_rate_pairs.reports.findings_line import form_of, open_text, sides_of
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.places import LATERAL, Place

from .label_calibration import calibrate, judge
from .operating_points import CURVE, LineCalibration
from .places import PlacedFindings, place_scores, place_statistics, score_common_places


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
        line, whatever the sides, among those with a line; `line_malformed`, the number of reports without a line, or
        with one that is not as [`~ct_rate_pairs.reports.findings_line.write_line`] writes it. Such a line states no
        label. With `ci` also the intervals.
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


def score_line_sides(
    lines: Mapping[str, str],
    volumes: Sequence[str],
    reports: Sequence[PlacedFindings],
    references: Sequence[PlacedFindings],
    training: Sequence[PlacedFindings],
    *,
    ci: float | None = None,
) -> dict:
    """
    Scores the sides that findings lines state, by the rules of [`~ct_rate_pairs.eval.scoring.places.score_places`].

    Args:
        lines (`Mapping[str, str]`), volumes (`Sequence[str]`), ci (`float`, *optional*):
            As for [`score_lines`].
        reports (`Sequence[PlacedFindings]`), references (`Sequence[PlacedFindings]`):
            What [`~ct_rate_pairs.eval.scoring.places.read_places`] reads from the `N` reports below the lines, and
            from their references.
        training (`Sequence[PlacedFindings]`):
            The same of the reports of the training split.

    Returns:
        `dict`: empty if no line is of the form `"sides"`. Otherwise:

        - `line_side`: of the `line_sides` findings that line and reference both place, the share with the same side.
        - `line_side_common`: the same if each line names the most common side of a finding, not its own side.
        - `line_side_followed`: of the `line_sides_placed` findings whose side the line names and the report places,
          the share that the report places on this side.

        A share of nothing is `None`. With `ci` also the intervals.
    """
    own = [lines.get(volume, "") for volume in volumes]
    if not any(form and form[0] == "sides" for form in map(form_of, own)):
        return {}
    placed = [
        PlacedFindings(
            frozenset(label for label in LATERAL if labels and labels[label]),
            {label: Place(side, frozenset()) for label, side in sides_of(line).items()},
        )
        for line in own
        for labels in [open_text(line).labels]
    ]
    scores = {}
    compared = (("line_side", "line_sides", references), ("line_side_followed", "line_sides_placed", reports))
    for name, count, others in compared:
        statistics = place_statistics(placed, others)

        def side(sums: dict[str, np.ndarray], name: str = name) -> dict[str, np.ndarray]:
            return {name: place_scores(sums)["side_accuracy"]}

        scores |= estimate(statistics, side, volumes, ci) | {count: int(statistics["sides"].sum())}
    scores["line_side_common"] = score_common_places(placed, references, training)["side_accuracy_common"]
    return {name: value for name, value in scores.items() if name != "ci_level"}


def score_following(lines: Mapping[str, str], volumes: Sequence[str], stated: np.ndarray) -> dict:
    """
    How well reports follow the findings lines that were set before them.

    Args:
        lines (`Mapping[str, str]`):
            Maps a VolumeName to its findings line.
        volumes (`Sequence[str]`):
            VolumeNames of the `N` reports.
        stated (`np.ndarray` of shape `[N, 18]`):
            Labels that the reports state, 0 or 1.

    Returns:
        `dict`: `line_followed`, the share of the reports that state just the labels of their line, among those with a
        sound line; `line_followed_per_label`, which maps each label to `followed`, the share of these reports that
        agree with their line on the label, and to `stated`, this share among the reports whose line states the label.
        A share of no report is `None`. For the sides see [`score_line_sides`].
    """
    read = [open_text(lines.get(volume, "")).labels for volume in volumes]
    given = np.array([labels is not None for labels in read])
    of_lines = np.array([labels for labels in read if labels is not None]).reshape(-1, len(LABELS))
    agree = of_lines == stated[given]  # [G, 18]

    def share(of: np.ndarray) -> float | None:
        """The share of what is true; `None` of nothing."""
        return float(of.mean()) if len(of) else None

    per_label = {
        label: {"followed": share(agree[:, i]), "stated": share(agree[of_lines[:, i] == 1, i])}
        for i, label in enumerate(LABELS)
    }
    return {"line_followed": share(agree.all(axis=1)), "line_followed_per_label": per_label}


def score_probabilities(
    logits: Mapping[str, Sequence[float]],
    volumes: Sequence[str],
    labels: np.ndarray,
    train_labels: np.ndarray,
    calibration: LineCalibration | None = None,
) -> dict:
    """
    Scores the probabilities that a model's findings lines give the 18 labels.

    Args:
        logits (`Mapping[str, Sequence[float]]`):
            Maps a VolumeName to the log-odds of the 18 labels, see
            [`~ct_rate_pairs.eval.predictions.store.read_line_logits`].
        volumes (`Sequence[str]`):
            VolumeNames of the `N` scans.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        train_labels (`np.ndarray` of shape `[M, 18]`):
            Labels of the training split. The share of each label is what to predict without looking at a scan.
        calibration ([`~ct_rate_pairs.eval.scoring.operating_points.LineCalibration`], *optional*):
            Calibration on validation scans. Without one, the probabilities are measured as the model gives them, and
            there is no operating curve.

    Returns:
        `dict`: over the scans whose log-odds are known, `line_auroc`, `line_brier`, `line_brier_ratio` (the Brier
        score as a share of the prevalence's) and `line_ece`, see
        [`~ct_rate_pairs.eval.scoring.label_calibration.judge`]; `line_ece_by_chance`, the calibration error that right
        probabilities would have on as many scans; `line_calibrated`, whether there is a calibration;
        `line_unknown`, the number of scans whose log-odds are not known; with a calibration also `operating_curve`,
        see [`operating_curve`].
    """
    known = [place for place, volume in enumerate(volumes) if volume in logits]
    counts = {"line_calibrated": calibration is not None, "line_unknown": len(volumes) - len(known)}
    if not known:
        return counts
    odds, labels = np.array([logits[volumes[place]] for place in known]), labels[known]
    none = np.ones(len(LABELS)), np.zeros(len(LABELS))
    probabilities = calibration.at("f1").probabilities(odds) if calibration else calibrate(odds, *none)
    quality = judge(probabilities, labels, train_labels.mean(axis=0))
    scores = {f"line_{name}": quality[name] for name in ("auroc", "brier", "brier_ratio", "ece")} | counts
    scores["line_ece_by_chance"] = calibration_error_by_chance(probabilities.ravel())
    return scores | ({"operating_curve": operating_curve(odds, labels, calibration)} if calibration else {})


def operating_curve(logits: np.ndarray, labels: np.ndarray, calibration: LineCalibration) -> dict[str, dict]:
    """
    What findings lines would be right about at several operating points. No report is written for it.

    `logits` and true `labels` are of `N` scans, `[N, 18]`. Maps `"f1"` and each sensitivity of `CURVE` to `coverage`,
    `precision_micro`, `f1_micro` and `f1_macro` of the lines.
    """
    curve = {}
    for point in ("f1", *CURVE):
        lines = calibration.at(point).decide(logits)
        scores = coverage(lines, labels, LABELS) | label_accuracy(lines, labels, LABELS)
        curve[str(point)] = {name: scores[name] for name in ("coverage", "precision_micro", "f1_micro", "f1_macro")}
    return curve


def _agreement(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"line_agreement": divide(sums["agree"], sums["given"])}
