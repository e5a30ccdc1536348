"""Coverage of lung nodules by the size that the reference reports state (paper, section 8)."""

import math
from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.label_metrics import check_pair, ratio
from ct_rate_pairs.reports.details import NODULE, nodule_size
from ct_rate_pairs.reports.labels import LABELS


# Names of the bins and their upper bounds in mm, which the bins exclude.
SIZE_BINS = {"<3 mm": 3.0, "3-6 mm": 6.0, "6-10 mm": 10.0, ">=10 mm": math.inf}


def nodule_coverage_by_size(
    predictions: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], references: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """
    Splits the Coverage of the label `Lung nodule` by the largest nodule that the reference report states.

    The bounds of the bins matter clinically. Nodules under 3 mm are micronodules, on which the paper gains least
    (section 8). Solid nodules under 6 mm need no routine follow-up (Fleischner Society 2017). Nodules under 10 mm are
    called small or subcentimetre nodules. A diameter equal to a bound belongs to the larger bin.

    Args:
        predictions (`Sequence[Sequence[int]]` of shape `[N, 18]`):
            Labels of the generated reports, 0 or 1.
        labels (`Sequence[Sequence[int]]` of shape `[N, 18]`):
            True labels, 0 or 1.
        references (`Sequence[str]`):
            The `N` reference reports, which state the sizes.

    Returns:
        `dict[str, dict]`: for each of `<3 mm`, `3-6 mm`, `6-10 mm`, `>=10 mm` and `no size`:

        - `support`: number of reports whose true label is positive and whose largest stated nodule has this size. The
          five numbers sum to the support of the label.
        - `coverage`: share of these reports whose generated report states a lung nodule; `None` if `support` is 0.

    Raises:
        `ValueError`: for no rows, unequal numbers of rows, a row of a wrong length, or a value other than 0 and 1.
    """
    predictions, labels = check_pair(predictions, labels, LABELS)
    if len(references) != len(labels):
        raise ValueError(f"{len(references)} reference reports for {len(labels)} rows of labels: pass one per row.")
    sizes = [nodule_size(report) for report in references]
    bins = np.array(["no size" if size is None else size_bin(size) for size in sizes])
    table = {}
    for name in (*SIZE_BINS, "no size"):
        chosen = (bins == name) & (labels[:, NODULE] == 1)
        support = int(chosen.sum())
        table[name] = {"coverage": ratio(predictions[chosen, NODULE].sum(), support), "support": support}
    return table


def size_bin(diameter: float) -> str:
    """Name of the bin of `SIZE_BINS` that holds a diameter in mm."""
    return next(name for name, end in SIZE_BINS.items() if diameter < end)
