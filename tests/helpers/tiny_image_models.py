"""Tiny random models that are shown images: the LLaVA family, Idefics3, BLIP-2 and InstructBLIP.

The real architectures, processors and chat templates, as in `tiny_models`.
"""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    GenerationConfig,
    GPT2Tokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
)

from ct_rate_pairs.trainer.tiny import train_tokenizer, train_wordpiece

from .tiny_models import chat_template, make


TEXT_MODEL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
VISION_MODEL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
# Those of llava-hf/llava-1.5-7b-hf and llava-hf/llava-onevision-qwen2-7b-ov-hf, without the marks of generation.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
ONEVISION_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_llava(texts, language_model="llama", template=LLAVA_TEMPLATE):
    """LLaVA 1.5: CLIP, 16 tokens an image, and a context that a dozen slices fill, as in the real one."""
    tokenizer = train_tokenizer([*texts, "USER: ASSISTANT:"], vocab_size=400)
    tokenizer.add_tokens(["<image>", "</s>"], special_tokens=True)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    )
    text = {"model_type": language_model, "vocab_size": len(tokenizer), "max_position_embeddings": 250}
    vision = {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, "projection_dim": 32}
    config = LlavaConfig(
        text_config=TEXT_MODEL | text,
        vision_config=VISION_MODEL | vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    return with_ends(make(LlavaForConditionalGeneration, config), tokenizer), processor


def make_tiny_llava_med(texts):
    """LLaVA-Med as it is converted: LLaVA with Mistral as its language model, and Mistral's turns."""
    return make_tiny_llava(texts, "mistral", chat_template("llava_next"))


def make_tiny_onevision(texts):
    """LLaVA-OneVision: SigLIP, and a video processor that resizes to squares, so slices go in as images."""
    tokenizer = train_tokenizer(texts, vocab_size=400)
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    grid = [[28, 28], [56, 56]]
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size={"height": 28, "width": 28}, image_grid_pinpoints=grid),
        video_processor=LlavaOnevisionVideoProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=ONEVISION_TEMPLATE,
    )
    vision = {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, "vision_use_head": False}
    config = LlavaOnevisionConfig(
        text_config=TEXT_MODEL | {"model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config=VISION_MODEL | vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )
    return with_ends(make(LlavaOnevisionForConditionalGeneration, config), tokenizer), processor


def with_ends(model, tokenizer, end="<|im_end|>", pad="<|endoftext|>"):
    end, pad = tokenizer.convert_tokens_to_ids([end, pad])
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    return model


def make_tiny_idefics3(texts):
    """Idefics3: an image becomes 4 tiles and itself as a fifth, of 16 patches and 4 tokens each."""
    tokenizer = train_tokenizer([*texts, "User: Assistant:"], vocab_size=500)
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    tiles = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    tokenizer.add_tokens([*tiles, "<global-img>"], special_tokens=True)
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56}),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=chat_template("idefics3"),
    )
    vision = {"model_type": "idefics3_vision", "image_size": 56, "patch_size": 14}
    config = Idefics3Config(
        text_config=TEXT_MODEL | {"model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config=VISION_MODEL | vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return with_ends(make(Idefics3ForConditionalGeneration, config), tokenizer, "<end_of_utterance>"), processor


def opt_tokenizer(texts):
    """Of OPT, which begins each text with the token that ends it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([*texts, "Question: Answer:"], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    tokenizer = GPT2Tokenizer(vocab=learnt["vocab"], merges=merges, **special)
    begin = ("</s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("</s> $A", special_tokens=[begin])
    return tokenizer


OPT = {"model_type": "opt", "num_hidden_layers": 2, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}
VICUNA = TEXT_MODEL | {"model_type": "llama"}
T5 = {"model_type": "t5", "d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}
T5 |= {"tie_word_embeddings": False}  # as FLAN-T5


def t5_tokenizer(texts):
    """Of T5, which ends each text with the token that ends an answer."""
    tokenizer = opt_tokenizer(texts)
    end = ("</s>", tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[end])
    return tokenizer


def blip_configs(tokenizer, text, qformer=None):
    """The parts that BLIP-2 and InstructBLIP have in common, with 4 query tokens."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    of_text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    decoder = {} if text is T5 else sizes | {"max_position_embeddings": 250}
    return {
        # With the default the patches would hardly differ.
        "vision_config": VISION_MODEL | {"image_size": 56, "patch_size": 14, "initializer_range": 0.2},
        "qformer_config": sizes | {"intermediate_size": 64, "initializer_range": 0.2} | (qformer or {}),
        "text_config": decoder | text | of_text,
        "num_query_tokens": 4,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
    }


def make_tiny_blip2(texts, text=OPT):
    """BLIP-2 with OPT or T5. Its processor has no chat template."""
    tokenizer = t5_tokenizer(texts) if text is T5 else opt_tokenizer(texts)
    processor = Blip2Processor(BlipImageProcessor(size={"height": 56, "width": 56}), tokenizer, num_query_tokens=4)
    config = Blip2Config(**blip_configs(processor.tokenizer, text))
    return make_blip(Blip2ForConditionalGeneration, config, processor.tokenizer), processor


def make_tiny_instructblip(texts, text=VICUNA):
    """InstructBLIP with Vicuna and OPT's tokenizer, or with T5. Its Q-Former reads the question, too."""
    of_qformer = train_wordpiece(texts, 300)
    image_processor = BlipImageProcessor(size={"height": 56, "width": 56})
    tokenizer = t5_tokenizer(texts) if text is T5 else opt_tokenizer(texts)
    processor = InstructBlipProcessor(image_processor, tokenizer, of_qformer, num_query_tokens=4)
    config = InstructBlipConfig(**blip_configs(processor.tokenizer, text, {"vocab_size": len(of_qformer)}))
    return make_blip(InstructBlipForConditionalGeneration, config, processor.tokenizer), processor


def make_blip(of_model, config, tokenizer):
    """The query tokens start at zero, so that all would be the same. T5 would write nothing but its first token."""
    model = make(of_model, config)
    drawn = [model.query_tokens]
    if config.text_config.is_encoder_decoder:
        drawn.append(model.language_model.lm_head.weight)
    for weights in drawn:
        weights.data.normal_(generator=torch.Generator().manual_seed(2))
    return with_ends(model, tokenizer, "</s>", "<pad>")
