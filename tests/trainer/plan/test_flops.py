"""Operations counted on the meta device equal those that a formula says, and those of a whole model."""

import pytest
import torch
from helpers.pair_trainer import ROWS, make_trainer
from helpers.shares import mostly_slow
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLTextModel,
)

from ct_rate_pairs.trainer.plan.flops import count_flops, language_flops, tower_flops
from ct_rate_pairs.trainer.plan.row_shape import RowShape
from ct_rate_pairs.trainer.plan.shapes import LANGUAGE, MODELS, TOWER, make_config
from ct_rate_pairs.trainer.plan.ways import Way


SMALL = RowShape(slices=4, side=84, prompt=8, report=16)  # one window of 6 x 6 patches


def language_by_hand(model: str, row: RowShape) -> float:
    """Forward of the language model: two operations per weight and token, and two products in attention."""
    text = LANGUAGE[model]
    hidden, keys = text["hidden_size"], 128 * text["num_key_value_heads"]
    weights = hidden * (2 * hidden + 2 * keys + 3 * text["intermediate_size"])
    layer = 2 * weights * row.tokens + 4 * hidden * row.tokens**2
    return layer * text["num_hidden_layers"] + 2 * hidden * text["vocab_size"] * row.report


def tower_by_hand(model: str, row: RowShape) -> float:
    """Forward of the vision tower: of its patches, its layers with windows of 8 x 8 patches or none, its projector."""
    width, inner = TOWER["hidden_size"], TOWER["intermediate_size"]
    frames, side, _ = row.grid
    windows = [8] * (side // 8) + [side % 8] * (side % 8 > 0)
    in_windows = frames * sum((a * b) ** 2 for a in windows for b in windows)
    full = len(TOWER["fullatt_block_indexes"])
    scores = (TOWER["depth"] - full) * in_windows + full * frames * side**4
    layers = TOWER["depth"] * 2 * row.patches * (4 * width**2 + 3 * width * inner) + 4 * width * scores
    projector = 2 * row.visual * ((4 * width) ** 2 + 4 * width * LANGUAGE[model]["hidden_size"])
    return 2 * row.patches * 3 * 2 * 14**2 * width + layers + projector


@pytest.mark.parametrize("model", mostly_slow(MODELS))
def test_the_count_is_that_of_the_formula(model):
    assert language_flops(model, SMALL, "full").forward == pytest.approx(language_by_hand(model, SMALL), rel=1e-9)
    assert tower_flops(model, SMALL, "full").forward == pytest.approx(tower_by_hand(model, SMALL), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_count_is_that_of_the_formula_at_the_released_size_of_a_row(model):
    row = RowShape()
    assert language_flops(model, row, "full").forward == pytest.approx(language_by_hand(model, row), rel=1e-9)
    assert tower_flops(model, row, "full").forward == pytest.approx(tower_by_hand(model, row), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_layers_add_up_to_the_whole_model(model):
    config = make_config(model)
    with torch.device("meta"):
        tower = Qwen2_5_VisionTransformerPretrainedModel._from_config(config.vision_config, dtype=torch.bfloat16)
        language = Qwen2_5_VLTextModel._from_config(config.text_config, dtype=torch.bfloat16)
        pixels = torch.empty(SMALL.patches, 3 * 2 * 14**2, dtype=torch.bfloat16)
        embeddings = torch.empty(1, SMALL.tokens, config.text_config.hidden_size, dtype=torch.bfloat16)
        places = torch.empty(3, 1, SMALL.tokens, dtype=torch.int64)
    tower.rotary_pos_emb.register_forward_pre_hook(lambda _, given: tuple(one.to("meta") for one in given))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        tower(pixels, grid_thw=torch.tensor([SMALL.grid]))
    assert tower_flops(model, SMALL, "full").forward == counter.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        language(inputs_embeds=embeddings, position_ids=places, use_cache=False)
    head = 2 * SMALL.report * config.text_config.hidden_size * config.text_config.vocab_size
    assert language_flops(model, SMALL, "full").forward == counter.get_total_flops() + head


def test_a_step_is_near_six_operations_per_weight_and_token():
    text = LANGUAGE["7B"]
    keys = 128 * text["num_key_value_heads"]
    weights = text["num_hidden_layers"] * text["hidden_size"] * (
        2 * text["hidden_size"] + 2 * keys + 3 * text["intermediate_size"]
    )  # fmt: skip
    flops = language_flops("7B", SMALL._replace(report=1), "full")
    assert 1 < flops.model / (6 * weights * SMALL._replace(report=1).tokens) < 1.2  # and attention and one head


@pytest.mark.slow
def test_what_does_not_learn_has_no_backward_of_its_own():
    full, frozen, lora = (count_flops("3B", SMALL, tuning) for tuning in ("full", "frozen_tower", "lora"))
    assert full.language.backward == 2 * full.language.forward
    assert full.tower.backward == pytest.approx(2 * full.tower.forward, rel=0.01)  # but for the pixels' own gradient
    assert frozen.tower == (full.tower.forward, 0, 0) and frozen.language == full.language
    assert full.language.forward < lora.language.forward < 1.1 * full.language.forward
    assert lora.language.backward < 0.6 * full.language.backward
    assert lora.tower.backward == 0 < lora.tower.again  # by gradient checkpointing, for nothing


def test_gradient_checkpointing_repeats_the_layers_once():
    flops = count_flops("3B", SMALL, "full")
    for part in flops:
        assert 0.8 * part.forward < part.again < part.forward
        assert part.run == part.forward + part.backward + part.again


def test_ways_of_training_cost_what_they_compute():
    flops = count_flops("3B", SMALL, "full")
    stock = flops.needed(Way("none"))
    assert flops.needed(Way("heter")) == flops.needed(Way("gauss")) == 2 * stock
    assert flops.needed(Way("heter", 0.25)) == pytest.approx(1.25 * stock)
    assert flops.needed(Way("mutual")) == flops.tower.model + 2 * flops.language.model
    assert flops.needed(Way("mutual", 0.25).sharded) == flops.needed(Way("heter", 0.25))
    assert Way("heter").sharded == Way("heter")
    assert flops.run(Way("heter")) == 2 * flops.run(Way("none")) > flops.needed(Way("heter"))


@pytest.mark.slow
def test_the_tower_grows_with_the_slices_and_the_language_model_with_the_tokens():
    more = SMALL._replace(slices=8)
    assert tower_flops("3B", more, "full").model == 2 * tower_flops("3B", SMALL, "full").model
    assert language_flops("3B", more, "full").model > language_flops("3B", SMALL, "full").model


def test_a_row_has_the_patches_that_the_collator_makes():
    row = RowShape()
    assert row.grid == (5, 36, 36) and row.visual == 5 * 18 * 18 and row.tokens == 1620 + 32 + 311
    assert RowShape(slices=9).grid[0] == 5  # the last of an odd number is repeated
    assert RowShape(side=448).visual == 5 * 16 * 16


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [True, False])
def test_lora_runs_a_backward_through_the_frozen_tower_only_by_gradient_checkpointing(checkpoints, tmp_path):
    """The plan counts this backward, which no weight needs. If transformers leaves it out, the plan must, too."""
    lora = LoraConfig(r=2, target_modules=r".*language_model.*_proj")
    trainer = make_trainer(tmp_path, peft_config=lora, gradient_checkpointing=checkpoints)
    tower = trainer.model.base_model.model.model.visual
    assert not any(weight.requires_grad for weight in tower.parameters())
    runs_back = []
    tower.register_forward_hook(lambda *call: runs_back.append(call[-1].pooler_output.requires_grad))
    batch = dict(trainer.data_collator(ROWS[:2]))
    trainer.training_step(trainer.model, batch, num_items_in_batch=(batch["labels"] != -100).sum())
    assert set(runs_back) == {checkpoints}
