"""
The RadBERT classifier of CT-RATE: a RoBERTa encoder and a small head read 18 labels from a report.

The classifier comes in two forms, which give the same labels:

- CT-CLIP's own, `RadBertClassifier.pth`. The architecture follows `text_classifier` of CT-CLIP (`classifier.py`,
  `dataset.py`, `model_trainer.py`). The encoder, under `model.` in the checkpoint, is the `AutoModel` of
  `zzxslp/RadBERT-RoBERTa-4m`. The linear layer, under `classifier.`, takes the encoder's `pooler_output`. The
  checkpoint is a state dict of both parts. Its users report (Reg2RG, issue 8) that the released file holds
  `model.embeddings.position_ids`, a buffer that transformers no longer saves.
- That of transformers, an `AutoModelForSequenceClassification`, as RadEval ships it (`IAMJB/RadBERT-CT`). The pooler
  of the encoder is then the first layer of the head.

In both forms, reports are truncated to 512 tokens, and a label is positive if its sigmoid reaches 0.5.

The released weights themselves are not tested here, because CT-RATE's licence restricts them. In the form of CT-CLIP
the labels are assumed to be in the order of CT-RATE's tables, as in `infer.py` of CT-CLIP. In the other form, the
names in `id2label` tell their order.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from ct_rate_pairs.json_files import read_json
from ct_rate_pairs.json_schemas import ModelConfig
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import same_words
from ct_rate_pairs.trainer.hub_files import find_file


ENCODER = "zzxslp/RadBERT-RoBERTa-4m"
WEIGHTS = ("model.safetensors", "RadBertClassifier.pth")
# Repositories whose outputs are in the official order though their `id2label` may name none: RadEval reads them so
# (github.com/jbdel/RadEval, `metrics/f1Radbert_ct`).
OFFICIAL_ORDER = ("IAMJB/RadBERT-CT",)
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


class SequenceClassifier(nn.Module):
    """A classifier in the form of transformers, whose logits are put into the official order of the labels."""

    def __init__(self, model: nn.Module, order: list[int]):
        """`order` holds the output of `model` for each label, in the official order."""
        super().__init__()
        self.model = model
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits of shape `[B, 18]` for tokens of shape `[B, T]`."""
        return self.model(**inputs).logits[:, self.order]


def order_of(id2label: Mapping[int, str], checkpoint: str) -> list[int]:
    """
    The output of a classifier for each of the 18 labels, by their names. Case, `_` and `-` do not count.

    Raises:
        `ValueError`: if the names are not those of the 18 labels.
    """
    names = {_plain(name): i for i, name in id2label.items()}
    unnamed = set(names) == {f"label {i}" for i in range(len(LABELS))}  # what transformers writes if nobody does
    if unnamed and checkpoint in OFFICIAL_ORDER:
        return list(range(len(LABELS)))
    missing = [label for label in LABELS if _plain(label) not in names]
    unknown = [name for name in id2label.values() if _plain(name) not in map(_plain, LABELS)]
    if missing or unknown or len(id2label) != len(LABELS):
        raise ValueError(
            f"{checkpoint}: its {len(id2label)} outputs are not the {len(LABELS)} labels of CT-RATE. It names "
            f"{', '.join(unknown[:3]) or 'no other label'}, and lacks {', '.join(missing[:3]) or 'none'}. Without the "
            "names, nobody knows which output is which label: write them into id2label of its config.json."
        )
    return [names[_plain(label)] for label in LABELS]


def _plain(name: str) -> str:
    return same_words(name.replace("_", " ").replace("-", " "))


def load_sequence_classifier(checkpoint: str) -> SequenceClassifier:
    """Loads the form of transformers; the errors are those of [`load_radbert`]."""
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
    )
    order = order_of(model.config.id2label, checkpoint)
    # transformers only warns, and leaves such weights at random.
    wrong = {kind: sorted(loading[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    wrong = {kind: [key for key in keys if "position_ids" not in key] for kind, keys in wrong.items()}
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {', '.join(map(str, keys[:3]))}" for kind, keys in wrong.items() if keys)
        raise RuntimeError(f"{checkpoint}: the weights are not those of its config.json ({told}).")
    return SequenceClassifier(model, order)


def find_weights(checkpoint: str) -> Path:
    """The file of weights: `checkpoint` itself, or the first of `WEIGHTS` that the folder or Hub repository holds."""
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    for name in WEIGHTS:
        if path := find_file(checkpoint, name):
            return path
    raise OSError(f"{checkpoint} holds neither {' nor '.join(WEIGHTS)}: pass the file itself, a folder or a Hub name.")


def is_sequence_classifier(config: Path) -> bool:
    """Whether a `config.json` is that of a classifier in the form of transformers."""
    architectures = read_json(config, ModelConfig).get("architectures") or [""]
    return architectures[0].endswith("ForSequenceClassification")


def tokenizer_of(encoder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of an encoder. Code from its repository is never run."""
    return AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)


@lru_cache(maxsize=1)
def load_radbert(checkpoint: str, encoder: str | None = None) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """
    Loads the classifier and its tokenizer. The last classifier stays in memory, so a second call does not reload it.

    Args:
        checkpoint (`str`):
            A file of weights (`.pth` or `.safetensors`), or a folder or Hub repository that holds `model.safetensors`
            or `RadBertClassifier.pth`. If the `architectures` in its `config.json` name a `ForSequenceClassification`,
            it has the form of transformers.
        encoder (`str`, *optional*):
            Folder or Hub repository with `config.json` and tokenizer of the encoder. Defaults to the place of the
            weights if it has a `config.json`, and to `ENCODER` otherwise, as in CT-CLIP.

    Returns:
        `tuple`: the model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Raises:
        `OSError`: if there are no such weights or no such encoder.
        `RuntimeError`: if the weights are not those of this classifier. The message names the keys.
        `ValueError`: if the outputs of a classifier in the form of transformers are not named as the 18 labels are.
        `pickle.UnpicklingError`: if a `.pth` file holds anything but tensors, since code from a checkpoint is not run.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = str(Path(checkpoint).parent) if Path(checkpoint).is_file() else checkpoint
    config = find_file(where, "config.json")
    if config and is_sequence_classifier(config):
        return load_sequence_classifier(where).eval().to(device), tokenizer_of(encoder or where)
    weights = find_weights(checkpoint)
    if encoder is None:
        encoder = where if config else ENCODER
    if weights.suffix == ".safetensors":
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    # Old versions of transformers saved this buffer of positions 0, 1, 2, ..., which is not a weight.
    state.pop("model.embeddings.position_ids", None)
    model = RadBertClassifier(AutoConfig.from_pretrained(encoder, trust_remote_code=False))
    model.load_state_dict(state)
    return model.eval().to(device), tokenizer_of(encoder)


@torch.inference_mode()
def radbert_probabilities(
    texts: list[str], model: nn.Module, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32
) -> np.ndarray:
    """
    Probability of each label, `sigmoid(W h + b)` with `h` the encoder's pooled output.

    Args:
        texts (`list[str]`):
            Reports. Tokens after the first 512 are not read.
        model (`torch.nn.Module`), tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
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
