"""Turns reports into label vectors, by a named labeler."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.rules import label_report


def label_reports(texts: Sequence[str], labeler: str = "rules") -> np.ndarray:
    """
    Reads the 18 labels from report texts.

    Args:
        texts (`Sequence[str]`):
            Reports: findings, impression or both. For both labelers, an empty report states no finding.
        labeler (`str`, *optional*, defaults to `"rules"`):
            Full name of the labeler, to be reported with every number that depends on it. `"rules"` is
            [`~ct_rate_pairs.reports.rules.label_report`]. `"radbert:CHECKPOINT"` is the RadBERT classifier of CT-RATE;
            `CHECKPOINT` is a file, a folder or a Hub repository, see
            [`~ct_rate_pairs.eval.scoring.radbert.load_radbert`].

    Returns:
        `np.ndarray`: int8 array of shape `[N, 18]`, columns in the official order of `ct_rate_pairs.LABELS`.

    Raises:
        `ValueError`: for an unknown labeler, or for a string instead of a list of strings.
        `OSError`: if there is no such checkpoint.
    """
    if isinstance(texts, str):
        raise ValueError("`texts` is one string; pass a list of reports, for a single report `[report]`.")
    if labeler == "rules":
        return np.array([label_report(text) for text in texts], dtype=np.int8).reshape(len(texts), len(LABELS))
    name, _, checkpoint = labeler.partition(":")
    if name != "radbert" or not checkpoint:
        raise ValueError(
            f"Unknown labeler {labeler!r}; choose 'rules', or 'radbert:CHECKPOINT' with a file, folder or Hub name."
        )
    # Imported here, because it imports transformers, which takes seconds and which the rules do not need.
    from .radbert import THRESHOLD, load_radbert, radbert_probabilities  # noqa: PLC0415

    labels = radbert_probabilities(list(texts), *load_radbert(checkpoint)) >= THRESHOLD
    # The output of the model for an empty text is meaningless.
    labels[[not text.strip() for text in texts]] = False
    return labels.astype(np.int8)
