"""The tiny model is a real Qwen2.5-VL that saves and loads, and its tokenizer fits the reports."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from ct_rate_pairs.trainer.tiny import make_tiny_qwen


TEXTS = ["No pleural effusion. A nodule in the right upper lobe measures 8 mm.", "Describe the findings."]


@pytest.fixture(scope="module")
def tiny():
    return make_tiny_qwen(TEXTS)


def test_saves_and_loads_to_the_letter(tiny, tmp_path):
    model, processor = tiny
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    loaded_processor = AutoProcessor.from_pretrained(tmp_path)

    assert type(loaded) is type(model)
    assert loaded.dtype == torch.float32
    weights, loaded_weights = model.state_dict(), loaded.state_dict()
    assert weights.keys() == loaded_weights.keys()
    assert all(torch.equal(weights[name], loaded_weights[name]) for name in weights)
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    assert loaded.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded_processor.to_dict() == processor.to_dict()
    assert loaded_processor.chat_template == processor.chat_template
    text = "<|im_start|>user\nNo nodule, 8 mm. Ünseen<|im_end|>"
    ids = processor.tokenizer(text)["input_ids"]
    assert loaded_processor.tokenizer(text)["input_ids"] == ids
    assert processor.tokenizer.decode(ids) == text


def test_words_of_the_reports_are_single_tokens(tiny):
    tokens = tiny[1].tokenizer.tokenize("A nodule in the right lobe.")
    assert tokens == ["A", "Ġnodule", "Ġin", "Ġthe", "Ġright", "Ġlobe", "."]


def test_vocabulary_keeps_its_bound():
    assert len(make_tiny_qwen(TEXTS, vocab_size=280, hidden_size=32, num_layers=1, vision_depth=1)[1].tokenizer) == 280


def test_seed_decides_the_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 1, "vision_depth": 1}
    first, again, other = (make_tiny_qwen(TEXTS, seed=seed, **sizes)[0].lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_last_vision_layer_sees_the_whole_frame_pair(tiny):
    """One changed patch reaches every token of its own frame pair (beyond a 112-pixel window), and no other pair's."""
    visual = tiny[0].model.visual.eval()
    grid = torch.tensor([[2, 12, 12]])  # two frame pairs of 168 x 168 pixels
    patches = torch.zeros(2 * 12 * 12, 1176)
    changed = patches.clone()
    changed[0] = 1.0
    with torch.no_grad():
        difference = (visual(changed, grid).pooler_output - visual(patches, grid).pooler_output).abs().amax(-1)
    first, second = difference.view(2, 36)
    assert (first > 0).all()
    assert (second == 0).all()
