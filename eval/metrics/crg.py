"""CRG, the clinical score of the VLM3D challenge: an error costs by how rare positives are."""

from collections.abc import Sequence

import numpy as np

from .bootstrap import divide, estimate
from .label_metrics import label_statistics


def crg(
    predictions: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    volumes: Sequence[str] | None = None,
    ci: float | None = None,
) -> dict[str, float | list | None]:
    r"""
    CRG (Hamamci et al., "CRG Score: A Distribution-Aware Clinical Metric for Radiology Report Generation", MIDL 2025,
    arXiv 2505.17167), as the VLM3D challenge computes it.

    Of \\(X = N L\\) entries \\(A\\) are positive in the references. A hit earns, and a miss costs,
    \\(r = (X - A) / 2A\\); a false positive costs 1, a true negative earns nothing:
    \\(s = r\,TP - r\,FN - FP\\). With \\(U = (X - A) / 2\\), the \\(s\\) of perfect reports,
    \\(CRG = U / (2U - s)\\). Perfect reports have 1, all-negative and all-positive ones 1/3, and those wrong in every
    entry 1/5.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            For a bootstrap interval by patient: [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `crg`, in [1/5, 1], and with `ci` also `crg_ci`. `crg` is `None` where the references hold no positive
        entry, or no negative one: then there is nothing to weigh.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of another length, or a value other than 0 and 1.
    """
    return estimate(label_statistics(predictions, references, names), crg_score, volumes, ci)


def crg_score(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[`crg`] from the sums of [`~ct_rate_pairs.eval.metrics.label_metrics.label_statistics`]; leading axes stay."""
    hits, predicted, positive = (sums[name].sum(axis=-1) for name in ("hits", "predicted", "support"))
    best = (sums["reports"] * sums["support"].shape[-1] - positive) / 2
    score = divide(best, positive) * (2 * hits - positive) - (predicted - hits)
    return {"crg": divide(best, 2 * best - score)}
