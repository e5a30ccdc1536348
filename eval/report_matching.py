"""The multiple-choice test of looking: a scan, its report among false ones, and the model's likelihood chooses."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.csv_tables import patient_of
from ct_rate_pairs.eval.bootstrap import estimate
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.loss_gap import TooFewScansError, blank_slices, check_volume, volume_names
from ct_rate_pairs.matching import DIFFICULTIES, Matching
from ct_rate_pairs.settings import one_of
from ct_rate_pairs.trainer import PairCollator


# Logits over a vocabulary of 150,000 are the largest thing in memory.
OPTIONS_AT_ONCE = 4


class Options(NamedTuple):
    """The questions about `Q` of `N` volumes, with `O` options each."""

    volumes: np.ndarray  # which are asked about, int [Q]
    reports: np.ndarray  # whose report each option is, int [Q, O]
    correct: np.ndarray  # place of the volume's own report among its options, int [Q]


def draw_options(
    labels: np.ndarray,
    texts: Sequence[str],
    volumes: Sequence[str],
    *,
    num_false: int = 3,
    difficulty: str = "random",
    seed: int = 0,
) -> Options:
    """
    Draws what is asked: the questions of [`~ct_rate_pairs.matching.Matching`] about these volumes.

    Volumes are parted into groups, whose reports are the options of each of them. So whatever a report says, it is as
    often false as any other, and a model that does not look is at chance. Reports of a group are different patients'
    and differ in their words; where too many share one report, some of them are left out, with a warning.

    Args:
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        texts (`Sequence[str]`):
            The `N` true reports.
        volumes (`Sequence[str]`):
            Their CT-RATE VolumeNames; the first two parts (`train_12`) name the patient.
        num_false (`int`, *optional*, defaults to `3`):
            False reports a volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            `"random"`, where some may state the same findings in other words; `"hard"`: the labels in a group differ,
            but as little as the volumes allow.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Returns:
        `Options`: with `Q` at most `N`, and `num_false + 1` options.

    Raises:
        `ValueError`: for an unknown difficulty.
        `TooFewScansError`: if there are too few such reports.
    """
    one_of("difficulty", difficulty, DIFFICULTIES)
    patients = [patient_of(volume) for volume in volumes]
    task = Matching(volumes, texts, np.asarray(labels), patients, num_false, difficulty, seed=seed, split="evaluated")
    asked = np.flatnonzero(task.rows_of)
    try:
        orders = [task.order(i, 0) for i in asked.tolist()]
    except ValueError as error:
        raise TooFewScansError(str(error)) from error
    if not orders:
        raise TooFewScansError(
            f"Among {len(volumes)} volumes there are not {num_false + 1} of different patients with different reports"
            f"{' and labels' * (difficulty == 'hard')}. Use a larger split, or a smaller `num_false`."
        )
    reports = np.array(orders)  # [Q, O]
    return Options(asked, reports, (reports == asked[:, None]).argmax(axis=1))


def ranks_of_correct(losses: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """
    Rank of each true report, 1 for the best, when the lowest loss is chosen.

    Of equal losses the one that stands first goes ahead. As the place of the true report is balanced, a model that
    cannot tell the options apart then scores chance.

    Args:
        losses (`np.ndarray` of shape `[N, O]`):
            Loss of each option.
        correct (`np.ndarray` of shape `[N]`):
            Place of the true report.

    Returns:
        `np.ndarray`: ranks of shape `[N]`, from 1 to `O`.
    """
    own = np.take_along_axis(losses, correct[:, None], axis=1)  # [N, 1]
    before = np.arange(losses.shape[1]) < correct[:, None]
    return 1 + ((losses < own) | ((losses == own) & before)).sum(axis=1)


def rank_scores(
    ranks: np.ndarray, num_options: int, volumes: Sequence[str] | None = None, ci: float | None = None
) -> dict[str, float | list[float] | None]:
    r"""
    Top-1, the mean reciprocal rank \\(\frac{1}{N} \sum_n 1 / r_n\\), and Recall@k, the share of ranks up to `k`, for
    `k` from 2 to `num_options - 1` (Recall@1 is Top-1, and the last one is 1); with `ci` their intervals by patient
    of `volumes`, as [`~ct_rate_pairs.eval.bootstrap.estimate`] gives them.
    """
    ranks = np.asarray(ranks)
    values = {"top1": ranks == 1, "mrr": 1 / ranks} | {f"recall_at_{k}": ranks <= k for k in range(2, num_options)}
    statistics = {name: value.astype(float) for name, value in values.items()} | {"questions": np.ones(len(ranks))}
    return estimate(statistics, lambda sums: {name: sums[name] / sums["questions"] for name in values}, volumes, ci)


def report_tokens(collator: PairCollator, rows: Sequence[dict]) -> list[torch.Tensor]:
    """The tokens of the rows' reports, with the end-of-turn token, as the collator scores them; int64 `[T]` each."""
    # They depend on the text alone, so small slices spare the processor the real ones.
    slices = {"images": [Image.new("L", (56, 56))] * 2, "slice_mm": [0.0, 30.0], "negative_images": []}
    batches = (collator([row | slices]) for row in rows)
    return [batch["input_ids"][batch["labels"] != -100] for batch in batches]


def option_losses(
    model: PreTrainedModel, prompt: dict[str, torch.Tensor], options: Sequence[torch.Tensor]
) -> torch.Tensor:
    """
    Cross-entropy of several reports given one volume, which the model reads once; float32 `[O]`, the sum over each
    report's tokens in nats.

    `prompt` holds the volume and its prompt, `input_ids` of shape `[1, P]`, as `PairCollator.prompts` gives them, and
    `options` the tokens of `O` reports, `[T]` each.
    """
    tokens = prompt["input_ids"]
    # The prompt's last token predicts the report's first, so it goes with the reports.
    along_text = {name for name, tensor in prompt.items() if tensor.shape == tokens.shape}
    volume = {name: tensor[:, :-1] if name in along_text else tensor for name, tensor in prompt.items()}
    # As in training and in `generate`, a report's positions follow its prompt's. A forward pass with a cache, left to
    # itself, counts on from the volume's depth where that reaches further.
    last = model._prepare_position_ids_for_generation(tokens, dict(prompt))[..., -1:]  # [..., 1, 1]
    cache = model(**volume, use_cache=True, logits_to_keep=1).cache
    losses = []
    for batch in batched(options, OPTIONS_AT_ONCE):
        labels = pad_sequence(batch, batch_first=True, padding_value=-100).to(tokens.device)  # [B, K]
        text = torch.cat([tokens[:, -1:].expand(len(batch), 1), labels.clamp(min=0)], dim=1)
        read = deepcopy(cache)  # a forward pass writes to it
        read.batch_repeat_interleave(len(batch))
        positions = last + torch.arange(text.shape[1], device=text.device)
        positions = positions.expand(*positions.shape[:-2], *text.shape)
        # No mask: padding lies behind what is scored.
        logits = model(input_ids=text, position_ids=positions, cache=read).logits[:, :-1]  # [B, K, V]
        losses.append(F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none").sum(dim=1))
    return torch.cat(losses)


def marginal_losses(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    volumes: Sequence[str],
    tokens: Sequence[torch.Tensor],
    num_references: int = 8,
    seed: int = 0,
) -> np.ndarray:
    r"""
    How unlikely each report is whatever the volume: \\(-\log \frac{1}{M} \sum_m p(text \mid v_m)\\) in nats, `[N]`.

    The volumes \\(v_m\\) belong to `num_references` patients, at least two and drawn from `seed`. They are the same
    for all reports, but that a report's own patient is left out. `rows` are the `N` rows, `volumes` and `tokens` their
    names and the tokens of their reports.
    """
    patients = np.array([patient_of(volume) for volume in volumes])  # [N]
    order = np.random.default_rng(seed).permutation(len(volumes))
    _, first = np.unique(patients[order], return_index=True)  # of each patient
    references = order[np.sort(first)][:num_references]
    losses = np.empty((len(references), len(tokens)))  # [M, N]
    for place, reference in enumerate(references):
        row = check_volume(rows[int(reference)], volumes[reference])
        prompt = on_device(collator.prompts([row]), model)
        losses[place] = option_losses(model, prompt, tokens).cpu()
    own = patients[references][:, None] == patients  # [M, N]
    return np.log((~own).sum(axis=0)) - np.logaddexp.reduce(np.where(own, -np.inf, -losses), axis=0)


def on_device(batch: dict[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


@torch.no_grad()
def report_matching(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    *,
    num_false: int = 3,
    difficulty: str = "random",
    seed: int = 0,
    ci: float | None = None,
    progress: bool = True,
) -> dict:
    r"""
    For each volume, lets the model choose its report among false ones by their likelihood.

    The ways of choosing (`rules`):

    - `mean`, `sum`: the loss given the volume, over the report's tokens. `mean` is the headline: it is the loss the
      model was trained on, while a sum grows with the length and so favours short reports.
    - `pmi`: \\(\log p(text \mid volume) - \log p(text)\\), the pointwise mutual information of report and volume. It
      takes out the language prior, under which a common report beats a rare one whatever the scan shows, and the
      length with it. \\(p(text)\\) is the mean over other patients' volumes ([`marginal_losses`]).
    - `corrected_mean`, `corrected_sum`: the same with the loss given a blank volume of the volume's size in the place
      of \\(-\log p(text)\\). It is cheaper and needs no other patient, but nothing was ever trained on a blank volume:
      a model may read it as a very odd scan, and the correction then adds a preference instead of taking one out.
    - `text_only_mean`, `text_only_sum`: the loss given the blank volume alone, the baseline. It is at chance, but for
      volumes of different sizes: in a group, it likes the same report best.

    One volume and its options are in memory at a time, and the model reads a volume once for all options.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        num_false (`int`, *optional*, defaults to `3`):
            False reports a volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            Which false reports: `"random"` or `"hard"`, see [`draw_options`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of the options, and of the patients whose volumes `pmi` looks at.
        ci (`float`, *optional*):
            Level of bootstrap intervals; without it there are none. Whole groups of questions that share their options
            are drawn, as their answers depend on each other.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: `top1`, `mrr`, `recall_at_2`, ... of the headline, and with `ci` their intervals, `top1_ci`, ...;
        `rules`, the same of each rule; `chance`, the same of guessing; `ranks`, for each rule the rank of each true
        report; `confidence`, of each choice by `pmi` its \\(p(text \mid volume) / p(text)\\) over the sum for all
        options; `volumes`, whose ranks these are, and `n`, their number; `num_options`, `difficulty`, `seed`, and
        `headline`, the headline's rule. Ready for `json.dump`.

    Raises:
        `ValueError`: if there is no row, rows cannot be read by index, or one is not of the volume that is due.
        `TooFewScansError`: if there are too few false reports for a volume.
    """
    volumes = volume_names(rows)
    if not volumes:
        raise ValueError("There are no rows to match reports on.")
    index = rows.with_format(None) if isinstance(rows, Dataset) else rows  # texts and labels, no slices
    texts, labels = zip(*((row["completion"][-1]["content"], row["labels"]) for row in index), strict=True)
    options = draw_options(np.array(labels), texts, volumes, num_false=num_false, difficulty=difficulty, seed=seed)
    tokens = report_tokens(collator, index)
    was_training = model.training
    model.eval()
    marginal = marginal_losses(model, collator, rows, volumes, tokens, seed=seed)[options.reports]
    losses = np.empty((2, *options.reports.shape))  # given the volume and given a blank one, [2, Q, O]
    asked = (rows[int(volume)] for volume in options.volumes)
    bar = tqdm(asked, "Matching reports", len(options.volumes), unit="scan", disable=not progress)
    for question, row in enumerate(bar):
        check_volume(row, volumes[options.volumes[question]])
        reports = [tokens[report] for report in options.reports[question]]
        for kind, images in enumerate((row["images"], blank_slices(row))):
            prompt = on_device(collator.prompts([row | {"images": images}]), model)
            losses[kind, question] = option_losses(model, prompt, reports).cpu()
    model.train(was_training)

    given, blank = losses
    lengths = np.array([len(report) for report in tokens])[options.reports]  # [Q, O]
    by_rule = {
        "mean": given / lengths,
        "sum": given,
        "pmi": given - marginal,
        "corrected_mean": (given - blank) / lengths,
        "corrected_sum": given - blank,
        "text_only_mean": blank / lengths,
        "text_only_sum": blank,
    }
    ranks = {rule: ranks_of_correct(values, options.correct) for rule, values in by_rule.items()}
    num_options = num_false + 1
    groups = [f"group_{first}" for first in options.reports.min(axis=1)]
    rules = {rule: rank_scores(of_rule, num_options, groups, ci) for rule, of_rule in ranks.items()}
    return {
        **rules["mean"],
        "headline": "mean",
        "rules": rules,
        "chance": rank_scores(np.arange(1, num_options + 1), num_options),
        "ranks": {rule: of_rule.tolist() for rule, of_rule in ranks.items()},
        "confidence": torch.from_numpy(marginal - given).softmax(dim=1).amax(dim=1).tolist(),
        "volumes": [volumes[volume] for volume in options.volumes],
        "n": len(options.volumes),
        "num_options": num_options,
        "difficulty": difficulty,
        "seed": seed,
    }
