"""How far probabilities can be trusted."""

from collections.abc import Sequence

import numpy as np


BINS = 10  # of the probability


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Which of `BINS` equal bins each probability falls into, int `[N]`."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def calibration_error(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    r"""
    Expected calibration error: \\(\sum_b \frac{n_b}{N} |acc_b - conf_b|\\) over equal bins of the confidence.
    """
    confidence, correct = np.asarray(confidence), np.asarray(correct, dtype=float)
    gaps = np.bincount(bins_of(confidence), correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def errors(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Expected calibration error (10 bins), Brier score and negative log-likelihood in nats, over all scans and labels.

    A label's prevalence, told of every scan, has next to no calibration error: it is calibrated, and says nothing of
    the scan. Brier score and likelihood are what it can be beaten in.
    """
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return {
        "ece": calibration_error(p.ravel(), labels.ravel()),
        "brier": float(((p - labels) ** 2).mean()),
        "nll": float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean()),
    }
