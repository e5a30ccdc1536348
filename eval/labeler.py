"""Report texts to label vectors, by a named labeler."""

from collections.abc import Sequence

import numpy as np

from ct_rate_pairs.labels import LABELS
from ct_rate_pairs.report_labels import label_report


def label_reports(texts: Sequence[str], labeler: str = "rules") -> np.ndarray:
    """
    Reads the 18 labels out of report texts.

    Args:
        texts (`Sequence[str]`):
            Reports: findings, impression or both. An empty report states nothing.
        labeler (`str`, *optional*, defaults to `"rules"`):
            Name of the labeler; it belongs beside every number made with it. `"rules"` is
            [`~ct_rate_pairs.report_labels.label_report`].

    Returns:
        `np.ndarray`: int8 array of shape `[N, 18]`, columns in the official order of `ct_rate_pairs.LABELS`.

    Raises:
        `ValueError`: for an unknown labeler, or for one string in place of a list of strings.
    """
    if labeler != "rules":
        raise ValueError(f"Unknown labeler {labeler!r}; choose `labeler='rules'`.")
    if isinstance(texts, str):
        raise ValueError("`texts` is one string; pass a list of reports, for a lone one `[report]`.")
    return np.array([label_report(text) for text in texts], dtype=np.int8).reshape(len(texts), len(LABELS))
