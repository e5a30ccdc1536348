"""
From statistics of single reports to the numbers of a whole set, with bootstrap intervals by patient.

Every metric here is a function of sums over the reports: hits, n-gram matches, lengths. A resample of the patients is
therefore a weighted sum, and all resamples together are one matrix product. This file imports numpy alone, because it
is also shipped beside the `evaluate` scripts.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np


def divide(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """`part / whole` elementwise; `empty` where `whole` is 0. NaN means undefined; [`known`] turns NaN into `None`."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.full(shape, empty), where=np.not_equal(whole, 0))


def known(value: np.generic | np.ndarray) -> float | int | None:
    """The value as a Python number for `json.dump`; `None` for NaN."""
    number = np.asarray(value).item()
    return None if math.isnan(number) else number


def patient_ids(volumes: Sequence[str] | None, reports: int) -> np.ndarray:
    """
    Numbers the patients of the reports.

    Args:
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, one per report. The first two parts name the patient: `train_1_a_1.nii.gz` belongs
            to `train_1`. By default each report counts as a patient of its own.
        reports (`int`):
            Number of reports.

    Returns:
        `np.ndarray`: int array of shape `[N]`; the patients are numbered from 0.

    Raises:
        `ValueError`: if the numbers of names and reports differ.
    """
    if volumes is None:
        return np.arange(reports)
    if len(volumes) != reports:
        raise ValueError(f"{len(volumes)} `volumes` for {reports} reports: pass one volume name per report.")
    # `ct_rate_pairs.volume_names.patient_of` does the same, but it is not shipped beside the metric scripts.
    return np.unique(["_".join(volume.split("_")[:2]) for volume in volumes], return_inverse=True)[1]


def resample(
    statistics: dict[str, np.ndarray], patients: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """
    Sums of the statistics over resamples. A resample draws patients with replacement; each brings all of its reports.

    Args:
        statistics (`dict[str, np.ndarray]`):
            Arrays of shape `[N, ...]`, one row per report.
        patients (`np.ndarray` of shape `[N]`):
            Number of each report's patient, from [`patient_ids`].
        resamples (`int`, *optional*, defaults to `1000`):
            Number of resamples. Each draws as many patients as there are.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws. The same seed and patients give the same draws, so two models that are scored on the
            same scans are compared in pairs.

    Returns:
        `dict[str, np.ndarray]`: the sums of each statistic, of shape `[resamples, ...]`.
    """
    size = patients.max() + 1
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
    draws = draws.astype(float)  # [resamples, patients]; a float product runs in BLAS
    sums = {}
    for name, values in statistics.items():
        by_patient = np.zeros((size, *values.shape[1:]))
        np.add.at(by_patient, patients, values)
        sums[name] = np.tensordot(draws, by_patient, axes=1)
    return sums


def check_level(ci: float) -> None:
    """Raises a `ValueError` for a level that is not between 0 and 1."""
    if not 0 < ci < 1:
        raise ValueError(f"`ci={ci}` is not between 0 and 1: for 95 % pass `ci=0.95`.")


def interval(values: np.ndarray, ci: float) -> list[float] | None:
    """Percentile interval that holds the central share `ci` of the values `[resamples]`; NaN values are left out."""
    values = values[~np.isnan(values)]
    return np.quantile(values, [(1 - ci) / 2, (1 + ci) / 2]).tolist() if len(values) else None


def estimate(
    statistics: dict[str, np.ndarray],
    score: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict[str, float | list[float] | None]:
    """
    Numbers of a set of reports, and their bootstrap intervals by patient.

    Args:
        statistics (`dict[str, np.ndarray]`):
            Arrays of shape `[N, ...]`, one row per report.
        score (`Callable`):
            Function from the sums of the statistics, of shape `[...]` or `[resamples, ...]`, to named numbers of shape
            `[]` or `[resamples]`. An undefined number is NaN.
        volumes (`Sequence[str]`, *optional*):
            CT-RATE's volume names, one per report; they name the patients to resample. By default each report counts
            as a patient of its own.
        ci (`float`, *optional*):
            Share of the resamples inside each interval, such as 0.95. By default no intervals are computed.

    Returns:
        `dict`: each number under its name; an undefined number is `None`. With `ci` also `NAME_ci: [low, high]` for
        each number, and `ci_level`. An interval is `None` if its number is `None` or if there is only one patient.

    Raises:
        `ValueError`: if `ci` is not between 0 and 1, or if the numbers of volume names and reports differ.
    """
    sums = {name: values.sum(axis=0) for name, values in statistics.items()}
    numbers = {name: known(value) for name, value in score(sums).items()}
    if ci is None:
        return numbers
    check_level(ci)
    patients = patient_ids(volumes, len(next(iter(statistics.values()))))
    lone = patients.max() == 0
    intervals = {
        f"{name}_ci": None if lone or numbers[name] is None else interval(values, ci)
        for name, values in score(resample(statistics, patients)).items()
    }
    return {**numbers, **intervals, "ci_level": ci}
