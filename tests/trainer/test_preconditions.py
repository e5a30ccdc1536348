"""What is refused before the first step."""

import pytest
from helpers.pair_trainer import ROWS, make_dataset, make_model, make_trainer, options
from transformers import Qwen2Config, Qwen2ForCausalLM

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator


def test_a_model_without_vision_is_refused(tmp_path):
    _, processor = make_model()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM takes no pixel_values_videos.*ImageTextToText"):
        NegativeSFTTrainer(
            model=Qwen2ForCausalLM(Qwen2Config(vocab_size=512, num_key_value_heads=1, **shape)),
            args=NegativeSFTConfig(**options(tmp_path)),
            train_dataset=make_dataset(ROWS),
            data_collator=PairCollator(processor),
            processing_class=processor,
        )


def test_trainers_own_upload_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"training_args.bin, which holds the token.*ct-rate-pairs publish"):
        make_trainer(tmp_path, push_to_hub=True)
