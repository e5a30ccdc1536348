"""CT-RATE as training pairs: importing this package registers the builder `ct_rate_pairs` and the `evaluate` metrics."""

from .labels import LABELS


__all__ = ["LABELS"]
