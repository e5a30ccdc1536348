"""QLoRA: 4-bit weights stay as they are, adapters learn, and what is saved is loaded again. It is given a folder."""

import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForImageTextToText
from trl import ModelConfig, get_peft_config, get_quantization_config

from ct_rate_pairs.trainer import NegativeSFTConfig, NegativeSFTTrainer, PairCollator
from ct_rate_pairs.trainer.tiny import make_tiny_qwen
from helpers.pair_trainer import PROMPT, REPORTS, ROWS, logged, make_dataset, options, plain_cross_entropies


def main(folder: Path) -> None:
    # bitsandbytes quantizes blocks of 64 inputs
    model, processor = make_tiny_qwen([*REPORTS, PROMPT], hidden_size=128, num_layers=1, vision_depth=1)
    model.save_pretrained(folder / "base")
    model_args = ModelConfig(
        load_in_4bit=True, use_peft=True, lora_r=8, lora_target_modules=[r".*language_model.*_proj"]
    )
    load = lambda: AutoModelForImageTextToText.from_pretrained(  # noqa: E731
        folder / "base", quantization_config=get_quantization_config(model_args), dtype=torch.float32
    )
    trainer = NegativeSFTTrainer(
        model=load(),
        args=NegativeSFTConfig(**options(folder / "run", beta=0.1, max_steps=12)),
        train_dataset=make_dataset(ROWS),
        data_collator=PairCollator(processor),
        processing_class=processor,
        peft_config=get_peft_config(model_args),
    )
    four_bit = [layer for layer in trainer.model.modules() if isinstance(layer, Linear4bit)]
    assert four_bit
    before = [layer.weight.clone() for layer in four_bit]
    trainer.train()
    assert logged(trainer, "loss_pos")[-1] < logged(trainer, "loss_pos")[0] - 0.1
    for layer, weight in zip(four_bit, before, strict=True):
        assert torch.equal(layer.weight, weight)
    learned = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert learned and all("lora" in name and "language_model" in name for name in learned)

    trainer.save_model()
    trainer.model.eval()
    expected, _ = plain_cross_entropies(trainer, ROWS[:2], "pixel_values_videos")
    trainer.model = load()
    plain, _ = plain_cross_entropies(trainer, ROWS[:2], "pixel_values_videos")
    trainer.model.load_adapter(str(folder / "run"))
    loaded, _ = plain_cross_entropies(trainer, ROWS[:2], "pixel_values_videos")
    assert loaded.tolist() == pytest.approx(
        expected.tolist(), abs=1e-3
    )  # TRL trains adapters of 4-bit models in bfloat16
    assert plain.tolist() != pytest.approx(expected.tolist(), abs=1e-2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
