"""
A model of one's own: an image encoder, a language model, and a projector between them.

The class is LLaVA's of transformers (Liu et al., 2023, arXiv:2304.08485), which takes most image encoders of
transformers and many of its language models. So such a model is loaded, published and served as any other LLaVA. The
encoder sees one slice at a time, or all slices of a volume ([`~ct_rate_pairs.trainer.volume_encoder`]), and the
language model reads the slices in their order, before the prompt.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    BaseImageProcessor,
    BioGptConfig,
    BioGptForCausalLM,
    CLIPImageProcessor,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from .row_checks import STACKED
from .tiny import train_tokenizer
from .volume_encoder import NETWORKS, VolumeEncoder, VolumeEncoderConfig


VISION_MODELS = ("swin", "vit", *NETWORKS)  # small untrained encoders; any other name is that of a pretrained one
TEXT_MODELS = ("biogpt", "gpt2")
IMAGE_TOKEN = "<image>"
PATCH = 32  # pixels along each side of what becomes one token of a small encoder
# The slices, the prompt on a line of its own, and the answer.
CHAT_TEMPLATE = (
    "{{% for message in messages %}}{{% for content in message['content'] %}}"
    "{{% if content['type'] == 'image' %}}{image}{{% else %}}{{{{ content['text'] }}}}{{% endif %}}{{% endfor %}}"
    "{{% if message['role'] == 'assistant' %}}{end}{{% else %}}{{{{ '\n' }}}}{{% endif %}}{{% endfor %}}"
)


class Encoder(NamedTuple):
    """An image encoder, what prepares its images, the layer that the projector reads, and how many images it needs."""

    model: PreTrainedModel
    image_processor: BaseImageProcessor
    layer: int
    images: int = 1


def make_encoder_decoder(
    vision_model: str,
    text_model: str,
    texts: list[str],
    image_size: tuple[int, int],
    num_slices: int,
    *,
    seed: int = 0,
    vision_revision: str | None = None,
    text_revision: str | None = None,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """
    Joins an image encoder and a language model by a projector, which is always untrained.

    Args:
        vision_model (`str`):
            A small untrained encoder: `"swin"` or `"vit"` of single slices, `"swin_unetr"` or `"resnet3d"` of all
            slices of a volume; or a folder or a name on the Hub, such as `google/vit-base-patch16-224` or
            `openai/clip-vit-base-patch32`.
        text_model (`str`):
            `"biogpt"` or `"gpt2"`, a small untrained language model; or a folder or a name on the Hub, such as
            `microsoft/biogpt`.
        texts (`list[str]`):
            Texts from which the vocabulary of a small language model is learnt: the reports of the training split.
        image_size (`tuple[int, int]`):
            Height and width of the slices in pixels. A small encoder is made for this size, rounded up to whole
            patches of 32 pixels, and slices are scaled to it. A pretrained encoder has a size of its own.
        num_slices (`int`):
            Slices of a volume, for an encoder that reads them at once.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the untrained weights. The global random state is not changed.
        vision_revision (`str`, *optional*), text_revision (`str`, *optional*):
            Branch, tag or commit of a pretrained model on the Hub.

    Returns:
        `tuple[LlavaForConditionalGeneration, LlavaProcessor]`: the model in float32 on the CPU, and its processor.

    Raises:
        `OSError`: if there is no such model.
        `ValueError`: if LLaVA's class cannot join the two.
        `ImportError`: if MONAI is needed and not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if vision_model in VISION_MODELS:
            encoder = _small_encoder(vision_model, image_size, num_slices)
        else:
            encoder = _pretrained_encoder(vision_model, vision_revision)
        if text_model in TEXT_MODELS:
            tokenizer = train_tokenizer(texts, vocab_size=1024)
            decoder = _small_decoder(text_model, tokenizer)
        else:
            tokenizer = AutoTokenizer.from_pretrained(text_model, revision=text_revision, trust_remote_code=False)
            decoder = _load("text_model", text_model, AutoModelForCausalLM, text_revision)
        return join(encoder, decoder, tokenizer)


def join(
    encoder: Encoder, decoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """
    Puts an encoder and a language model into LLaVA's class, with an untrained projector.

    Args:
        encoder ([`Encoder`]):
            The image encoder.
        decoder ([`~transformers.PreTrainedModel`]):
            A language model, whose scores of words come from a linear layer without bias, as in LLaVA's class.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the language model. It gets a token for images.

    Returns:
        `tuple[LlavaForConditionalGeneration, LlavaProcessor]`: the model, and its processor.

    Raises:
        `ValueError`: if LLaVA's class cannot join the two.
    """
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if len(tokenizer) > decoder.get_input_embeddings().num_embeddings:
        decoder.resize_token_embeddings(len(tokenizer))
    patch, strategy = _grid(encoder)
    # LLaVA's class ties only embeddings of this name to the head. Those of GPT-2 have another: its head gets its own.
    embedded_by_name = "embed_tokens" in dict(decoder.base_model.named_children())
    decoder.config.tie_word_embeddings &= embedded_by_name
    config = LlavaConfig(
        vision_config=encoder.model.config,
        text_config=decoder.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_feature_layer=encoder.layer,
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=decoder.config.tie_word_embeddings,
    )
    model = LlavaForConditionalGeneration(config)
    has_place_for = model.state_dict().keys()
    model.model.vision_tower = encoder.model
    model.model.language_model = decoder.base_model
    head = decoder.get_output_embeddings()
    model.lm_head = head if embedded_by_name else deepcopy(head)
    _check_words(model, decoder, sorted(model.state_dict().keys() - has_place_for))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    processor = LlavaProcessor(
        image_processor=encoder.image_processor,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=int(strategy == "default"),
        image_token=IMAGE_TOKEN,
        chat_template=CHAT_TEMPLATE.format(image=IMAGE_TOKEN, end=tokenizer.eos_token),
    )
    return model, processor


def _check_words(model: LlavaForConditionalGeneration, decoder: PreTrainedModel, lost: list[str]) -> None:
    """That the model scores words as its language model does alone, and still will after it was saved and loaded."""
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        alone, joined = (part(input_ids=tokens).logits for part in (decoder.eval(), model.eval()))
    if lost or not torch.allclose(alone, joined, rtol=1e-3, atol=1e-3):
        reason = (
            f"has no place for its weights {', '.join(lost[:3])}"
            if lost
            else "does not scale or cap scores as it does"
        )
        raise ValueError(
            f"text_model: LLaVA's class of transformers cannot hold {type(decoder).__name__}, because it {reason}. "
            "Take BioGPT, GPT-2, Llama, Qwen2 or another model whose scores come from a linear layer without bias."
        )


def _grid(encoder: Encoder) -> tuple[int, str]:
    """
    The pixels along each side of a token of the encoder, and how LLaVA selects its tokens: `"full"` takes all, and
    `"default"` all but the first, which stands for the whole image.
    """
    height, width = (encoder.image_processor.size[side] for side in ("height", "width"))
    with torch.no_grad():
        images = torch.zeros(encoder.images, encoder.model.config.num_channels, height, width)
        tokens = encoder.model(images, output_hidden_states=True).hidden_states[encoder.layer].shape[1]
    for strategy, number in (("full", tokens), ("default", tokens - 1)):
        patch = round((height * width / number) ** 0.5)
        if (height // patch) * (width // patch) == number:
            return patch, strategy
    raise ValueError(
        f"vision_model: {type(encoder.model).__name__} makes {tokens} tokens of an image of {height} x {width} "
        "pixels, which are no grid of square patches. Take a ViT, CLIP, SigLIP, DINOv2 or Swin."
    )


def _small_encoder(name: str, image_size: tuple[int, int], num_slices: int) -> Encoder:
    height, width = (-(-side // PATCH) * PATCH for side in image_size)
    if name == "swin":  # the two-dimensional sibling of SwinUNETR's encoder
        config = SwinConfig(
            image_size=(height, width),
            patch_size=4,
            embed_dim=16,
            depths=[2, 2, 2, 2],  # of two layers, the second has shifted windows
            num_heads=[1, 2, 4, 4],
            window_size=min(7, height // PATCH, width // PATCH),  # no larger than the last stage
            drop_path_rate=0.0,
        )
        model = SwinModel(config, add_pooling_layer=False)
    elif name in NETWORKS:
        grid = height // PATCH, width // PATCH
        model = VolumeEncoder(VolumeEncoderConfig(name, num_slices, grid, image_size=(height, width)))
    else:
        config = ViTConfig(
            image_size=(height, width),
            patch_size=PATCH,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
        model = ViTModel(config, add_pooling_layer=False)
    images = num_slices if name in NETWORKS else 1
    prepare = CLIPImageProcessor(
        size={"height": height, "width": width},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        # The encoder sees slices without their volumes: it cannot tell one volume of 10 from two of 5, but rows can.
        **({STACKED: images} if images > 1 else {}),
    )
    return Encoder(model, prepare, layer=-1, images=images)


def _pretrained_encoder(name: str, revision: str | None) -> Encoder:
    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    # Of a dual encoder, such as CLIP, the image tower, and the last layer but one, as in LLaVA: the last one is
    # shaped by the comparison with texts.
    dual = "vision_config" in config.sub_configs
    of_images = config.vision_config if dual else config
    if type(of_images) not in MODEL_MAPPING or not {"num_channels", "image_size"} <= of_images.to_dict().keys():
        raise ValueError(
            f"vision_model: {name} holds a {type(config).__name__}, which is no encoder of image patches. Take a ViT, "
            "CLIP, SigLIP, DINOv2 or Swin."
        )
    model = _load("vision_model", name, MODEL_MAPPING[type(of_images)], revision)
    prepare = AutoImageProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
    side = of_images.image_size
    height, width = side if isinstance(side, list | tuple) else (side, side)
    prepare.size = {"height": height, "width": width}
    prepare.do_center_crop = False  # a crop would cut the sides of the chest
    return Encoder(model, prepare, layer=-2 if dual else -1)


def _load(option: str, name: str, model_class: type, revision: str | None) -> PreTrainedModel:
    """A pretrained model in float32, with all its weights: transformers would draw those that are missing."""
    model, told = model_class.from_pretrained(
        name, revision=revision, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
    )
    # A pooling layer, which some image classifiers lack, is not read here.
    if missing := sorted(weight for weight in told["missing_keys"] if "pooler" not in weight):
        raise ValueError(
            f"{option}: {name} lacks the weights {', '.join(missing[:3])}{' and others' * (len(missing) > 3)}. "
            "Download it again, or name another model."
        )
    return model


def _small_decoder(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    of_both = {
        "vocab_size": len(tokenizer) + 1,  # and the token of images
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**of_both, n_inner=256, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    return BioGptForCausalLM(
        BioGptConfig(
            **of_both,
            intermediate_size=256,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            layerdrop=0.0,
        )
    )
