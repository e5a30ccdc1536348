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
from safetensors import safe_open
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
from ct_rate_pairs.json_schemas.model_folder import ModelConfig
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.reports.texts import same_words
from ct_rate_pairs.trainer.finite import check_loaded
from ct_rate_pairs.trainer.hub_files import find_file


ENCODER = "zzxslp/RadBERT-RoBERTa-4m"
WEIGHTS = ("model.safetensors", "RadBertClassifier.pth")
# Repositories whose outputs are in the official order though their `id2label` may name none: RadEval reads them so
# (github.com/jbdel/RadEval, `metrics/f1Radbert_ct`).
OFFICIAL_ORDER = ("IAMJB/RadBERT-CT",)
# Files of a tokenizer; one of these sets has to be there. Without them, transformers makes a tokenizer that knows no
# word, and without the merges one that knows only letters. Both only look as if they worked.
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
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
        `ValueError`: if the names are not those of the 18 labels, or if the outputs are not numbered from 0.
    """
    names = {_plain(name): i for i, name in id2label.items()}
    unnamed = set(names) == {f"label {i}" for i in range(len(LABELS))}  # what transformers writes if nobody does
    if unnamed and is_official_order(checkpoint):
        return list(range(len(LABELS)))
    if unnamed:
        raise ValueError(
            f"{checkpoint}: its {len(LABELS)} outputs have no names (LABEL_0, LABEL_1, ...), so nobody knows which "
            f"output is which label. If it is a copy of {OFFICIAL_ORDER[0]}, they are in the order of "
            "ct_rate_pairs.LABELS; then write the names into id2label of its config.json: "
            "AutoConfig.from_pretrained(FOLDER, id2label=dict(enumerate(ct_rate_pairs.LABELS)))"
            ".save_pretrained(FOLDER)"
        )
    missing = [label for label in LABELS if _plain(label) not in names]
    unknown = [name for name in id2label.values() if _plain(name) not in map(_plain, LABELS)]
    if missing or unknown or len(id2label) != len(LABELS):
        raise ValueError(
            f"{checkpoint}: its {len(id2label)} outputs are not the {len(LABELS)} labels of CT-RATE. It names "
            f"{', '.join(unknown[:3]) or 'no other label'}, and lacks {', '.join(missing[:3]) or 'none'}. Without the "
            "names, nobody knows which output is which label: write them into id2label of its config.json."
        )
    if set(names.values()) != set(range(len(LABELS))):
        numbers = ", ".join(map(str, sorted(id2label)))
        raise ValueError(
            f"{checkpoint}: id2label of its config.json numbers the outputs {numbers}. They are 0 to "
            f"{len(LABELS) - 1}, so nobody knows which output is meant: number the names from 0, in the order of the "
            "outputs."
        )
    return [names[_plain(label)] for label in LABELS]


def is_official_order(checkpoint: str) -> bool:
    """Whether a checkpoint is one of `OFFICIAL_ORDER`, by its name on the Hub or as a folder of the Hub's cache."""
    cached = [f"models--{name.replace('/', '--')}" for name in OFFICIAL_ORDER]
    return checkpoint in OFFICIAL_ORDER or any(part in cached for part in Path(checkpoint).absolute().parts)


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
        raise RuntimeError(f"{checkpoint}: the weights are not those of its config.json ({_first_keys(wrong)}).")
    return SequenceClassifier(model, order)


def find_weights(checkpoint: str) -> Path:
    """The file of weights: `checkpoint` itself, or the first of `WEIGHTS` that the folder or Hub repository holds."""
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    for name in WEIGHTS:
        if path := find_file(checkpoint, name):
            return path
    raise OSError(f"{checkpoint} holds neither {' nor '.join(WEIGHTS)}: pass the file itself, a folder or a Hub name.")


def _first_keys(wrong: Mapping[str, list]) -> str:
    return "; ".join(
        f"{kind}: {', '.join(map(str, keys[:3]))}" + f" and {len(keys) - 3} more" * (len(keys) > 3)
        for kind, keys in wrong.items()
        if keys
    )


def is_sequence_classifier(checkpoint: str, config: Path | None) -> bool:
    """
    Whether a checkpoint has the form of transformers: by `architectures` in its `config.json`, or where that says
    nothing, by the weights of the head. A `.pth` file is always in the form of CT-CLIP.
    """
    file = Path(checkpoint) if Path(checkpoint).is_file() else None
    if file and file.suffix != ".safetensors":
        return False
    architectures = config and read_json(config, ModelConfig).get("architectures")
    if architectures:
        return architectures[0].endswith("ForSequenceClassification")
    weights = file or find_file(checkpoint, WEIGHTS[0])
    if weights is None:
        return False
    with safe_open(weights, "pt") as tensors:
        return "classifier.out_proj.weight" in tensors.keys()  # noqa: SIM118


def load_tokenizer(place: str, vocab_size: int) -> PreTrainedTokenizerBase:
    """
    Loads the tokenizer of an encoder.

    Raises:
        `OSError`: if there are no files of a tokenizer.
        `ValueError`: if the tokenizer is not that of an encoder with `vocab_size` tokens.
    """
    if not any(all(find_file(place, name) for name in names) for names in TOKENIZER_FILES):
        sets = ", or ".join(" and ".join(names) for names in TOKENIZER_FILES)
        raise OSError(
            f"{place} holds no tokenizer ({sets}), and without one every report would get the same labels. Put the "
            f"files beside config.json, from where the model comes ({ENCODER} has those of CT-CLIP's classifier)."
        )
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)  # code of a repository is never run
    if not vocab_size / 2 < len(tokenizer) <= vocab_size:
        raise ValueError(
            f"{place}: its tokenizer knows {len(tokenizer)} tokens, but the encoder {vocab_size}. It is that of "
            "another model, or not whole: put the tokenizer's files of this model there."
        )
    return tokenizer


@lru_cache(maxsize=1)
def load_radbert(checkpoint: str, encoder: str | None = None) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """
    Loads the classifier and its tokenizer. The last classifier stays in memory, so a second call does not reload it.

    Args:
        checkpoint (`str`):
            A file of weights (`.pth` or `.safetensors`), or a folder or Hub repository that holds `model.safetensors`
            or `RadBertClassifier.pth`. It has the form of transformers if the `architectures` in its `config.json`
            name a `ForSequenceClassification`, or name nothing and the weights have such a head.
        encoder (`str`, *optional*):
            Folder or Hub repository with `config.json` and tokenizer of the encoder. Defaults to the place of the
            weights if it has a `config.json`, and to `ENCODER` otherwise, as in CT-CLIP.

    Returns:
        `tuple`: the model in evaluation mode, on the GPU if there is one, and its tokenizer.

    Raises:
        `OSError`: if there are no such weights, no such encoder or no files of its tokenizer.
        `RuntimeError`: if the weights are not those of this classifier. The message names the keys.
        `ValueError`: if the outputs of a classifier in the form of transformers are not named as the 18 labels are,
            or if the tokenizer is not that of the encoder.
        [`~ct_rate_pairs.trainer.finite.NonFiniteWeightsError`]: if weights are NaN or infinite.
        `pickle.UnpicklingError`: if a `.pth` file holds anything but tensors, since code from a checkpoint is not run.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = str(Path(checkpoint).parent) if Path(checkpoint).is_file() else checkpoint
    config = find_file(where, "config.json")
    if is_sequence_classifier(checkpoint, config):
        if Path(checkpoint).is_file() and Path(checkpoint).name != WEIGHTS[0]:
            raise ValueError(f"{checkpoint}: transformers reads this form only from a file called {WEIGHTS[0]}.")
        model = load_sequence_classifier(where)
        check_loaded(model, checkpoint)
        return model.eval().to(device), load_tokenizer(encoder or where, model.model.config.vocab_size)
    weights = find_weights(checkpoint)
    if encoder is None:
        encoder = where if config else ENCODER
    if weights.suffix == ".safetensors":
        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    # Old versions of transformers saved this buffer of positions 0, 1, 2, ..., which is not a weight.
    state.pop("model.embeddings.position_ids", None)
    config = AutoConfig.from_pretrained(encoder, trust_remote_code=False)
    model = RadBertClassifier(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        told = _first_keys({"missing_keys": sorted(missing), "unexpected_keys": sorted(unexpected)})
        raise RuntimeError(
            f"{weights}: the weights are not those of CT-CLIP's classifier ({told}). A classifier in the form of "
            "transformers is a folder with its own config.json and model.safetensors."
        )
    check_loaded(model, checkpoint)
    return model.eval().to(device), load_tokenizer(encoder, config.vocab_size)


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
