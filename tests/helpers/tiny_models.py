"""Tiny random models of the families that the trainer serves beside Qwen2.5-VL, with processors and chat templates.

The real architectures, processors and (from TRL) chat templates; only widths, depths and vocabularies are small.
"""

import json
from importlib.resources import files

import torch
from tokenizers import Tokenizer, models, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizer,
    GenerationConfig,
    Qwen2VLImageProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from ct_rate_pairs.trainer.tiny import train_tokenizer


TEXT_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def chat_template(name: str) -> str:
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def make_qwen3_processor(texts: list[str], template: str) -> Qwen3VLProcessor:
    """Of Qwen3-VL and its successors: patches of 16, merge 2, two frames a temporal patch, timestamps as text."""
    tokenizer = train_tokenizer([*texts, "<0.123456789 seconds>"], vocab_size=400)
    tokenizer.add_tokens(["<think>", "</think>"])
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, min_pixels=32 * 32),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(cap_pixels_per_frame=False),
        chat_template=chat_template(template),
    )


def make_tiny_qwen3(texts: list[str]) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """Deep-stacked features."""
    processor = make_qwen3_processor(texts, "qwen3_vl")
    text = {"rope_parameters": rope([6, 5, 5])}
    return make_qwen3_model(
        Qwen3VLForConditionalGeneration, Qwen3VLConfig, processor, text, {"deepstack_visual_indexes": [0]}
    ), processor


def make_tiny_qwen3_5(
    texts: list[str], template: str = "qwen3_5_think"
) -> tuple[Qwen3_5ForConditionalGeneration, Qwen3VLProcessor]:
    """One layer with linear attention, one with full attention; the template of the larger models, which think."""
    processor = make_qwen3_processor(texts, template)
    text = {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "rope_parameters": rope([2, 1, 1]) | {"partial_rotary_factor": 0.25},
    }
    vision = {"initializer_range": 0.2}  # else the pixels hardly change the loss
    return make_qwen3_model(Qwen3_5ForConditionalGeneration, Qwen3_5Config, processor, text, vision), processor


def rope(sections: list[int]) -> dict:
    return {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": sections,
        "mrope_interleaved": True,
    }


def make_qwen3_model(of_model: type, of_config: type, processor: Qwen3VLProcessor, text: dict, vision: dict):
    """A model of the Qwen3 families, with what `text` and `vision` say beside its sizes."""
    token_id = processor.tokenizer.convert_tokens_to_ids
    config = of_config(
        text_config={
            "vocab_size": len(processor.tokenizer),
            **TEXT_SIZES,
            "pad_token_id": token_id("<|endoftext|>"),
            **text,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 1,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            **vision,
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = make(of_model, config)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=token_id("<|im_end|>"), pad_token_id=token_id("<|endoftext|>")
    )
    return model


GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
GEMMA_TURNS = ["<start_of_turn>", "<end_of_turn>"]
GEMMA_IMAGE_TOKENS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}


def make_tiny_gemma3(texts: list[str]) -> tuple[Gemma3ForConditionalGeneration, Gemma3Processor]:
    """Images of 28 pixels and 4 tokens; one layer with a sliding window, one without."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    empty = GemmaTokenizer().backend_tokenizer
    bpe.normalizer, bpe.pre_tokenizer = empty.normalizer, empty.pre_tokenizer
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*GEMMA_TOKENS, *bytes_], show_progress=False)
    bpe.train_from_iterator([*texts, "user\nmodel\n"], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    tokenizer = GemmaTokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        extra_special_tokens=GEMMA_TURNS,
        add_bos_token=True,
        **GEMMA_IMAGE_TOKENS,
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        chat_template=chat_template("gemma3"),
        image_seq_length=4,
    )
    token_id = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            **TEXT_SIZES,
            "query_pre_attn_scalar": 32,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
            "vision_use_head": False,
        },
        mm_tokens_per_image=4,
        boi_token_index=token_id("<start_of_image>"),
        eoi_token_index=token_id("<end_of_image>"),
        image_token_index=token_id("<image_soft_token>"),
    )
    model = make(Gemma3ForConditionalGeneration, config)
    # A projection that starts at zero would hide every image.
    torch.nn.init.eye_(model.model.multi_modal_projector.mm_input_projection_weight)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=[token_id("<eos>"), token_id("<end_of_turn>")], pad_token_id=token_id("<pad>")
    )
    return model, processor


def make(model_class, config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model_class(config)
