"""Compares two runs on the same scans: how much their numbers differ, and whether chance explains the difference."""

from collections.abc import Callable, Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.bootstrap import check_level, interval, known, patient_ids, resample
from ct_rate_pairs.eval.metrics.crg import crg_score
from ct_rate_pairs.eval.metrics.label_metrics import accuracy_scores, coverage_scores, label_statistics
from ct_rate_pairs.eval.metrics.text_metrics import overlap_scores, prepare, text_statistics
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.readable import check_given, check_mostly_read
from ct_rate_pairs.trainer.hub_files import check_name

from .labelers import label_predictions
from .places import place_scores, place_statistics, read_places


def compare_reports(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    labels: np.ndarray,
    volumes: Sequence[str],
    *,
    labeler: str = "rules",
    recipe: str = "lower",
    meteor: bool = False,
    bertscore_model: str | None = None,
    ci: float = 0.95,
    seed: int = 0,
) -> dict[str, dict]:
    """
    Compares the reports of two runs on the same scans by every metric, see [`compare`].

    Args:
        first (`Sequence[str]`), second (`Sequence[str]`):
            The reports of each run.
        references (`Sequence[str]`), labels (`np.ndarray` of shape `[N, 18]`), volumes (`Sequence[str]`):
            Reference reports, true labels and volume names of the scans.
        labeler (`str`, *optional*, defaults to `"rules"`), recipe (`str`, *optional*, defaults to `"lower"`), \
        meteor (`bool`, *optional*, defaults to `False`), bertscore_model (`str`, *optional*):
            See [`~ct_rate_pairs.eval.score_reports`].
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the intervals.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the bootstrap and of the randomisation test.

    Returns:
        `dict`: maps each metric to `first`, `second`, `difference`, `ci` and `p`.
    """
    if bertscore_model is not None:
        check_name(bertscore_model)
    check_given(references)
    if labeler == "rules":
        check_mostly_read(references, "references")

    placed = read_places(references)

    def statistics(reports: Sequence[str]) -> dict[str, np.ndarray]:
        """Statistics of each report, for the metrics of labels, places and texts."""
        # Both parts hold "reports", a one for each report.
        found = label_statistics(label_predictions(reports, labeler)[0], labels, LABELS)
        prepared = prepare(reports, references, recipe)
        found |= place_statistics(read_places(reports), placed)
        return found | text_statistics(*prepared, meteor=meteor, bertscore_model=bertscore_model)[0]

    def score(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All metrics, from the sums of the statistics."""
        of_labels = coverage_scores(sums) | accuracy_scores(sums) | crg_score(sums)
        return of_labels | place_scores(sums) | overlap_scores(sums)

    patients = patient_ids(volumes, len(references))
    return compare(statistics(first), statistics(second), score, patients, ci=ci, seed=seed)


def compare(
    first: dict[str, np.ndarray],
    second: dict[str, np.ndarray],
    score: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    patients: np.ndarray,
    *,
    ci: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float | list[float] | None]]:
    r"""
    Compares two sets of reports of the same scans in pairs.

    The interval comes from a paired bootstrap: each resample draws the same patients for both runs and takes the
    difference. `p` comes from a paired randomisation test, which swaps the reports of random patients between the
    runs: \\(p = (1 + \#\{|d_r| \ge |d|\}) / (1 + R)\\), with \\(d\\) the observed difference and \\(d_r\\) the
    difference after the \\(r\\)-th of \\(R\\) random swaps. Patients are drawn and swapped instead of single
    reports, because the scans of a patient are not independent.

    Args:
        first (`dict[str, np.ndarray]`), second (`dict[str, np.ndarray]`):
            Statistics of each run: arrays of shape `[N, ...]`, one row per report, for the same scans in the same
            order.
        score (`Callable`):
            Function from the sums of the statistics to named numbers, as for
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].
        patients (`np.ndarray` of shape `[N]`):
            Number of each report's patient, from [`~ct_rate_pairs.eval.metrics.bootstrap.patient_ids`].
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the interval.
        resamples (`int`, *optional*, defaults to `1000`):
            Number of bootstrap resamples, and number of random swaps.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the bootstrap and of the randomisation test.

    Returns:
        `dict`: maps each number to `first`, `second`, their `difference` (second less first), its interval `ci`, and
        `p`. An undefined number is `None`; `ci` is `None` if there is only one patient.

    Raises:
        `ValueError`: if `ci` is not between 0 and 1.
    """
    check_level(ci)
    lone = patients.max() == 0
    values = [score({name: array.sum(axis=0) for name, array in run.items()}) for run in (first, second)]
    draws = [score(resample(run, patients, resamples, seed)) for run in (first, second)]
    swapped = [score(sums) for sums in _swap(first, second, patients, resamples, seed)]
    result = {}
    for name in values[0]:
        difference = values[1][name] - values[0][name]
        by_chance = swapped[1][name] - swapped[0][name]
        # Sums that are added in another order differ in the last digits.
        as_large = np.abs(by_chance[~np.isnan(by_chance)]) >= np.abs(difference) - 1e-12
        result[name] = {
            "first": known(values[0][name]),
            "second": known(values[1][name]),
            "difference": known(difference),
            "ci": None if lone else interval(draws[1][name] - draws[0][name], ci),
            "p": None if np.isnan(difference) else (1 + int(as_large.sum())) / (1 + len(as_large)),
        }
    return result


def _swap(
    first: dict[str, np.ndarray], second: dict[str, np.ndarray], patients: np.ndarray, times: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Sums `[times, ...]` of both runs, after swapping each patient's reports between them with probability 1/2."""
    flips = random_stream(seed, 1).integers(0, 2, (times, patients.max() + 1)).astype(float)
    sums = ({}, {})
    for name, values in first.items():
        moved = np.zeros((flips.shape[1], *values.shape[1:]))
        np.add.at(moved, patients, second[name].astype(float) - values)
        change = np.tensordot(flips, moved, axes=1)
        sums[0][name] = values.sum(axis=0) + change
        sums[1][name] = second[name].sum(axis=0) - change
    return sums
