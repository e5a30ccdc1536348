"""Trains a model on rows of `ct_rate_pairs`. Names are imported at first use, because most need torch."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "callbacks": ["NewNegativesEachEpoch", "WriteReportSamples"],
        "generation": ["generate_batch"],
        "muon": ["MuonAdamW"],
        "negative_sft_config": ["NegativeSFTConfig"],
        "negative_sft_trainer": ["NegativeSFTTrainer"],
        "pair_collator": ["PairCollator"],
        "row_settings": ["RowSettings", "read_row_settings", "save_row_settings"],
    },
)
