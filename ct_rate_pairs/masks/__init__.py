"""
Masks of findings, which a dataset shows beside its slices (`load_dataset("ct_rate_pairs", masks=PATH)`): where they
are read from, and what a slice shows of them.
"""

from .mask_set import MaskSet


__all__ = ["MaskSet"]
