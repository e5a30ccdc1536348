"""Draws labels that are as frequent, alone and in pairs, as the 18 abnormalities in CT-RATE."""

import numpy as np

from ct_rate_pairs.reports.labels import LABELS


# Thresholds of the latent normals, one per label: a label is present if its latent normal exceeds its threshold. Each
# threshold is the standard normal quantile of the share of volumes without the label.
THRESHOLDS = (
    *(1.158, 0.572, 1.213, 1.458, 0.659, 1.066, 0.646, 0.865, 0.643),
    *(0.117, 0.333, 0.622, 1.170, 1.424, 1.251, 0.929, 1.279, 1.409),
)

# Tetrachoric correlations of the latent normals, in percent: row i has the correlations of label i with labels 0 to
# i - 1. Each correlation solves P(both latent normals exceed their thresholds) = (volumes with both labels) / 47,149.
# The matrix is positive definite.
TETRACHORIC = (
    (),
    (31,),
    (37, 61),
    (32, 28, 41),
    (35, 93, 59, 27),
    (9, 39, 19, 12, 36),
    (20, 38, 38, 25, 34, 16),
    (12, 47, 8, 10, 41, 23, 17),
    (30, 38, 33, 33, 37, 21, 16, 26),
    (5, 16, -9, 0, 13, 13, 9, 28, 7),
    (8, 16, 17, 11, 15, 7, 25, -8, 3, -20),
    (4, 24, 7, 3, 21, 19, 11, 32, -5, 27, -2),
    (50, 40, 53, 60, 39, 2, 38, 16, 51, -8, 19, -7),
    (17, 39, 51, 18, 37, 19, 21, -17, 21, 10, -6, 16, 18),
    (19, 35, 23, 25, 32, 21, 27, 30, 17, 18, 9, 23, 27, 24),
    (20, 17, 22, 27, 15, 5, 29, -3, 8, -22, 56, -11, 41, -10, 14),
    (4, 22, -10, 3, 14, 14, 15, 31, 9, 16, 2, 27, -9, -7, 57, 2),
    (26, 33, 42, 31, 31, 11, 34, 4, 12, -10, 43, -6, 52, 17, 26, 26, 8),
)

# Correlation of a patient's latent normals between one scan and the next: most findings stay, some appear or vanish.
FOLLOW_UP_CORRELATION = 0.7


def _cholesky() -> np.ndarray:
    correlation = np.eye(len(LABELS))
    for i, row in enumerate(TETRACHORIC):
        correlation[i, :i] = correlation[:i, i] = np.array(row) / 100
    return np.linalg.cholesky(correlation)


CHOLESKY = _cholesky()  # [18, 18]


def draw_labels(rng: np.random.Generator, scans: int = 1) -> np.ndarray:
    """
    Draw the labels of one patient's scans from a Gaussian copula with CT-RATE's prevalence and pairwise co-occurrence.

    Args:
        rng (`np.random.Generator`):
            The patient's own random stream.
        scans (`int`, *optional*, defaults to `1`):
            Number of scans of the patient. Each scan has CT-RATE's prevalence, and consecutive scans are similar.

    Returns:
        `np.ndarray`: int8 `[scans, 18]`, official label order.
    """
    latent = CHOLESKY @ rng.standard_normal(len(LABELS))  # [18]
    rows = [latent]
    for _ in range(scans - 1):
        fresh = CHOLESKY @ rng.standard_normal(len(LABELS))
        latent = FOLLOW_UP_CORRELATION * latent + np.sqrt(1 - FOLLOW_UP_CORRELATION**2) * fresh
        rows.append(latent)
    return (np.stack(rows) > np.array(THRESHOLDS)).astype(np.int8)
