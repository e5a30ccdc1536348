"""Log-probabilities of texts given a volume, in nats."""

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
from ct_rate_pairs.eval.rows import check_readable
from ct_rate_pairs.random_streams import random_stream
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.transformers_names import CACHE
from ct_rate_pairs.volume_names import patient_of


NUM_REFERENCES = 8  # patients whose volumes are averaged over in the place of an unknown volume


def on_device(batch: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A batch, moved to the model's device. The names of its volumes are left out."""
    return {name: tensor.to(model.device) for name, tensor in batch.items() if name != "volumes"}


def answer_logits(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The logits that predict the answers of a batch, `[B, K, V]`, and the tokens that they predict, int64 `[B, K]`.

    The `K` places begin at the first token of any answer; the token is -100 outside the answers. The batch holds
    right-padded `input_ids` and `labels`, `[B, T]`, with -100 outside the answers.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels")
    # The logits of prompt and visual tokens would take gigabytes, and only those that predict an answer are needed.
    first = int((labels != -100).any(dim=0).nonzero()[0])
    labels = labels[:, first:]  # [B, K]
    return model(**inputs, logits_to_keep=labels.shape[1] + 1).logits[:, :-1], labels


def answer_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cross-entropy of the answers of a batch, and which tokens are an answer's, float32 and bool `[B, K]`; the loss is 0
    outside the answers. See [`answer_logits`].
    """
    logits, labels = answer_logits(model, batch)
    return F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none"), labels != -100


def report_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each report, float32 `[B]`, and its number of tokens, `[B]`; see [`answer_losses`]."""
    losses, answers = answer_losses(model, batch)
    return losses.sum(dim=1), answers.sum(dim=1)


def token_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Cross-entropy of each token of the `B` answers of a batch: one array `[T]` per answer."""
    losses, answers = answer_losses(model, batch)
    return [row[own].cpu().numpy() for row, own in zip(losses, answers, strict=True)]


@torch.no_grad()
def token_log_probs(model: PreTrainedModel, collator: PairCollator, rows: list[dict]) -> torch.Tensor:
    """Log-probability of each token of the rows' reports, float32 `[B, T]`. All rows must hold the same report."""
    losses, _ = answer_losses(model, on_device(collator(rows), model))
    return -losses.cpu()


def tokens_of(collator: PairCollator, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text, and the span of characters `(start, end)` of each token."""
    encoding = collator.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoding["input_ids"], encoding["offset_mapping"]


def report_tokens(collator: PairCollator, rows: Sequence[dict]) -> list[torch.Tensor]:
    """The tokens of each row's report that the collator scores, with the end-of-turn token; int64 `[T]` each."""
    # The tokens depend on the text alone, so small slices stand in for the real ones and save time.
    slices = {"images": [Image.new("L", (56, 56))] * 2, "slice_mm": [0.0, 30.0], "negative_images": []}
    batches = (collator([row | slices]) for row in rows)
    return [batch["input_ids"][batch["labels"] != -100] for batch in batches]


class Context(NamedTuple):
    """What a model has read so far. Several texts can continue from it."""

    cache: Any  # keys and values of the tokens that were read
    position: torch.Tensor  # of the next token, [..., 1, 1]
    logits: torch.Tensor  # of the next token, [V]

    def read(self, model: PreTrainedModel, tokens: Sequence[int]) -> "Context":
        """The context after reading further tokens. The cache is shared with this context, and grows."""
        ids = torch.tensor([list(tokens)], device=model.device)
        positions = self.position + torch.arange(len(tokens), device=model.device)
        inputs = {"input_ids": ids, "position_ids": positions, CACHE: self.cache}
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        return Context(self.cache, self.position + len(tokens), output.logits[0, -1])


def read_prompt(model: PreTrainedModel, prompt: dict[str, torch.Tensor]) -> Context:
    """Reads a volume and its prompt, one row of `PairCollator.prompts`, with `input_ids` of shape `[1, P]`."""
    # The positions of the answer follow the last position of the prompt, as in training and in `generate`. By default,
    # a forward pass with a cache would continue from the volume's depth if this is larger.
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
    Log-probability of each of several texts that continue a context. The context is not changed.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model in evaluation mode.
        context ([`Context`]):
            What the model has read.
        branches (`Sequence[Sequence[int] | torch.Tensor]`):
            The tokens of `O` texts.
        least (`float`, *optional*, defaults to `-inf`):
            Texts whose first token has at most this log-probability are not read beyond the first token.
        at_once (`int`, *optional*, defaults to `4`):
            Texts per forward pass. Each text needs a copy of the cache, and logits over a vocabulary of 150,000 take
            the most memory.

    Returns:
        `torch.Tensor`: log-probabilities, float64 `[O]`, on the CPU.
    """
    branches = [torch.as_tensor(branch) for branch in branches]
    following = context.logits.float().log_softmax(dim=-1).cpu()
    log_probs = following[[int(branch[0]) for branch in branches]].double()
    likely = [i for i, branch in enumerate(branches) if len(branch) > 1 and log_probs[i] > least]
    for chosen in batched(likely, at_once):
        texts = [branches[i] for i in chosen]
        targets = pad_sequence([text[1:] for text in texts], batch_first=True, padding_value=-100)  # [B, K]
        logits = read_branches(model, context, [text[:-1] for text in texts])  # [B, K, V]
        losses = F.cross_entropy(logits.transpose(1, 2).float().cpu(), targets.cpu(), reduction="none")  # [B, K]
        log_probs[chosen] -= losses.sum(dim=1)
    return log_probs


def logits_after(
    model: PreTrainedModel, context: Context, texts: Sequence[Sequence[int]], *, at_once: int = 8
) -> list[torch.Tensor]:
    """
    The logits of the next token after each of several texts that continue a context, `[V]` each.

    `texts` are `O` texts as tokens, at least one token each. A text that begins another one is read along with it, and
    the rest `at_once` texts per forward pass. The context is not changed.
    """
    ways = sorted(map(tuple, texts), reverse=True)  # a text comes after all texts that it begins
    read: list[tuple[int, ...]] = []
    for way in ways:
        if not read or read[-1][: len(way)] != way:
            read.append(way)
    logits = {}
    for chosen in batched(read, at_once):
        after = read_branches(model, context, [torch.tensor(text) for text in chosen])  # [B, K, V]
        for text, own in zip(chosen, after, strict=True):
            beginnings = {text[: place + 1]: place for place in range(len(text))}
            logits |= {way: own[beginnings[way]] for way in ways if way in beginnings}
    return [logits[tuple(text)] for text in texts]


def next_log_probs(logits: torch.Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-probability of each of some next tokens among each other, from next-token logits `[V]`."""
    return logits[list(tokens)].double().log_softmax(dim=0).tolist()


def read_branches(model: PreTrainedModel, context: Context, texts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The logits after each token of several texts, each of which continues a context; `[B, K, V]`, right-padded."""
    inputs = pad_sequence(list(texts), batch_first=True)  # [B, K]; right-padded, needs no mask
    cache = deepcopy(context.cache)  # a forward pass writes to the cache
    # One copy for each text. (`batch_repeat_interleave` does not know the linear attention of Qwen3.5.)
    cache.reorder_cache(torch.zeros(len(texts), dtype=torch.long))
    positions = context.position + torch.arange(inputs.shape[1], device=model.device)  # [..., 1, K]
    positions = positions.expand(*positions.shape[:-2], *inputs.shape)
    return model(**{"input_ids": inputs.to(model.device), "position_ids": positions, CACHE: cache}).logits


def option_losses(
    model: PreTrainedModel, prompt: dict[str, torch.Tensor], options: Sequence[torch.Tensor]
) -> torch.Tensor:
    """
    Cross-entropy of `O` texts given one volume, summed over the tokens of each text, float64 `[O]`.

    The model reads the volume once. `prompt` holds the volume and its prompt, see [`read_prompt`]; `options` holds the
    tokens of each text, `[T]`.
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
    Marginal loss of each report over volumes, \\(-\log \frac{1}{M} \sum_m p(text \mid v_m)\\) in nats, `[N]`.

    The volumes \\(v_m\\) belong to `NUM_REFERENCES` patients, drawn from `seed`. They are the same for all reports,
    except that a report's own patient is left out. `volumes` names the volumes of the `N` rows, and `tokens` holds the
    tokens of their reports.
    """
    patients = np.array([patient_of(volume) for volume in volumes])  # [N]
    order = random_stream(seed).permutation(len(volumes))
    _, first = np.unique(patients[order], return_index=True)  # of each patient
    references = order[np.sort(first)][:NUM_REFERENCES]
    losses = np.empty((len(references), len(tokens)))  # [M, N]
    for place, reference in enumerate(references):
        row = check_readable(rows[int(reference)])
        losses[place] = option_losses(model, on_device(collator.prompts([row]), model), tokens)
    own = patients[references][:, None] == patients  # [M, N]
    return np.log((~own).sum(axis=0)) - np.logaddexp.reduce(np.where(own, -np.inf, -losses), axis=0)
