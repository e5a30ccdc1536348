"""Loads weights in 4 or 8 bits, by bitsandbytes, so that a large model fits into a small memory."""

import logging
from importlib.util import find_spec
from typing import Literal

import torch
from transformers import BitsAndBytesConfig
from transformers.integrations import validate_bnb_backend_availability


Quantization = Literal["4bit", "8bit"]
QUANTIZATIONS = ("4bit", "8bit")
TOLD = {"4bit": "quantized to 4 bits", "8bit": "quantized to 8 bits"}


def quantization_config(quantization: Quantization) -> BitsAndBytesConfig:
    """
    The configuration that loads a model in 4 bits (`"nf4"`, as QLoRA trains it) or in 8 bits.

    The matrices of all layers are quantized. Embeddings, output weights, norms and convolutions are not.

    Raises:
        `ValueError`: for another word.
        `ImportError`: without bitsandbytes, or if it cannot compute on this machine.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization cannot be {quantization!r:.80}. It is one of {', '.join(QUANTIZATIONS)}.")
    if find_spec("bitsandbytes") is None:
        raise ImportError(
            f"quantization={quantization!r} needs bitsandbytes: pip install 'ct-rate-pairs[qlora]'. Or leave it out, "
            "and load the weights with dtype='bfloat16'."
        )
    if not validate_bnb_backend_availability():
        raise ImportError(
            f"quantization={quantization!r}: the bitsandbytes that is installed cannot compute on this machine. Leave "
            "it out, and load the weights with dtype='bfloat16'."
        )
    if quantization == "8bit":
        # It would warn in each layer, for each token, that it computes in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
