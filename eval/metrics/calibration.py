"""Calibration of probabilities: whether events of probability `p` happen with frequency `p`."""

from collections.abc import Sequence

import numpy as np


BINS = 10  # bins of equal width that divide the probabilities


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """Index of the bin that each probability falls into, int `[N]`. The bins have equal width."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def calibration_error(confidence: Sequence[float], correct: Sequence[bool]) -> float:
    r"""
    Expected calibration error \\(\sum_b \frac{n_b}{N} |acc_b - conf_b|\\) over bins of equal width, where
    \\(acc_b\\) is the accuracy and \\(conf_b\\) the mean confidence of the \\(n_b\\) choices in bin \\(b\\).
    """
    confidence, correct = np.asarray(confidence), np.asarray(correct, dtype=float)
    gaps = np.bincount(bins_of(confidence), correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_error_by_chance(confidence: Sequence[float]) -> float:
    r"""
    The calibration error that is to be expected of as many choices if each confidence is just right.

    A bin of choices that are right with their probabilities \\(p_i\\) misses its mean confidence by chance, about as
    a normal distribution does: \\(\frac{1}{N} \sum_b \sqrt{\frac{2}{\pi} \sum_{i \in b} p_i (1 - p_i)}\\). So a
    calibration error of this size is no sign of a fault.
    """
    confidence = np.asarray(confidence)
    variances = np.bincount(bins_of(confidence), confidence * (1 - confidence))
    return float(np.sqrt(2 / np.pi * variances).sum() / len(confidence))


def errors(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Expected calibration error (10 bins), Brier score and negative log-likelihood in nats, over all scans and labels.

    Predicting each label's prevalence for every scan gives almost no calibration error, although such predictions say
    nothing about the scan. So compare Brier score and likelihood too: a model that looks at the scan improves them.
    """
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return {
        "ece": calibration_error(p.ravel(), labels.ravel()),
        "brier": float(((p - labels) ** 2).mean()),
        "nll": float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean()),
    }
