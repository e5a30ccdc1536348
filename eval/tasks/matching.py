"""The task `matching`: the model chooses a volume's text by the likelihood of the letters, or of the texts."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.config import CTRatePairsConfig
from ct_rate_pairs.eval.looking.likelihood import on_device, option_losses, report_tokens
from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.metrics.ranking import rank_scores, ranks_of_correct
from ct_rate_pairs.eval.rows import report_prompt, without_slices
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.texts import same_words
from ct_rate_pairs.tasks.matching import LETTERS
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import evaluating
from ct_rate_pairs.whole_files import write_whole

from .settings import TaskSettings
from .text_only import score_options


TRIVIAL = {
    "text_only": "TF-IDF of the options",
    "most_common": "most common letter",
    "chance": "chance",
}


def group_names(options: Sequence[Sequence[str]]) -> list[str]:
    """
    Names the group of each question. Questions with the same options, in any order, form a group.

    Args:
        options (`Sequence[Sequence[str]]`):
            The options of `N` questions. Differences in case and white space are ignored.

    Returns:
        `list[str]`: `group_0`, `group_1`, ... in the order of their first questions. Passed as `volumes`, these names
        make [`~ct_rate_pairs.eval.metrics.bootstrap.estimate`] resample whole groups.
    """
    numbers: dict[frozenset[str], int] = {}
    keys = [frozenset(same_words(text) for text in texts) for texts in options]
    return [f"group_{numbers.setdefault(key, len(numbers))}" for key in keys]


def first_groups(rows: Dataset, number: int) -> Dataset:
    """
    The first groups of a split that hold at most `number` questions together; at least one group. No volume is read.

    Only in whole groups is each text a false option equally often, so that the text alone gives no hint.
    """
    groups = group_names(rows.with_format(None)["options"])
    sizes, taken, questions = Counter(groups), set(), 0
    for group in dict.fromkeys(groups):
        if taken and questions + sizes[group] > number:
            break
        taken.add(group)
        questions += sizes[group]
    return rows.select([i for i, group in enumerate(groups) if group in taken])


@torch.no_grad()
def measure_options(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    *,
    answers: str = "letters",
) -> tuple[list[int], np.ndarray]:
    """
    Mean loss over the tokens of each option, given the volume and given a blank volume of the same size.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is in evaluation mode during the call; its former mode is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`]):
            Rows of `task="matching"`, with `O` options each.
        answers (`str`, *optional*, defaults to `"letters"`):
            `"letters"`: the model is asked the row's question, and the loss of an option is the loss of its letter.
            `"texts"`: the model is asked for the report, and the loss of an option is the loss of its text. This is
            for a model that was trained on reports alone.

    Returns:
        `tuple`: the indices in `rows` of the `N` questions whose volume could be read, and losses in nats per token,
        `[2, N, O]`, first given the volume, then given a blank volume. Questions whose volume cannot be read are left
        out.
    """
    config = reader_of(rows).config
    with evaluating(model):
        places, losses = [], []
        for place, row in enumerate(tqdm(rows, desc="Matching texts", unit="question")):
            if not is_readable(row):
                continue
            said = row["options"]
            if answers == "letters":
                said = LETTERS[: len(said)]
            else:
                row |= {"prompt": report_prompt(row, config)}
            tokens = report_tokens(
                collator, [row | {"completion": [{"role": "assistant", "content": s}]} for s in said]
            )
            lengths = torch.tensor([len(option) for option in tokens])
            shown = [
                on_device(collator.prompts([row | {"images": images}]), model)
                for images in (row["images"], blank_slices(row))
            ]
            places.append(place)
            losses.append([(option_losses(model, prompt, tokens).cpu() / lengths).tolist() for prompt in shown])
    return places, np.array(losses).swapaxes(0, 1)


def evaluate_matching(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    out: str | Path,
    settings: TaskSettings,
) -> dict[str, dict]:
    """
    Measures the choices of a model, and writes `results.json`, `table.md` and `choices.jsonl`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and its collator.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="matching"`: a held-out split, and the training split. No volume of `train` is read.
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured, and how. `max_samples` selects the first whole groups of questions
            ([`first_groups`]); `answers` is the argument of [`measure_options`].

    Returns:
        `dict[str, dict]`: the contents of `results.json`: the keys of [`score_choices`], and under `model` also
        `answers`.

    Raises:
        `ValueError`: if there is no question whose volume can be read.
    """
    rows = first_groups(rows, settings.max_samples) if settings.max_samples else rows
    places, losses = measure_options(model, collator, rows, answers=settings.answers)
    if not places:
        raise ValueError("There are no questions whose volume can be read.")
    index = without_slices(rows).select(places)
    results = score_choices(losses, index, train, reader_of(rows).config, settings.ci)
    results["model"]["answers"] = settings.answers
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for place, row in enumerate(index):
        of_row = {name: losses[kind, place].tolist() for kind, name in enumerate(("losses", "blank_losses"))}
        lines.append(json.dumps({"volume": row["volume"], "correct": row["correct"], **of_row}) + "\n")
    write_whole(out / "choices.jsonl", "".join(lines))
    write_table(results | settings.told, choice_table({"model": results}), out)
    return results


def score_choices(
    losses: np.ndarray, index: Dataset, train: Dataset, config: CTRatePairsConfig, ci: float | None = None
) -> dict[str, dict]:
    """
    Scores the choices of a model, and of baselines that do not look.

    Args:
        losses (`np.ndarray` of shape `[2, N, O]`):
            Losses of the options, first given the volume, then given a blank volume. The option with the lowest loss
            is chosen.
        index ([`~datasets.Dataset`]):
            The `N` questions without slices: whole groups of a split of `task="matching"`.
        train ([`~datasets.Dataset`]):
            The questions of the training split.
        config ([`~ct_rate_pairs.config.CTRatePairsConfig`]):
            The options of the dataset.
        ci (`float`, *optional*):
            Level of the bootstrap intervals. By default no intervals are computed. Whole groups of questions are
            resampled, because the choices within a group depend on each other: a model that sees no volume cannot be
            right on all of them. Resampling single questions would make the interval too wide.

    Returns:
        `dict[str, dict]`: scores of [`~ct_rate_pairs.eval.metrics.ranking.rank_scores`] for each of:

        - `model`: the model. This entry also holds `n`, `groups` and `num_options`; `options` and `difficulty` of the
          dataset; and `questions`, the fingerprint of volumes and options.
        - `blank`: the same model, given a blank volume.
        - `text_only`: TF-IDF and logistic regression over the options, see
          [`~ct_rate_pairs.eval.tasks.text_only.score_options`].
        - `most_common`: the letters in the order of their frequency in the training split.
        - `chance`: guessing.
    """
    known = train.with_format(None).select_columns(["options", "correct"])
    options, correct, number = list(index["options"]), np.array(index["correct"]), losses.shape[2]
    common = np.bincount(known["correct"][:], minlength=number)  # [O]
    by_row = {
        "model": losses[0],
        "blank": losses[1],
        "text_only": -score_options(known["options"], known["correct"], options),
        "most_common": np.broadcast_to(-common, losses[0].shape),
    }
    ranks = {name: ranks_of_correct(values, correct) for name, values in by_row.items()}
    groups = group_names(options)
    results = {name: rank_scores(of_row, number, groups, ci) for name, of_row in ranks.items()}
    results["chance"] = rank_scores(np.arange(1, number + 1), number)
    results["model"] |= {
        "n": len(options),
        "groups": len(set(groups)),
        "num_options": number,
        "options": config.options,
        "difficulty": config.difficulty,
        "questions": fingerprint_questions(index),
    }
    return results


def fingerprint_questions(index: Dataset) -> str:
    """A hash (16 hexadecimal digits) of the volumes that the questions are about, their order and their options."""
    asked = json.dumps([index["volume"][:], index["options"][:]])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def choice_table(runs: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """
    A table of several models that chose among the same options, for [`~ct_rate_pairs.eval.tables.write_markdown`].

    Args:
        runs (`Mapping[str, Mapping[str, Mapping]]`):
            Maps the name of a model to its scores from [`score_choices`].

    Returns:
        `list[list[str]]`: the heading; two lines per model, given the volume and given a blank volume; and one line
        per baseline.

    Raises:
        `ValueError`: if the models were asked different questions.
    """
    asked = {name: results["model"]["questions"] for name, results in runs.items()}
    if len(set(asked.values())) > 1:
        told = ", ".join(f"{name}: {questions}" for name, questions in asked.items())
        raise ValueError(
            f"The runs were asked different questions ({told}), so their numbers cannot be compared. Measure them on "
            "the same split, with the same `options`, `difficulty`, `num_false`, `target` and `seed`."
        )
    first = next(iter(runs.values()))
    model = first["model"]
    recalls = [f"recall_at_{k}" for k in range(2, model["num_options"])]
    told = f"1 of {model['num_options']}, {model['options']}, {model['difficulty']}, n = {model['n']}"
    lines = [[told, "Top-1", "MRR", *(name.replace("recall_at_", "Recall@") for name in recalls)]]

    def line(title: str, scores: Mapping) -> list[str]:
        """A line of the table: its title and scores."""
        return [title, *(format_number(scores, key) for key in ("top1", "mrr", *recalls))]

    for name, results in runs.items():
        lines += [line(name, results["model"]), line(f"{name}, blank volume", results["blank"])]
    return lines + [line(title, first[name]) for name, title in TRIVIAL.items()]
