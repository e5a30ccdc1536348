"""Rows of `ct_rate_pairs` -> a trained model: configuration, trainer and collator."""

from .negative_sft_config import NegativeSFTConfig
from .negative_sft_trainer import NegativeSFTTrainer
from .new_negatives import NewNegativesEachEpoch
from .pair_collator import PairCollator


__all__ = ["NegativeSFTConfig", "NegativeSFTTrainer", "NewNegativesEachEpoch", "PairCollator"]
