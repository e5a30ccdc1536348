"""What learns is told before the first step, and is what the options say."""

import re

import pytest
import torch
from helpers.pair_trainer import PROMPT, REPORTS, ROWS, make_model, make_trainer, weights_of
from helpers.tiny_models import make_tiny_gemma3
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForImageTextToText,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from ct_rate_pairs.trainer.encoder_decoder import make_encoder_decoder
from ct_rate_pairs.trainer.what_learns import check_what_learns, vision_tower, what_learns


LANGUAGE = r".*language_model.*_proj"


def lora(**options):
    return LoraConfig(r=2, **{"target_modules": LANGUAGE} | options)


def shares(printed: str) -> dict[str, str]:
    """Part -> share that learns, of the printed table."""
    return dict(re.findall(r"^(vision tower|projector|language model|total) .*?([\d.]+%)$", printed, re.MULTILINE))


def test_full_training_tells_that_every_part_learns(tmp_path, capsys):
    make_trainer(tmp_path, beta=0.0, max_steps=1).train()
    assert set(shares(capsys.readouterr().out).values()) == {"100.00%"}


def test_a_frozen_tower_learns_nothing_and_stays_bit_for_bit(tmp_path, capsys):
    trainer = make_trainer(tmp_path, beta=0.0, max_steps=2, freeze_vision=True)
    before = weights_of(trainer)
    trainer.train()
    told = shares(capsys.readouterr().out)
    assert (told["vision tower"], told["projector"], told["language model"]) == ("0.00%", "0.00%", "100.00%")
    same = {name: torch.equal(weight, before[name]) for name, weight in weights_of(trainer).items()}
    assert all(kept == ("visual" in name) for name, kept in same.items())


def test_adapters_count_in_the_part_that_they_are_in(tmp_path, capsys):
    make_trainer(tmp_path, beta=0.0, max_steps=1, freeze_vision=True, peft_config=lora()).train()
    told = shares(capsys.readouterr().out)
    assert told["vision tower"] == told["projector"] == "0.00%" != told["language model"]


@pytest.mark.parametrize("options", [{"target_modules": "all-linear"}, {"modules_to_save": ["visual.merger"]}])
def test_a_frozen_tower_with_something_that_would_learn_in_it_is_refused(tmp_path, options):
    with pytest.raises(ValueError, match=r"in the vision tower would learn, such as .*lora_target_modules"):
        make_trainer(tmp_path, freeze_vision=True, peft_config=lora(**options))


def test_the_tower_of_another_family_is_frozen_without_its_projector():
    model, _ = make_tiny_gemma3(["No nodule."])
    vision_tower(model).requires_grad_(False)
    parts = {part.name: part for part in what_learns(model)}
    assert parts["vision tower"].trainable == 0 < parts["vision tower"].parameters
    assert parts["projector"].trainable == parts["projector"].parameters > 0
    assert sum(part.parameters for part in parts.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vision_model", "behind"),
    [("vit", {"layernorm."}), ("swin_unetr", set()), ("clip", {"layers.1.", "post_layernorm."})],
)
def test_of_a_tower_what_lies_behind_the_layer_that_is_read_does_not_learn(vision_model, behind, tmp_path):
    if vision_model == "clip":
        config = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision = config | {"image_size": 28, "patch_size": 14}
        CLIPModel(CLIPConfig(text_config=config, vision_config=vision)).save_pretrained(tmp_path / "clip")
        CLIPImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path / "clip")
        vision_model = str(tmp_path / "clip")
    made = make_encoder_decoder(vision_model, "biogpt", [*REPORTS, PROMPT], (28, 28), 4)
    trainer = make_trainer(tmp_path, beta=0.0, max_steps=1, made=made)
    learning = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in trainer.model.named_parameters()} - learning
    assert {part for part in behind for name in frozen if part in name} == behind
    assert all(any(part in name for part in behind) for name in frozen)
    batch = trainer.data_collator(ROWS[:1])
    trainer.model(
        **{name: batch[name] for name in ("input_ids", "attention_mask", "labels", "pixel_values")}
    ).loss.backward()
    assert {name for name, parameter in trainer.model.named_parameters() if parameter.grad is not None} == learning


def test_a_model_without_a_tower_is_not_frozen_whole():
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    with pytest.raises(ValueError, match="no vision tower in LlamaForCausalLM"):
        vision_tower(LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=1, **shape)))


def test_a_training_that_changes_nothing_is_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.model.requires_grad_(False)
    with pytest.raises(ValueError, match="No parameter of the model learns"):
        trainer.train()


def test_an_adapter_that_is_loaded_to_be_read_is_not_trained_on(tmp_path):
    model, _ = make_model()
    model.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(AutoModelForImageTextToText.from_pretrained(tmp_path / "base"), lora())
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="none of them learns.*is_trainable=True"):
        check_what_learns(AutoModelForImageTextToText.from_pretrained(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target_modules": ["q_proj", "quarry_proj"]}, "no module quarry_proj, which `target_modules` names"),
        (
            {"target_modules": ["v_proj"], "target_parameters": ["q_proj.weight", "quarry.weight"]},
            "no parameter quarry.weight, which `target_parameters` names",
        ),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 99]}, "no layer 99 that `target_modules` names"),
        ({"modules_to_save": ["merger", "head_of_nothing"]}, "no module head_of_nothing, which `modules_to_save`"),
    ],
)
def test_a_module_that_is_asked_for_and_not_there_is_told(tmp_path, options, told):
    trainer = make_trainer(tmp_path, peft_config=lora(**options))
    with pytest.raises(ValueError, match=told):
        trainer.train()


@pytest.mark.parametrize(
    "options", [{"target_modules": "all-linear"}, {"target_modules": ["q_proj", "self_attn.v_proj"]}]
)
def test_adapters_that_are_where_they_were_asked_for_pass(options):
    check_what_learns(get_peft_model(make_model()[0], lora(**options)))
