"""Runs and the Hub: the model card of a run, and reports from scans with a released model."""

from .card import write_model_card
from .reporter import Reporter, ScanReport, load_reporter


__all__ = ["Reporter", "ScanReport", "load_reporter", "write_model_card"]
