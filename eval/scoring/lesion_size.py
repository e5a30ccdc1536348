"""Coverage of lung nodules by the size that the reference reports state (paper, section 8)."""

import math
import re
from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.eval.metrics.label_metrics import check_pair, ratio
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_sentence
from ct_rate_pairs.reports.sentence_spans import split_sentences


NODULE = LABELS.index("Lung nodule")
# Names of the bins and their upper bounds in mm, which the bins exclude.
SIZE_BINS = {"<3 mm": 3.0, "3-6 mm": 6.0, "6-10 mm": 10.0, ">=10 mm": math.inf}

NUMBER = r"\d+(?:[.,]\d+)?"
SIZE = re.compile(
    # "smaller than 5 mm"
    r"(?P<below>(?:(?:less|smaller|lower) than|under|below|<|小于|不足|不到)\s*)?"
    # "4", "12x9", "12 x 9 x 8", "2-3", "2.3 and 3"
    rf"(?<![\d.,/])(?P<numbers>{NUMBER}(?:\s*(?:[mc]m)?\s*(?:[x×*–~～-]|\band\b|\bto\b)\s*{NUMBER}){{0,7}})"
    r"[\s-]?(?P<unit>mm|cm|毫米|厘米|(?:mill?i|centi)met(?:er|re)s?)(?![a-z])"
    # Not the size of the nodule on an earlier scan, and not its distance from something.
    r"(?!(?:\s+(?:in\s+)?(?:diameter|size))?\s+(?:(?:in|on|at)\s+)?(?:(?:the|his|her)\s+)?(?:previous|prior|earlier|old\b))"
    r"(?!(?:处|以外|远))"
    r"(?!\s+(?:away|from|distant|distance|distal|proximal|deep|above|below)\b)",
    re.IGNORECASE,
)


def nodule_size(report: str) -> float | None:
    """
    The largest diameter of a lung nodule that a report states.

    Only sentences that state a lung nodule are searched (`ct_rate_pairs.reports.rules`), for numbers with a unit, as
    in "a 4 mm nodule", "measuring 12x9 mm" or "1.5 cm". "Smaller than 5 mm" counts as a size just below 5 mm. Sizes on
    an earlier scan and distances do not count.

    Args:
        report (`str`):
            Findings, impression or both.

    Returns:
        `float` or `None`: the diameter in mm; `None` if no sentence states both a lung nodule and a size.
    """
    sizes = []
    for sentence in split_sentences(report):
        if NODULE not in label_sentence(sentence):
            continue
        for found in SIZE.finditer(sentence):
            largest = max(float(number.replace(",", ".")) for number in re.findall(NUMBER, found["numbers"]))
            size = 10 * largest if found["unit"].lower().startswith(("c", "厘")) else largest
            sizes.append(math.nextafter(size, 0) if found["below"] else size)
    return max(sizes, default=None)


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
