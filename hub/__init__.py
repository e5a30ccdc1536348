"""Runs and the Hub: the model card of a run."""

from .card import write_model_card


__all__ = ["write_model_card"]
