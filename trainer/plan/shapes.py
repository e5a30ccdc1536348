"""The released sizes of Qwen2.5-VL, written out, so that a plan downloads nothing."""

from typing import Any


# From the `config.json` of the released checkpoints.
LANGUAGE = {
    "3B": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936,
    },
    "7B": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064,
    },
}  # fmt: skip
TOWER = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
    "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}  # fmt: skip
IS_TIED = {"3B": True, "7B": False}  # whether the output weights are those of the embeddings
MODELS = tuple(LANGUAGE)
TUNINGS = ("full", "frozen_tower", "lora")  # what learns; `lora`: adapters on the projections of the language model
LORA_RANK = 16  # TRL's default


def make_config(model: str, language: dict[str, Any] | None = None, tower: dict[str, Any] | None = None):
    """
    The configuration of a released model.

    Args:
        model (`str`):
            `"3B"` or `"7B"`.
        language (`dict`, *optional*):
            Values of the language model that replace the released ones, such as fewer layers.
        tower (`dict`, *optional*):
            Values of the vision tower that replace the released ones.

    Returns:
        [`~transformers.Qwen2_5_VLConfig`]: the configuration.
    """
    from transformers import Qwen2_5_VLConfig  # noqa: PLC0415  (the names above need no transformers)

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = LANGUAGE[model] | {"rope_parameters": rope} | (language or {})
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=TOWER | {"out_hidden_size": text["hidden_size"]} | (tower or {}),
        tie_word_embeddings=IS_TIED[model],
    )
