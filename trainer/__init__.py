"""Rows of `ct_rate_pairs` -> a trained model: configuration, trainer and collator."""

from .generation import generate_batch
from .muon import MuonAdamW
from .negative_sft_config import NegativeSFTConfig
from .negative_sft_trainer import NegativeSFTTrainer
from .new_negatives import NewNegativesEachEpoch
from .pair_collator import PairCollator
from .report_samples import WriteReportSamples
from .row_settings import read_row_settings, save_row_settings


__all__ = [
    "MuonAdamW",
    "NegativeSFTConfig",
    "NegativeSFTTrainer",
    "NewNegativesEachEpoch",
    "PairCollator",
    "WriteReportSamples",
    "generate_batch",
    "read_row_settings",
    "save_row_settings",
]
