"""An encoder and a language model that are joined here are a LLaVA, with the weights that they had before."""

import subprocess
import sys

import pytest
import torch
from helpers.eval_rows import REPORTS, make_row
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    ResNetConfig,
    ResNetModel,
)

from ct_rate_pairs.eval.generate import generate_reports
from ct_rate_pairs.eval.load_model import load_model
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.encoder_decoder import VISION_MODELS, make_encoder_decoder
from ct_rate_pairs.trainer.tiny import train_tokenizer


TEXTS = [*REPORTS, "Write the report."]
ROWS = [make_row(seed, report) for seed, report in enumerate(REPORTS)]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_small(vision_model="vit", text_model="biogpt", seed=0):
    return make_encoder_decoder(vision_model, text_model, TEXTS, (56, 56), 4, seed=seed)


def save_clip(folder):
    """CLIP, whose processor crops as OpenAI's does."""
    config = CLIPConfig(
        text_config=SIZES, vision_config=SIZES | {"image_size": 28, "patch_size": 14}, projection_dim=32
    )
    model = CLIPModel(config)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return model


def save_text(folder, model_class, config):
    """A language model, with the tokenizer that it was trained with."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    model = model_class(config(vocab_size=len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("vision_model", "text_model"), [*((vision, "biogpt") for vision in VISION_MODELS), ("vit", "gpt2")]
)
def test_it_writes_after_loading_what_it_wrote_before_alone_or_in_a_batch(vision_model, text_model, tmp_path):
    model, processor = make_small(vision_model, text_model)
    torch.nn.init.normal_(model.lm_head.weight)  # so that texts differ
    before = generate_reports(model, PairCollator(processor), ROWS, max_new_tokens=12, progress=False)
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    loaded, collator = load_model(str(tmp_path))
    assert type(loaded) is type(model)
    longer = make_row(7, "", prompt="Write the report. The patient coughs.")
    together = generate_reports(loaded, collator, [*ROWS, longer], max_new_tokens=12, progress=False)
    assert together[:3] == before and any(before)


@pytest.mark.slow
def test_an_encoder_of_volumes_is_known_to_a_process_that_only_loads_it(tmp_path):
    for part in make_small("resnet3d"):
        part.save_pretrained(tmp_path)
    load = "import sys; from ct_rate_pairs.eval.load_model import load_model; load_model(sys.argv[1])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", load, str(tmp_path)], check=True)


@pytest.mark.parametrize("vision_model", VISION_MODELS)
def test_each_slice_changes_the_loss_and_so_does_their_order(vision_model):
    model, processor = make_small(vision_model)
    collator = PairCollator(processor)

    def loss(images):
        batch = collator([ROWS[0] | {"images": images}])
        del batch["volumes"]
        with torch.no_grad():
            return model.eval()(**batch).loss.item()

    images = ROWS[0]["images"]
    shown = loss(images)
    for place in range(len(images)):
        assert loss([*images[:place], ROWS[1]["images"][0], *images[place + 1 :]]) != shown
    assert loss(images[::-1]) != shown


@pytest.mark.parametrize("slices", [2, 8])
def test_volumes_of_other_numbers_of_slices_are_no_stacks_of_another_volume(slices, tmp_path):
    for part in make_small("resnet3d"):  # for volumes of 4 slices
        part.save_pretrained(tmp_path)
    _, collator = load_model(str(tmp_path))
    rows = [row | {"images": row["images"][:1] * slices} for row in ROWS[:2]]
    told = f"{ROWS[0]['volume']} has {slices} images, .* reads 4 slices of a volume at once: pass num_slices=4"
    for collate in (collator, collator.prompts):
        with pytest.raises(ValueError, match=told):
            collate(rows)


def test_seed_decides_the_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (make_small(seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_pretrained_parts_keep_their_weights_and_the_sides_of_the_chest_are_not_cropped(tmp_path):
    clip = save_clip(tmp_path / "clip")
    text = save_text(
        tmp_path / "qwen", Qwen2ForCausalLM, lambda **size: Qwen2Config(**SIZES, num_key_value_heads=2, **size)
    )
    model, processor = make_encoder_decoder(str(tmp_path / "clip"), str(tmp_path / "qwen"), [], (56, 84), 4)
    tower = model.model.vision_tower.state_dict()
    assert all(torch.equal(tower[name], value) for name, value in clip.vision_model.state_dict().items())
    # The last layer but one of a dual encoder, as LLaVA reads it.
    assert model.config.vision_feature_layer == -2
    old = text.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight[: len(old)], old)
    assert model.get_input_embeddings().num_embeddings == len(processor.tokenizer)  # with the token of images
    wide = make_row(0, REPORTS[0])
    wide["images"] = [image.resize((84, 56)) for image in wide["images"]]
    light = [image.copy() for image in wide["images"]]
    for image in light:
        image.paste(255, (0, 0, 6, 56))  # at the very side
    collator = PairCollator(processor)
    pixels = [collator.prompts([wide | {"images": images}])["pixel_values"] for images in (wide["images"], light)]
    assert pixels[0].shape == (4, 3, 28, 28) and not torch.equal(*pixels)
    assert generate_reports(model, collator, [wide], max_new_tokens=2, progress=False) is not None


def test_gpt2_whose_head_is_its_embeddings_scores_words_as_it_did_also_when_loaded_again(tmp_path):
    config = {"n_embd": 32, "n_layer": 1, "n_head": 1, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    text = save_text(tmp_path / "gpt2", GPT2LMHeadModel, lambda **size: GPT2Config(**config, **size)).eval()
    for part in make_encoder_decoder("vit", str(tmp_path / "gpt2"), [], (56, 56), 4):
        part.save_pretrained(tmp_path / "joined")
    tokens = torch.tensor([[5, 7, 9]])
    with torch.no_grad():
        expected = text(input_ids=tokens).logits
        scores = load_model(str(tmp_path / "joined"))[0](input_ids=tokens).logits
    torch.testing.assert_close(scores[..., : expected.shape[-1]], expected)


def test_weights_that_a_pretrained_part_lacks_are_not_made_up(tmp_path):
    save_clip(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vision_model.encoder.layers.1.mlp.fc1.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"vision_model: .* lacks the weights encoder.layers.1.mlp.fc1.weight"):
        make_encoder_decoder(str(tmp_path), "biogpt", TEXTS, (56, 56), 4)


@pytest.mark.parametrize(
    ("vision_model", "text_model", "message"),
    [
        ("clip", "phi", r"text_model: .* cannot hold PhiForCausalLM, because it has no place for .*lm_head\.bias"),
        ("clip", "granite", "text_model: .* cannot hold GraniteForCausalLM, because it does not scale"),
        ("bert", "biogpt", "vision_model: .*bert holds a BertConfig, which is no encoder of image patches"),
        ("resnet", "biogpt", "vision_model: .*holds a ResNetConfig.*Take a ViT"),
    ],
)
def test_what_cannot_be_joined_is_refused(vision_model, text_model, message, tmp_path):
    save_clip(tmp_path / "clip")
    BertModel(BertConfig(vocab_size=30, **SIZES)).save_pretrained(tmp_path / "bert")
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path / "resnet")
    CLIPImageProcessor().save_pretrained(tmp_path / "resnet")
    save_text(tmp_path / "phi", PhiForCausalLM, lambda **size: PhiConfig(**SIZES, **size))
    save_text(
        tmp_path / "granite", GraniteForCausalLM, lambda **size: GraniteConfig(**SIZES, logits_scaling=8.0, **size)
    )
    text = text_model if text_model == "biogpt" else str(tmp_path / text_model)
    with pytest.raises(ValueError, match=message):
        make_encoder_decoder(str(tmp_path / vision_model), text, TEXTS, (56, 56), 4)
