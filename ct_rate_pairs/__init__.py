"""
CT-RATE as training pairs: importing this package registers the builder `ct_rate_pairs` and the `evaluate`
metrics.
"""

from ct_rate_pairs.eval.metrics.install import register_metrics
from ct_rate_pairs.reports.labels import LABELS

from .registration import register_builder


register_builder()


register_metrics()

__all__ = ["LABELS"]
