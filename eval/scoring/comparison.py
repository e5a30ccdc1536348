"""Two runs on the same scans: by how much they differ, and whether chance would do it too."""

from collections.abc import Callable, Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.bootstrap import check_level, interval, known, patient_ids, resample
from ct_rate_pairs.eval.metrics.crg import crg_score
from ct_rate_pairs.eval.metrics.label_metrics import accuracy_scores, coverage_scores, label_statistics
from ct_rate_pairs.eval.metrics.text_metrics import overlap_scores, prepare, text_statistics
from ct_rate_pairs.reports.labels import LABELS

from .labelers import label_reports


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
    Compares two runs' reports of the same scans by every metric ([`compare`]).

    Args:
        first (`Sequence[str]`), second (`Sequence[str]`):
            The reports of each run.
        references (`Sequence[str]`), labels (`np.ndarray` of shape `[N, 18]`), volumes (`Sequence[str]`):
            Reference reports, true labels and volume names of the scans.
        labeler (`str`, *optional*, defaults to `"rules"`), recipe (`str`, *optional*, defaults to `"lower"`), \
        meteor (`bool`, *optional*, defaults to `False`), bertscore_model (`str`, *optional*):
            As for [`~ct_rate_pairs.eval.score_reports`].
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the intervals.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws and swaps.

    Returns:
        `dict`: metric to `first`, `second`, `difference`, `ci` and `p`.
    """

    def statistics(reports: Sequence[str]) -> dict[str, np.ndarray]:
        # "reports", a one a report, is in both halves
        found = label_statistics(label_reports(reports, labeler), labels, LABELS)
        prepared = prepare(reports, references, recipe)
        return found | text_statistics(*prepared, meteor=meteor, bertscore_model=bertscore_model)[0]

    def score(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return coverage_scores(sums) | accuracy_scores(sums) | crg_score(sums) | overlap_scores(sums)

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
    Compares two sets of reports of the same scans, pair by pair.

    The interval is a paired bootstrap: the same patients are drawn for both runs, and the difference is taken in each
    draw. `p` is a paired randomisation test: if it did not matter which run wrote a patient's reports, swapping them
    at random would give a difference as large as the one seen in a share `p` of the swaps,
    \\((1 + \#\{|d_r| \ge |d|\}) / (1 + R)\\). Patients, not reports, are drawn and swapped: the scans of a patient are
    alike.

    Args:
        first (`dict[str, np.ndarray]`), second (`dict[str, np.ndarray]`):
            Statistics of each run, arrays of shape `[N, ...]`, a row a report, of the same scans in the same order.
        score (`Callable`):
            From their sums to named numbers, as for [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].
        patients (`np.ndarray` of shape `[N]`):
            Number of each report's patient.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the interval.
        resamples (`int`, *optional*, defaults to `1000`):
            Draws of the bootstrap, and swaps of the randomisation.
        seed (`int`, *optional*, defaults to `0`):
            Seed of both.

    Returns:
        `dict`: for each number `first`, `second`, their `difference` (second less first), its interval `ci` and `p`;
        `None` where a number has no meaning, and for the interval of a lone patient.

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
        # Sums in another order differ in the last digits.
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
    """Sums `[times, ...]` of both runs after each patient's reports went to the other run with probability 1/2."""
    flips = np.random.default_rng([seed, 1]).integers(0, 2, (times, patients.max() + 1)).astype(float)
    sums = ({}, {})
    for name, values in first.items():
        moved = np.zeros((flips.shape[1], *values.shape[1:]))
        np.add.at(moved, patients, second[name].astype(float) - values)
        change = np.tensordot(flips, moved, axes=1)
        sums[0][name] = values.sum(axis=0) + change
        sums[1][name] = second[name].sum(axis=0) - change
    return sums
