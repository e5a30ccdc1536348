"""Report matching, a multiple-choice test of looking: the model chooses a scan's report among false reports."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.metrics.ranking import rank_scores, ranks_of_correct
from ct_rate_pairs.eval.rows import check_readable, volume_names, without_slices
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.tasks.matching import DIFFICULTIES, Matching
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import evaluating
from ct_rate_pairs.volume_names import patient_of
from ct_rate_pairs.volumes.settings import one_of

from .likelihood import marginal_losses, on_device, option_losses, report_tokens
from .other_volumes import TooFewScansError, blank_slices


class Options(NamedTuple):
    """Questions about `Q` of `N` volumes, each with `O` options."""

    volumes: np.ndarray  # index of the volume that each question is about, int [Q]
    reports: np.ndarray  # index of the volume whose report each option is, int [Q, O]
    correct: np.ndarray  # place of the true report among the options, int [Q]


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
    Draws the questions of [`~ct_rate_pairs.tasks.matching.Matching`] about these volumes.

    The volumes are divided into groups. For each volume, the options are the reports of its group. Each report is then
    a false option equally often, so a model that does not look is at chance. The reports of a group come from
    different patients and have different words. If too many volumes have the same report, some volumes are left out,
    with a warning.

    Args:
        labels (`np.ndarray` of shape `[N, 18]`):
            True labels, 0 or 1.
        texts (`Sequence[str]`):
            The `N` true reports.
        volumes (`Sequence[str]`):
            Their CT-RATE VolumeNames. The first two parts (`train_12`) name the patient.
        num_false (`int`, *optional*, defaults to `3`):
            False reports per volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            `"random"`: random groups, in which two reports may state the same findings in other words. `"hard"`: the
            labels in a group differ, but as little as the volumes allow.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw.

    Returns:
        `Options`: at most `N` questions, with `num_false + 1` options each.

    Raises:
        `ValueError`: for an unknown difficulty.
        `TooFewScansError`: if there are too few different reports of different patients.
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
    For each volume, lets the model choose the true report among false reports, by likelihood.

    The ways of choosing (`rules`):

    - `mean`, `sum`: the loss of the report's tokens given the volume. `mean` is the headline, because the model was
      trained with the mean loss. The sum grows with the length of a report, and so favours short reports.
    - `pmi`: \\(\log p(text \mid volume) - \log p(text)\\), the pointwise mutual information of report and volume.
      The second term removes the language prior, by which a common report beats a rare one whatever the scan shows.
      This term also removes the effect of length. \\(p(text)\\) is the mean over the volumes of other patients
      ([`marginal_losses`]).
    - `corrected_mean`, `corrected_sum`: the loss given the volume, less the loss given a blank volume of equal size.
      This is cheaper than `pmi` and needs no other patient. But the model was never trained on a blank volume and may
      read it as a very unusual scan; the correction then adds a bias instead of removing one.
    - `text_only_mean`, `text_only_sum`: the loss given the blank volume alone, as a baseline. If all volumes have one
      size, this rule prefers the same report for every volume of a group, so it is at chance.

    Only one volume and its options are in memory at a time. The model reads a volume once for all options.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is in evaluation mode during the call; its former mode is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        num_false (`int`, *optional*, defaults to `3`):
            False reports per volume.
        difficulty (`str`, *optional*, defaults to `"random"`):
            Which false reports: `"random"` or `"hard"`, see [`draw_options`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of the options, and of the patients whose volumes `pmi` looks at.
        ci (`float`, *optional*):
            Level of the bootstrap intervals. By default no intervals are computed. Whole groups of questions with the
            same options are resampled, because the answers within a group depend on each other.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: ready for `json.dump`, with these keys:

        - `top1`, `mrr`, `recall_at_2`, ...: scores of the headline rule. With `ci` also `top1_ci` and so on, and
          `ci_level`.
        - `rules`: the same scores for each rule.
        - `chance`: the same scores for guessing.
        - `ranks`: maps each rule to the ranks of the true reports.
        - `confidence`: for each choice by `pmi`, \\(p(text \mid volume) / p(text)\\) of the chosen report, divided by
          the sum of this ratio over all options.
        - `volumes`, `n`: the volumes that the questions are about, and their number.
        - `num_options`, `difficulty`, `seed`: what was asked.
        - `headline`: name of the headline rule.

    Raises:
        `ValueError`: if there is no row, if rows cannot be read by index, or if a row holds another volume because its
            own cannot be read.
        `TooFewScansError`: if there are too few false reports for a volume.
    """
    volumes = volume_names(rows)
    if not volumes:
        raise ValueError("There are no rows to match reports on.")
    index = without_slices(rows)
    texts, labels = zip(*((text_of(row["completion"][-1]), row["labels"]) for row in index), strict=True)
    options = draw_options(np.array(labels), texts, volumes, num_false=num_false, difficulty=difficulty, seed=seed)
    tokens = report_tokens(collator, index)
    with evaluating(model):
        marginal = marginal_losses(model, collator, rows, volumes, tokens, seed=seed)[options.reports]
        losses = np.empty((2, *options.reports.shape))  # given the volume, and given a blank volume, [2, Q, O]
        asked = (rows[int(volume)] for volume in options.volumes)
        bar = tqdm(asked, "Matching reports", len(options.volumes), unit="scan", disable=not progress)
        for question, row in enumerate(bar):
            check_readable(row)
            reports = [tokens[report] for report in options.reports[question]]
            for kind, images in enumerate((row["images"], blank_slices(row))):
                prompt = on_device(collator.prompts([row | {"images": images}]), model)
                losses[kind, question] = option_losses(model, prompt, reports).cpu()

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
