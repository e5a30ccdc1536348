"""Rows of `ct_rate_pairs` -> a trained model. Names are imported when they are first used, as most need torch."""

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
        "row_settings": ["read_row_settings", "save_row_settings"],
    },
)
