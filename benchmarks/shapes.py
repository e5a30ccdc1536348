"""
The released sizes of Qwen2.5-VL, the floating-point operations of their two parts, and small models in which
the vision tower has the same share of the operations.
"""

import torch
from torch import nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration


# From the config.json of the released checkpoints.
TEXT = {
    "3B": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
}  # fmt: skip
VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
}  # fmt: skip
# What the released models see: ten slices of 448 x 448 pixels are 5 x 32 x 32 patches; 40 tokens of the prompt, and
# the 310 of a median report.
GRID, PROMPT_TOKENS, REPORT_TOKENS = (5, 32, 32), 40, 310


def released_config(shape: str, **token_ids: int) -> Qwen2_5_VLConfig:
    """The configuration of a released model."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Qwen2_5_VLConfig(
        text_config=TEXT[shape] | {"rope_parameters": rope},
        vision_config=VISION | {"out_hidden_size": TEXT[shape]["hidden_size"]},
        tie_word_embeddings=TEXT[shape]["tie_word_embeddings"],
        **token_ids,
    )


def forward_flops(
    config: Qwen2_5_VLConfig, grid: tuple[int, int, int], prompt_tokens: int, report_tokens: int
) -> tuple[float, float]:
    """Operations of a forward over one volume and its report: of the vision tower, and of the language model."""
    with torch.device("meta"):  # the shapes of all weights, without their values
        model = Qwen2_5_VLForConditionalGeneration(config)
    vision, text = config.vision_config, config.text_config
    frame = grid[1] * grid[2]
    patches, merged = grid[0] * frame, vision.spatial_merge_size**2
    window = min((vision.window_size // vision.patch_size) ** 2, frame)

    tower = 0.0
    for name, module in model.model.visual.named_modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            tower += 2 * module.weight.numel() * (patches / merged if "merger" in name else patches)
    for layer in range(vision.depth):
        seen = frame if layer in vision.fullatt_block_indexes else window
        tower += 4 * vision.hidden_size * patches * seen
    tokens = patches / merged + prompt_tokens + report_tokens
    weights = sum(m.weight.numel() for m in model.model.language_model.modules() if isinstance(m, nn.Linear))
    language = 2 * weights * tokens + 4 * text.hidden_size * tokens**2 * text.num_hidden_layers
    return tower, language + 2 * text.hidden_size * text.vocab_size * report_tokens


def ratio(config: Qwen2_5_VLConfig, grid: tuple[int, int, int], prompt_tokens: int, report_tokens: int) -> float:
    """Operations of the vision tower, per operation of the language model."""
    tower, language = forward_flops(config, grid, prompt_tokens, report_tokens)
    return tower / language


def released_ratio(shape: str) -> float:
    """The [`ratio`] of a released model, on what it sees."""
    return ratio(released_config(shape), GRID, PROMPT_TOKENS, REPORT_TOKENS)


def scale_tower(
    config: Qwen2_5_VLConfig, wanted: float, grid: tuple[int, int, int], prompt_tokens: int, report_tokens: int
) -> None:
    """Sets the width of the inner layers of the tower, so that a small model has the wanted [`ratio`]."""
    of_width = []
    for width in (64, 128):
        config.vision_config.intermediate_size = width
        of_width.append(ratio(config, grid, prompt_tokens, report_tokens))
    slope = (of_width[1] - of_width[0]) / 64  # the operations are linear in the width
    config.vision_config.intermediate_size = round(64 + (wanted - of_width[0]) / slope)
