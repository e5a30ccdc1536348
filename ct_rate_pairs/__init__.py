"""
CT-RATE as training pairs: importing this package registers the builder `ct_rate_pairs` and the `evaluate`
metrics.
"""

from .labels import LABELS
from .registration import register_builder


register_builder()

# The one import that points back: `evaluate.load` has to find the metrics as `load_dataset` finds the builder.
from .eval.metric_modules import register_metrics  # noqa: E402


register_metrics()

__all__ = ["LABELS"]
