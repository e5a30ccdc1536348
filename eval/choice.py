"""The task `matching`: which of the texts in the prompt is the volume's, by the likelihood of their letters."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.loss_gap import blank_slices
from ct_rate_pairs.eval.provenance import fingerprint
from ct_rate_pairs.eval.report_matching import on_device, option_losses, rank_scores, ranks_of_correct, report_tokens
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.eval.text_only import score_options
from ct_rate_pairs.matching import LETTERS
from ct_rate_pairs.trainer import PairCollator


ROWS = {
    "model": "model",
    "blank": "model, blank volume",
    "text_only": "TF-IDF of the options",
    "most_common": "most common letter",
    "chance": "chance",
}


def group_names(options: Sequence[Sequence[str]]) -> list[str]:
    """
    Names the group of each question: those that are asked with the same texts, in whatever order.

    Args:
        options (`Sequence[Sequence[str]]`):
            The options of `N` questions. Differences in case and white space do not count.

    Returns:
        `list[str]`: `group_0`, `group_1`, ... in the order of their first question. In the place of VolumeNames they
        make [`~ct_rate_pairs.eval.bootstrap.estimate`] draw whole groups.
    """
    numbers: dict[frozenset[str], int] = {}
    keys = [frozenset(" ".join(text.lower().split()) for text in texts) for texts in options]
    return [f"group_{numbers.setdefault(key, len(numbers))}" for key in keys]


def first_groups(rows: Dataset, number: int) -> Dataset:
    """
    The first groups of a split, as many as have `number` questions together, but one at least. No volume is read.

    Only in whole groups is every text as often false as its number demands, and the text alone without use.
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
def measure_letters(
    model: PreTrainedModel, collator: PairCollator, rows: Dataset, *, progress: bool = True
) -> tuple[list[int], np.ndarray]:
    """
    The loss of each option's letter as the answer, given the volume and given a blank one of the same size.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`]):
            Rows of `task="matching"`, with `O` options each.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `tuple`: the places in `rows` of the `N` questions whose volume could be read (of the others,
        `on_error="skip"` puts another volume in their place), and losses in nats, of shape `[2, N, O]`.
    """
    index = rows.with_format(None)
    letters = LETTERS[: len(index[0]["options"])]
    answers = [index[0] | {"completion": [{"role": "assistant", "content": letter}]} for letter in letters]
    tokens = report_tokens(collator, answers)  # they depend on the answer alone
    was_training = model.training
    model.eval()
    places, losses = [], []
    for place, row in enumerate(tqdm(rows, desc="Matching texts", unit="question", disable=not progress)):
        if row["volume"] != index[place]["volume"]:
            continue
        shown = [
            on_device(collator.prompts([row | {"images": images}]), model)
            for images in (row["images"], blank_slices(row))
        ]
        places.append(place)
        losses.append([option_losses(model, prompt, tokens).tolist() for prompt in shown])
    model.train(was_training)
    return places, np.array(losses).swapaxes(0, 1)


def evaluate_choice(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    out: str | Path,
    *,
    ci: float = 0.95,
) -> dict[str, dict]:
    """
    Measures a model's choices and writes `results.json`, `table.md` and `choices.jsonl`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="matching"`: whole groups of a held-out split (see [`first_groups`]), and the training
            split. Of `train` no volume is read.
        out (`str` or `Path`):
            Folder to write to.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the bootstrap intervals. Whole groups of questions are drawn: in one, the choices of a model that
            sees no volume cannot all be right, so questions alone would give too wide an interval.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: the keys of
        [`~ct_rate_pairs.eval.report_matching.rank_scores`] under `model`, `blank` (the same model, shown a blank
        volume), `text_only` (TF-IDF and logistic regression over the options, see
        [`~ct_rate_pairs.eval.text_only.score_options`]), `most_common` (the most common letters of the training split)
        and `chance`. Under `model` also `n`, `groups`, `num_options`, `options` and `difficulty` of the dataset, and
        `scans`, the fingerprint of volumes and answers.

    Raises:
        `ValueError`: if there is no question whose volume can be read.
    """
    config = rows.format["format_kwargs"]["transform"].config
    places, losses = measure_letters(model, collator, rows)
    if not places:
        raise ValueError("There are no questions whose volume can be read.")
    index = rows.with_format(None).select(places)
    questions = train.with_format(None).select_columns(["options", "correct"])
    options, correct = list(index["options"]), np.array(index["correct"])
    number = losses.shape[2]
    common = np.bincount(questions["correct"][:], minlength=number)  # [O]
    by_row = {
        "model": losses[0],
        "blank": losses[1],
        "text_only": -score_options(questions["options"], questions["correct"], options),
        "most_common": np.broadcast_to(-common, losses[0].shape),
    }
    ranks = {name: ranks_of_correct(values, correct) for name, values in by_row.items()}
    groups = group_names(options)
    results = {name: rank_scores(of_row, number, groups, ci) for name, of_row in ranks.items()}
    results["chance"] = rank_scores(np.arange(1, number + 1), number)
    results["model"] |= {
        "n": len(places),
        "groups": len(set(groups)),
        "num_options": number,
        "options": config.options,
        "difficulty": config.difficulty,
        "scans": fingerprint(rows),
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "choices.jsonl").open("w") as file:
        for place, volume in enumerate(index["volume"]):
            letters = {name: losses[kind, place].tolist() for kind, name in enumerate(("losses", "blank_losses"))}
            file.write(json.dumps({"volume": volume, "correct": int(correct[place]), **letters}) + "\n")
    write_table(results, choice_table(results), out)
    return results


def choice_table(results: Mapping[str, Mapping]) -> list[list[str]]:
    """The rows of [`evaluate_choice`], for [`~ct_rate_pairs.eval.tables.write_markdown`]."""
    model = results["model"]
    recalls = [f"recall_at_{k}" for k in range(2, model["num_options"])]
    asked = f"1 of {model['num_options']}, {model['options']}, {model['difficulty']}, n = {model['n']}"
    lines = [[asked, "Top-1", "MRR", *(name.replace("recall_at_", "Recall@") for name in recalls)]]
    for name, title in ROWS.items():
        lines.append([title, *(format_number(results[name], key) for key in ("top1", "mrr", *recalls))])
    return lines
