"""
Tiny untrained models that need no download: a Qwen2.5-VL and a dual encoder.

The tiny Qwen2.5-VL has less than a million weights. It has the architecture, chat template, processor and video path
of the real model, and the same geometry (patch 14, temporal patch 2, merge 2, windows of 112 pixels, 2 position ids
per second). Only widths, depths and the vocabulary are small. The phantom demo and the tests use it by default.
"""

import json
from collections import Counter

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from .matcher import MatcherConfig, MatcherModel


BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tiny_matcher(
    texts: list[str],
    image_size: tuple[int, int],
    *,
    vocab_size: int = 1024,
    seed: int = 0,
    **config,
) -> tuple[MatcherModel, BertTokenizer]:
    """
    Make a small untrained matcher and its tokenizer, which a CPU trains in minutes.

    Args:
        texts (`list[str]`):
            Texts from which the WordPiece vocabulary is learnt: the reports of the training split.
        image_size (`tuple[int, int]`):
            Height and width of the slices in pixels.
        vocab_size (`int`, *optional*, defaults to `1024`):
            Largest size of the vocabulary.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights. The global random state is not changed.
        config:
            Options of [`MatcherConfig`] that replace those of the small model.

    Returns:
        `tuple[MatcherModel, BertTokenizer]`: the model in float32 on the CPU, and its tokenizer.
    """
    tokenizer = train_wordpiece(texts, vocab_size)
    small = {
        "image_size": tuple(image_size),
        "cnn_widths": (8, 16, 32, 64),
        "projection_dim": 128,
        "text_config": {
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "pad_token_id": tokenizer.pad_token_id,
        },
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 7,
        },
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MatcherModel(MatcherConfig(**small | config)), tokenizer


def train_wordpiece(texts: list[str], vocab_size: int) -> BertTokenizer:
    """
    A lower-case WordPiece tokenizer: BERT's special tokens, the letters of `texts`, and their most frequent words.

    The trainer of `tokenizers` is not used, because it numbers equally frequent pieces in another order at every call.
    A training that starts from such a vocabulary could not be repeated.
    """
    normalize, cut = normalizers.BertNormalizer().normalize_str, pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    counts = Counter(word for text in texts for word, _ in cut(normalize(text)))
    letters = sorted({letter for word in counts for letter in word})
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    pieces = [*BERT_TOKENS, *letters, *(f"##{letter}" for letter in letters), *words]
    return BertTokenizer(vocab={piece: place for place, piece in enumerate(pieces[:vocab_size])})


SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen2.5-VL's own template, word for word.
CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM_TURN = "system\nYou are a helpful assistant.\nuser\nassistant\n"


def make_tiny_qwen(
    texts: list[str],
    vocab_size: int = 1024,
    seed: int = 0,
    *,
    hidden_size: int = 128,
    num_layers: int = 2,
    vision_depth: int = 2,
    vision_hidden_size: int = 64,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """
    Make an untrained tiny Qwen2.5-VL and its processor.

    Args:
        texts (`list[str]`):
            Texts from which the tokenizer is trained: the reports and the prompts of the training split.
        vocab_size (`int`, *optional*, defaults to `1024`):
            Largest size of the vocabulary, including the 256 bytes and the 7 special tokens. Reports repeat a few
            hundred words, so most words get a single token by default, and the short sequences save time on a CPU.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights. The global random state is not changed.
        hidden_size (`int`, *optional*, defaults to `128`):
            Width of the text model, a multiple of 32 (the width of a head).
        num_layers (`int`, *optional*, defaults to `2`):
            Layers of the text model.
        vision_depth (`int`, *optional*, defaults to `2`):
            Layers of the vision tower. The last layer attends over the whole frame pair, the other layers attend
            within windows of 112 pixels (the paper's section 5).
        vision_hidden_size (`int`, *optional*, defaults to `64`):
            Width of the vision tower, a multiple of 32.

    Returns:
        `tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]`: the model in float32 on the CPU, and its
        processor. Both can be saved with `save_pretrained` and loaded with `from_pretrained`.
    """
    tokenizer = train_tokenizer(texts, vocab_size)
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28),
        tokenizer=tokenizer,
        # Slices already have their final size ("no further down-sampling", the paper's section 5), so nothing is
        # resized.
        video_processor=Qwen2VLVideoProcessor(
            do_resize=False, do_sample_frames=False, min_pixels=28 * 28, cap_pixels_per_frame=False
        ),
        chat_template=CHAT_TEMPLATE,
    )

    heads = hidden_size // 32
    token_id = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_hidden_layers": num_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 4096,
            # A head has 16 rotary frequencies: 4 for depth, 6 for height, 6 for width. The real model has 16:24:24.
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": token_id("<|endoftext|>"),
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": vision_depth,
            "hidden_size": vision_hidden_size,
            "intermediate_size": 2 * vision_hidden_size,
            "num_heads": vision_hidden_size // 32,
            "out_hidden_size": hidden_size,
            "fullatt_block_indexes": [vision_depth - 1],
            "tokens_per_second": 2,  # as in the released checkpoints; the default of the class is 4
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=token_id("<|im_end|>"), pad_token_id=token_id("<|endoftext|>")
    )
    return model, processor


def train_tokenizer(texts: list[str], vocab_size: int) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer trained on `texts`, with Qwen's pre-tokenizer and special tokens."""
    bpe = Tokenizer(models.BPE())
    qwen = Qwen2Tokenizer().backend_tokenizer
    bpe.normalizer, bpe.pre_tokenizer = qwen.normalizer, qwen.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, SYSTEM_TURN], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL_TOKENS),
    )
