"""Calibration of log-odds of the 18 labels: one temperature and one bias per label, judged by cross-validation."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ct_rate_pairs.eval.metrics.calibration import bins_of, errors
from ct_rate_pairs.eval.metrics.ranking import auroc
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.volume_names import patient_of


FOLDS = 5  # of the cross-validation over patients


def calibrate(logits: np.ndarray, temperature: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of log-odds; the last axis is that of the labels."""
    return 1 / (1 + np.exp(-(logits / temperature + bias)))


def fit_calibration(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Temperature and bias of each label that maximise the likelihood of the true labels, `[18]` each.

    `logits` are the log-odds before calibration, and `labels` the true labels, 0 or 1, `[N, 18]` each. As in Platt
    scaling, the targets are \\((n_1 + 1) / (n_1 + 2)\\) and \\(1 / (n_0 + 2)\\) instead of 1 and 0, with \\(n_1\\)
    positive and \\(n_0\\) negative scans. This avoids over-confidence with few scans, and gives a finite fit if all
    scans have the same label.
    """
    x, y = torch.from_numpy(logits), torch.from_numpy(labels)
    positives = y.sum(dim=0)
    targets = torch.where(y > 0, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2)).double()
    log_temperature, bias = (torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.LBFGS([log_temperature, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        """Negative log-likelihood of the targets, with its gradient."""
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x * (-log_temperature).exp() + bias, targets, reduction="sum")
        value.backward()
        return value

    optimizer.step(loss)
    return log_temperature.detach().exp().numpy(), bias.detach().numpy()


def folds_of(volumes: Sequence[str]) -> np.ndarray:
    """
    The fold of each volume in the cross-validation, int `[N]`: all volumes of a patient are in one fold.

    Raises:
        `ValueError`: for volumes of fewer than `FOLDS` patients.
    """
    patients, part = np.unique([patient_of(volume) for volume in volumes], return_inverse=True)
    if len(patients) < FOLDS:
        raise ValueError(
            f"The confidence is fitted on scans of {len(patients)} patients, but judging it takes at least {FOLDS}: "
            "use a larger validation split."
        )
    return part % FOLDS


def held_out_probabilities(logits: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The calibrated probabilities of each scan, `[N, 18]`, by a calibration that is fitted on the other folds."""
    calibrated = np.empty(labels.shape)
    for own in np.unique(fold):
        rest = fold != own
        calibrated[~rest] = calibrate(logits[~rest], *fit_calibration(logits[rest], labels[rest]))
    return calibrated


def held_out_prevalence(labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The share of each label in the other folds, as the probability of each scan, `[N, 18]`."""
    prevalence = np.empty(labels.shape)
    for own in np.unique(fold):
        rest = fold != own
        prevalence[~rest] = (labels[rest].sum(axis=0) + 1) / (rest.sum() + 2)
    return prevalence


def judge(probabilities: np.ndarray, labels: np.ndarray, prevalence: np.ndarray) -> dict[str, float | None]:
    """
    How good the probabilities of the 18 labels are.

    Args:
        probabilities (`np.ndarray` of shape `[N, 18]`):
            The probabilities.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        prevalence (`np.ndarray` of shape `[N, 18]` or `[18]`):
            The share of each label, which is what to predict without looking at a scan.

    Returns:
        `dict`: `auroc`, the mean over the labels that have both classes (`None` if no label has); `ece`, `brier` and
        `nll` of [`~ct_rate_pairs.eval.metrics.calibration.errors`]; `brier_ratio`, the Brier score as a share of the
        prevalence's.
    """
    areas = np.array([auroc(own, true) for own, true in zip(probabilities.T, labels.T, strict=True)])  # [18]
    known = areas[~np.isnan(areas)]
    own = errors(probabilities, labels)
    by_chance = errors(np.broadcast_to(prevalence, labels.shape), labels)["brier"]
    return {"auroc": float(known.mean()) if len(known) else None, **own, "brier_ratio": own["brier"] / by_chance}


def judge_each(probabilities: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict[str, dict]:
    """
    How good the probabilities of each label are.

    Args:
        probabilities (`np.ndarray` of shape `[N, 18]`):
            The calibrated probabilities.
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        logits (`np.ndarray` of shape `[N, 18]`):
            The log-odds before calibration. AUROC is computed from these: a calibration that is fitted on the other
            folds shifts each fold, and so mixes the order of the scans.

    Returns:
        `dict`: maps each label to its `support`, the number of scans that have it; `auroc` (`None` if all scans have
        it, or none); `ece` and `brier`; and `bins`, from low to high probability, each with the number of scans
        (`n`), their mean probability (`p`), and the share that has the label (`share`). Empty bins are left out.
    """
    columns = zip(LABELS, probabilities.T, labels.T, logits.T, strict=True)
    return {label: _judge_one(p, true, order) for label, p, true, order in columns}


def _judge_one(probabilities: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> dict:
    places, area, error = bins_of(probabilities), auroc(logits, labels), errors(probabilities, labels)
    groups = [places == place for place in np.unique(places)]
    return {
        "support": int(labels.sum()),
        "auroc": None if np.isnan(area) else float(area),
        "ece": error["ece"],
        "brier": error["brier"],
        "bins": [
            {"n": int(own.sum()), "p": float(probabilities[own].mean()), "share": float(labels[own].mean())}
            for own in groups
        ],
    }
