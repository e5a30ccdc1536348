"""How probable a text is, given a volume: every log-probability that is measured here, in nats."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.rows import check_volume
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.transformers_names import CACHE
from ct_rate_pairs.volume_names import patient_of


NUM_REFERENCES = 8  # patients whose volumes stand for a volume that is not known


def on_device(batch: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A batch where the model is; the names of its volumes are left out."""
    return {name: tensor.to(model.device) for name, tensor in batch.items() if name != "volumes"}


def answer_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cross-entropy of each token of the answers of a batch.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        batch (`dict[str, torch.Tensor]`):
            Model inputs with right-padded `input_ids` and with `labels`, both `[B, T]`; labels are -100 outside the
            answers.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: float32 `[B, K]`, from the first token of an answer on, 0 where a token is
        of none; and bool `[B, K]`, which tokens are an answer's.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels")
    # A real model's logits over prompt and visual tokens take gigabytes; only those that predict an answer are needed.
    first = int((labels != -100).any(dim=0).nonzero()[0])
    labels = labels[:, first:]  # [B, K]
    logits = model(**inputs, logits_to_keep=labels.shape[1] + 1).logits[:, :-1]  # [B, K, V]
    return F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none"), labels != -100


def report_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each report of a batch, float32 `[B]`, and its number of tokens, `[B]`; see [`answer_losses`]."""
    losses, answers = answer_losses(model, batch)
    return losses.sum(dim=1), answers.sum(dim=1)


def token_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Cross-entropy of each token of each answer of a batch; `B` arrays of `[T]`."""
    losses, answers = answer_losses(model, batch)
    return [row[own].cpu().numpy() for row, own in zip(losses, answers, strict=True)]


@torch.no_grad()
def token_log_probs(model: PreTrainedModel, collator: PairCollator, rows: list[dict]) -> torch.Tensor:
    """Log-probability of each token of the rows' reports, which are all the same report; float32 `[B, T]`."""
    losses, _ = answer_losses(model, on_device(collator(rows), model))
    return -losses.cpu()


def tokens_of(collator: PairCollator, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text, and the characters `(start, end)` that each stands for."""
    encoding = collator.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoding["input_ids"], encoding["offset_mapping"]


def report_tokens(collator: PairCollator, rows: Sequence[dict]) -> list[torch.Tensor]:
    """The tokens of the rows' reports, with the end-of-turn token, as the collator scores them; int64 `[T]` each."""
    # They depend on the text alone, so small slices spare the processor the real ones.
    slices = {"images": [Image.new("L", (56, 56))] * 2, "slice_mm": [0.0, 30.0], "negative_images": []}
    batches = (collator([row | slices]) for row in rows)
    return [batch["input_ids"][batch["labels"] != -100] for batch in batches]


class Context(NamedTuple):
    """What a model has read so far, from which texts branch off."""

    cache: Any  # its keys and values
    position: torch.Tensor  # of the next token, [..., 1, 1]
    logits: torch.Tensor  # of the next token, [V]

    def read(self, model: PreTrainedModel, tokens: Sequence[int]) -> "Context":
        """The context after these tokens too. The cache is the same one, and grows."""
        ids = torch.tensor([list(tokens)], device=model.device)
        positions = self.position + torch.arange(len(tokens), device=model.device)
        inputs = {"input_ids": ids, "position_ids": positions, CACHE: self.cache}
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        return Context(self.cache, self.position + len(tokens), output.logits[0, -1])


def read_prompt(model: PreTrainedModel, prompt: dict[str, torch.Tensor]) -> Context:
    """Reads a volume and its prompt, `input_ids` of shape `[1, P]`, as `PairCollator.prompts` gives them."""
    # The answer's positions follow the prompt's last one, as in training and in `generate`. Left to itself, a forward
    # pass with a cache counts on from the volume's depth where that reaches further.
    last = model._prepare_position_ids_for_generation(prompt["input_ids"], dict(prompt))[..., -1:]  # [..., 1, 1]
    output = model(**prompt, use_cache=True, logits_to_keep=1)
    return Context(getattr(output, CACHE), last + 1, output.logits[0, -1])


def branch_log_probs(
    model: PreTrainedModel,
    context: Context,
    branches: Sequence[Sequence[int] | torch.Tensor],
    *,
    least: float = -np.inf,
    at_once: int = 4,
) -> torch.Tensor:
    """
    Log-probability of each way to go on from a context, which stays as it is.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        context ([`Context`]):
            What has been read.
        branches (`Sequence[Sequence[int] | torch.Tensor]`):
            The tokens of `O` texts.
        least (`float`, *optional*, defaults to `-inf`):
            Texts whose first token has at most this log-probability are not followed further.
        at_once (`int`, *optional*, defaults to `4`):
            Texts per forward pass: each takes a copy of the cache, and logits over a vocabulary of 150,000 are the
            largest thing in memory.

    Returns:
        `torch.Tensor`: float64 `[O]`, on the CPU.
    """
    branches = [torch.as_tensor(branch) for branch in branches]
    following = context.logits.float().log_softmax(dim=-1).cpu()
    log_probs = following[[int(branch[0]) for branch in branches]].double()
    likely = [i for i, branch in enumerate(branches) if len(branch) > 1 and log_probs[i] > least]
    for chosen in batched(likely, at_once):
        texts = [branches[i] for i in chosen]
        targets = pad_sequence([text[1:] for text in texts], batch_first=True, padding_value=-100)  # [B, K]
        inputs = pad_sequence([text[:-1] for text in texts], batch_first=True)  # [B, K]; no mask: padding lies behind
        cache = deepcopy(context.cache)  # a forward pass writes to it
        cache.batch_repeat_interleave(len(texts))
        positions = context.position + torch.arange(inputs.shape[1], device=model.device)  # [..., 1, K]
        positions = positions.expand(*positions.shape[:-2], *inputs.shape)
        logits = model(**{"input_ids": inputs.to(model.device), "position_ids": positions, CACHE: cache}).logits
        losses = F.cross_entropy(logits.transpose(1, 2).float().cpu(), targets.cpu(), reduction="none")  # [B, K]
        log_probs[chosen] -= losses.sum(dim=1)
    return log_probs


def option_losses(
    model: PreTrainedModel, prompt: dict[str, torch.Tensor], options: Sequence[torch.Tensor]
) -> torch.Tensor:
    """
    Cross-entropy of several texts given one volume, which the model reads once; float64 `[O]`, the sum over each
    text's tokens.

    `prompt` holds the volume and its prompt, see [`read_prompt`], and `options` the tokens of `O` texts, `[T]` each.
    """
    return -branch_log_probs(model, read_prompt(model, prompt), options)


def marginal_losses(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    volumes: Sequence[str],
    tokens: Sequence[torch.Tensor],
    seed: int = 0,
) -> np.ndarray:
    r"""
    How unlikely each report is whatever the volume: \\(-\log \frac{1}{M} \sum_m p(text \mid v_m)\\) in nats, `[N]`.

    The volumes \\(v_m\\) belong to `NUM_REFERENCES` patients, drawn from `seed`. They are the same for all reports,
    but that a report's own patient is left out. `rows` are the `N` rows, `volumes` and `tokens` their names and the
    tokens of their reports.
    """
    patients = np.array([patient_of(volume) for volume in volumes])  # [N]
    order = np.random.default_rng(seed).permutation(len(volumes))
    _, first = np.unique(patients[order], return_index=True)  # of each patient
    references = order[np.sort(first)][:NUM_REFERENCES]
    losses = np.empty((len(references), len(tokens)))  # [M, N]
    for place, reference in enumerate(references):
        row = check_volume(rows[int(reference)], volumes[reference])
        losses[place] = option_losses(model, on_device(collator.prompts([row]), model), tokens)
    own = patients[references][:, None] == patients  # [M, N]
    return np.log((~own).sum(axis=0)) - np.logaddexp.reduce(np.where(own, -np.inf, -losses), axis=0)
