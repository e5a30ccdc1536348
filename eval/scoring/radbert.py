"""
The RadBERT classifier of CT-RATE: 18 labels from a report by a RoBERTa encoder and one linear layer.

Read in CT-CLIP's `text_classifier` (`classifier.py`, `dataset.py`, `model_trainer.py`): the encoder is `AutoModel` of
`zzxslp/RadBERT-RoBERTa-4m`, kept under `model.`, and the layer under `classifier.` reads its `pooler_output`; reports
are cut at 512 tokens and a label is set where its sigmoid reaches 0.5. The checkpoint is a plain state dict of both.
That the released `RadBertClassifier.pth` holds `model.embeddings.position_ids`, a buffer that transformers no longer
saves, is reported by its users (Reg2RG, issue 8). Not checked: the released weights themselves and their order of
labels, taken to be that of CT-RATE's tables, as in CT-CLIP's `infer.py`. They lie behind CT-RATE's licence.
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
    """
    A RoBERTa encoder and a linear layer on its pooled output, with the names of CT-CLIP's checkpoint.

    Args:
        config ([`~transformers.RobertaConfig`]):
            Shape of the encoder.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.model = AutoModel.from_config(config)
        self.classifier = nn.Linear(config.hidden_size, len(LABELS))

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits of shape `[B, 18]` for tokens of shape `[B, T]`."""
        return self.classifier(self.model(**inputs).pooler_output)


def find_weights(checkpoint: str) -> Path:
    """The file of weights itself, or the one of `WEIGHTS` in a folder or a Hub repository."""
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    for name in WEIGHTS:
        if path := find_file(checkpoint, name):
            return path
    raise OSError(
        f"{checkpoint} holds neither {' nor '.join(WEIGHTS)}: pass the file itself, or a folder or Hub name."
    )


@lru_cache(maxsize=1)
def load_radbert(checkpoint: str, encoder: str | None = None) -> tuple[RadBertClassifier, PreTrainedTokenizerBase]:
    """
    Loads the classifier and its tokenizer. The last one stays loaded, so labelling again costs no reading.

    Args:
        checkpoint (`str`):
            A file of weights (`.pth` or `.safetensors`), or a folder or Hub repository that holds `model.safetensors`
            or `RadBertClassifier.pth`.
        encoder (`str`, *optional*):
            Folder or Hub repository of the encoder's `config.json` and tokenizer. By default they lie beside the
            weights or, where no `config.json` does, come from `ENCODER`, as in CT-CLIP.

    Returns:
        `tuple`: the model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Raises:
        `OSError`: if there are no such weights or no such encoder.
        `RuntimeError`: if the weights are not those of this classifier; it names the keys.
        `pickle.UnpicklingError`: if a `.pth` holds anything but tensors, as no code of it is run.
    """
    weights = find_weights(checkpoint)
    if encoder is None:
        where = str(weights.parent) if Path(checkpoint).exists() else checkpoint
        encoder = where if find_file(where, "config.json") else ENCODER
    if weights.suffix == ".safetensors":
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    # A buffer that old versions of transformers saved: 0, 1, 2, ..., no weight.
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
            Reports; what lies beyond 512 tokens is not read.
        model ([`RadBertClassifier`]), tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            From [`load_radbert`].
        batch_size (`int`, *optional*, defaults to `32`):
            Reports at a time.

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
