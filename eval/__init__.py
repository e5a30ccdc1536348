"""
A model -> reports -> numbers. What needs a model (`ct_rate_pairs.eval.generate`, `ct_rate_pairs.eval.loss_gap`) is
imported from its own module.
"""

from ct_rate_pairs.eval.crg import crg
from ct_rate_pairs.eval.label_metrics import coverage, label_accuracy
from ct_rate_pairs.eval.labeler import label_reports
from ct_rate_pairs.eval.results import format_table, score_reports
from ct_rate_pairs.eval.text_metrics import text_scores


__all__ = ["coverage", "crg", "format_table", "label_accuracy", "label_reports", "score_reports", "text_scores"]
