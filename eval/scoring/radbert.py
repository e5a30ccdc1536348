"""
The RadBERT classifier of CT-RATE: a RoBERTa encoder and one linear layer read 18 labels from a report.

The architecture follows `text_classifier` of CT-CLIP (`classifier.py`, `dataset.py`, `model_trainer.py`). The encoder,
under `model.` in the checkpoint, is the `AutoModel` of `zzxslp/RadBERT-RoBERTa-4m`. The linear layer, under
`classifier.`, takes the encoder's `pooler_output`. Reports are truncated to 512 tokens, and a label is positive if its
sigmoid reaches 0.5. The checkpoint is a state dict of both parts. Its users report (Reg2RG, issue 8) that the released
`RadBertClassifier.pth` holds `model.embeddings.position_ids`, a buffer that transformers no longer saves.

The released weights themselves are not tested here, because CT-RATE's licence restricts them. Their order of labels is
assumed to be the order in CT-RATE's tables, as in `infer.py` of CT-CLIP.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.hub_files import find_file


ENCODER = "zzxslp/RadBERT-RoBERTa-4m"
WEIGHTS = ("model.safetensors", "RadBertClassifier.pth")
MAX_TOKENS = 512
THRESHOLD = 0.5


class RadBertClassifier(nn.Module):
    """A RoBERTa encoder and a linear layer on its pooled output; the names are those of CT-CLIP's checkpoint."""

    def __init__(self, config: PreTrainedConfig):
        """Builds the model with random weights from the encoder's config."""
        super().__init__()
        self.model = AutoModel.from_config(config)
        self.classifier = nn.Linear(config.hidden_size, len(LABELS))

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits of shape `[B, 18]` for tokens of shape `[B, T]`."""
        return self.classifier(self.model(**inputs).pooler_output)


def find_weights(checkpoint: str) -> Path:
    """The file of weights: `checkpoint` itself, or the first of `WEIGHTS` that the folder or Hub repository holds."""
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    for name in WEIGHTS:
        if path := find_file(checkpoint, name):
            return path
    raise OSError(f"{checkpoint} holds neither {' nor '.join(WEIGHTS)}: pass the file itself, a folder or a Hub name.")


@lru_cache(maxsize=1)
def load_radbert(checkpoint: str, encoder: str | None = None) -> tuple[RadBertClassifier, PreTrainedTokenizerBase]:
    """
    Loads the classifier and its tokenizer. The last classifier stays in memory, so a second call does not reload it.

    Args:
        checkpoint (`str`):
            A file of weights (`.pth` or `.safetensors`), or a folder or Hub repository that holds `model.safetensors`
            or `RadBertClassifier.pth`.
        encoder (`str`, *optional*):
            Folder or Hub repository with `config.json` and tokenizer of the encoder. Defaults to the place of the
            weights if it has a `config.json`, and to `ENCODER` otherwise, as in CT-CLIP.

    Returns:
        `tuple`: the model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Raises:
        `OSError`: if there are no such weights or no such encoder.
        `RuntimeError`: if the weights are not those of this classifier. The message names the keys.
        `pickle.UnpicklingError`: if a `.pth` file holds anything but tensors, since code from a checkpoint is not run.
    """
    weights = find_weights(checkpoint)
    if encoder is None:
        where = str(weights.parent) if Path(checkpoint).exists() else checkpoint
        encoder = where if find_file(where, "config.json") else ENCODER
    if weights.suffix == ".safetensors":
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    # Old versions of transformers saved this buffer of positions 0, 1, 2, ..., which is not a weight.
    state.pop("model.embeddings.position_ids", None)
    model = RadBertClassifier(AutoConfig.from_pretrained(encoder))
    model.load_state_dict(state)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), AutoTokenizer.from_pretrained(encoder)


@torch.inference_mode()
def radbert_probabilities(
    texts: list[str], model: RadBertClassifier, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32
) -> np.ndarray:
    """
    Probability of each label, `sigmoid(W h + b)` with `h` the encoder's pooled output.

    Args:
        texts (`list[str]`):
            Reports. Tokens after the first 512 are not read.
        model ([`RadBertClassifier`]), tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            From [`load_radbert`].
        batch_size (`int`, *optional*, defaults to `32`):
            Reports per batch.

    Returns:
        `np.ndarray`: float32 array of shape `[N, 18]`.
    """
    device = next(model.parameters()).device
    rows = [np.empty((0, len(LABELS)), dtype=np.float32)]
    for start in range(0, len(texts), batch_size):
        tokens = tokenizer(
            texts[start : start + batch_size],
            truncation=True,
            max_length=MAX_TOKENS,
            padding=True,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        rows.append(model(**tokens.to(device)).float().sigmoid().cpu().numpy())
    return np.concatenate(rows)
