"""Rows of `ct_rate_pairs` -> a trained model: configuration, trainer and collator."""

from .muon import MuonAdamW
from .negative_sft_config import NegativeSFTConfig
from .negative_sft_trainer import NegativeSFTTrainer
from .new_negatives import NewNegativesEachEpoch
from .pair_collator import PairCollator
from .report_samples import WriteReportSamples


__all__ = [
    "MuonAdamW",
    "NegativeSFTConfig",
    "NegativeSFTTrainer",
    "NewNegativesEachEpoch",
    "PairCollator",
    "WriteReportSamples",
]
