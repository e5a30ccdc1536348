"""CRG, the clinical score of the VLM3D challenge. It weighs errors by the share of positive labels."""

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

    Of \\(X = N L\\) entries, \\(A\\) are positive in the references. A true positive adds
    \\(r = (X - A) / 2A\\) to the sum \\(s\\), a false negative subtracts \\(r\\), a false positive subtracts 1,
    and a true negative adds nothing: \\(s = r\,TP - r\,FN - FP\\). Perfect reports have \\(s = U\\), with
    \\(U = (X - A) / 2\\). The score is \\(CRG = U / (2U - s)\\): 1 for perfect reports, 1/3 for all-negative and
    for all-positive reports, and 1/5 for reports that are wrong in every entry.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, L]`):
            Labels of the generated reports, 0 or 1.
        references (`Sequence[Sequence[int]]` of shape `[N, L]`):
            True labels, 0 or 1.
        names (`Sequence[str]`):
            Names of the L labels, in the order of the columns.
        volumes (`Sequence[str]`, *optional*), ci (`float`, *optional*):
            Volume names and level of the bootstrap interval by patient, see
            [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`].

    Returns:
        `dict`: `crg`, in [1/5, 1]; with `ci` also `crg_ci` and `ci_level`. `crg` is `None` if the references hold no
        positive entry or no negative entry, since the score is then undefined.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of a wrong length, or a value other than 0 and 1.
    """
    return estimate(label_statistics(predictions, references, names), crg_score, volumes, ci)


def crg_score(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[`crg`], computed from the sums of `label_metrics.label_statistics`; leading axes are kept."""
    hits, predicted, positive = (sums[name].sum(axis=-1) for name in ("hits", "predicted", "support"))
    best = (sums["reports"] * sums["support"].shape[-1] - positive) / 2
    score = divide(best, positive) * (2 * hits - positive) - (predicted - hits)
    return {"crg": divide(best, 2 * best - score)}
