"""
Measures a dual encoder on a held-out split, and writes `results.json` and Markdown tables.

Three things are measured: the benchmark `matching`, by which vision-language models are measured too; retrieval; and
zero-shot labels.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from tqdm.auto import tqdm

from ct_rate_pairs.eval.looking.likelihood import on_device
from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.metrics.ranking import RECALLS, label_auroc, retrieval
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.tasks.matching import choice_table, score_choices
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.flips import collect_statements
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.trainer.generation import evaluating
from ct_rate_pairs.trainer.matcher import MatcherModel
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator
from ct_rate_pairs.whole_files import write_whole

from .generate import batched
from .rows import references_of, without_slices
from .tables import format_markdown, format_number


NUM_SENTENCES = 16
CI = 0.95  # level of the bootstrap intervals, which resample patients


@torch.no_grad()
def embed_scans(
    model: MatcherModel,
    collator: MatcherCollator,
    rows: Dataset | Sequence[dict],
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> tuple[list[int], torch.Tensor]:
    """
    Embeds each scan, and a blank volume of the same size. Each scan is read once.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            Turns scans into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans per batch.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `tuple`: the indices in `rows` of the `N` scans that could be read; and unit vectors, float32 `[2, N, D]`,
        first of the scans, then of the same scans with blank slices. A scan that cannot be read is left out
        (`on_error="skip"`).

    Raises:
        `ValueError`: if there is no row, or if rows cannot be read by index.
    """
    if not len(rows):
        raise ValueError("There are no rows to match reports on.")
    places, seen, blank = [], [], []
    bar = tqdm(rows, "Reading scans", len(rows), unit="scan", disable=not progress)
    readable = ((place, row) for place, row in enumerate(bar) if is_readable(row))
    for numbered in batched(readable, batch_size):
        places += [place for place, _ in numbered]
        batch = [row for _, row in numbered]
        unseen = [row | {"images": blank_slices(row)} for row in batch]
        for vectors, scans in ((seen, batch), (blank, unseen)):
            vectors.append(model.embed_images(**on_device(collator.images(scans), model)).float().cpu())
    return places, torch.stack([torch.cat(seen), torch.cat(blank)])


@torch.no_grad()
def embed_texts(
    model: MatcherModel, collator: MatcherCollator, texts: Sequence[str], *, batch_size: int = 32
) -> torch.Tensor:
    """Unit vectors of `N` texts, float32 `[N, D]`. The arguments are those of [`embed_scans`]."""
    batches = (on_device(collator.texts(batch), model) for batch in batched(texts, batch_size))
    return torch.cat([model.embed_texts(**batch).float().cpu() for batch in batches])


def about(asked: Dataset, volumes: Sequence[str]) -> Dataset:
    """The questions about these volumes."""
    known = set(volumes)
    return asked.select([place for place, volume in enumerate(asked["volume"]) if volume in known])


def choose(
    scans: torch.Tensor, volumes: Sequence[str], texts: Mapping[str, torch.Tensor], asked: Dataset
) -> np.ndarray:
    """
    Losses of the options of each question: the negative cosine between option and volume.

    Args:
        scans (`torch.Tensor` of shape `[2, N, D]`), volumes (`Sequence[str]`):
            Vectors of the scans, see [`embed_scans`], and the names of their volumes.
        texts (`Mapping[str, torch.Tensor]`):
            Maps a text to its vector.
        asked ([`~datasets.Dataset`]):
            Questions of `task="matching"` about these volumes, without slices.

    Returns:
        `np.ndarray`: losses of the `O` options of `Q` questions, `[2, Q, O]`, first given the volume, then given a
        blank volume.
    """
    place = {volume: i for i, volume in enumerate(volumes)}
    options = torch.stack([torch.stack([texts[text] for text in said]) for said in asked["options"]])  # [Q, O, D]
    shown = scans[:, [place[volume] for volume in asked["volume"]]]  # [2, Q, D]
    return -torch.einsum("kqd,qod->kqo", shown, options).numpy()


def score_labels(scans: torch.Tensor, prompts: Mapping[str, Sequence[torch.Tensor]]) -> np.ndarray:
    """
    Scores the labels of each scan: cosine with the texts that state a label, less cosine with the texts that deny it.

    Args:
        scans (`torch.Tensor` of shape `[N, D]`):
            Vectors of the scans.
        prompts (`Mapping[str, Sequence[torch.Tensor]]`):
            Maps each of `L` labels to the vectors `[P, D]` of the texts that state it and, where such texts exist, to
            the vectors of the texts that deny it.

    Returns:
        `np.ndarray`: scores, `[N, L]`. Each cosine is that between the scan and the mean vector of the texts.
    """
    scores = []
    for pair in prompts.values():
        stated, *denied = (scans @ F.normalize(vectors.mean(dim=0), dim=0) for vectors in pair)
        scores.append(stated - sum(denied))
    return torch.stack(scores, dim=1).numpy()


def evaluate_matcher(
    model: MatcherModel,
    collator: MatcherCollator,
    scans: Dataset,
    train: Dataset,
    choices: Sequence[tuple[Dataset, Dataset]],
    out: str | Path,
    *,
    beside: Mapping[str, Mapping] | None = None,
    batch_size: int = 32,
) -> dict[str, dict]:
    """
    Measures a dual encoder and writes `results.json` and `table.md`.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]), \
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            The model and its collator.
        scans ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="report"`: all scans of a held-out split, and the training split. No volume of `train` is
            read.
        choices (`Sequence[tuple[Dataset, Dataset]]`):
            For each kind of options, the same two splits of `task="matching"`.
        out (`str` or `Path`):
            Folder to write to.
        beside (`Mapping[str, Mapping]`, *optional*):
            Maps the name of another model to its scores, as
            [`~ct_rate_pairs.eval.tasks.matching.score_choices`] gives them. They join the table of the same kind of
            options.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans or texts per batch.

    Returns:
        `dict[str, dict]`: the contents of `results.json`:

        - `matching`: for each kind of options, what [`~ct_rate_pairs.eval.tasks.matching.score_choices`] gives.
        - `retrieval`: what [`~ct_rate_pairs.eval.metrics.ranking.retrieval`] gives.
        - `zero_shot`: scores of the labels by the prompts of [`label_prompts`].
        - `zero_shot_sentences`: scores of the labels by the prompts of [`sentence_prompts`]. Some labels may lack such
          prompts.
        - `n`: the number of scans.
        - `scans`: the fingerprint of scans and reports.
    """
    with evaluating(model):
        places, vectors = embed_scans(model, collator, scans, batch_size=batch_size)  # [2, N, D]
        scans = scans.select(places)
        volumes, reports, labels = references_of(scans)
        labels = np.array(labels)
        prompts = {label: [[text] for text in label_prompts(label)] for label in LABELS}
        sentences = sentence_prompts(references_of(train)[1])
        asked = [about(without_slices(rows), volumes) for rows, _ in choices]
        texts = {*reports, *(text for rows in asked for said in rows["options"] for text in said)}
        texts |= {text for pairs in (prompts, sentences) for pair in pairs.values() for side in pair for text in side}
        texts = sorted(texts)
        embedded = dict(zip(texts, embed_texts(model, collator, texts, batch_size=batch_size), strict=True))

    matching = {}
    for index, (rows, of_train) in zip(asked, choices, strict=True):
        config = reader_of(rows).config
        losses = choose(vectors, volumes, embedded, index)
        matching[f"{config.options}, {config.difficulty}"] = score_choices(losses, index, of_train, config, CI)

    def zero_shot(pairs: Mapping[str, Sequence[Sequence[str]]]) -> dict:
        """AUROC of the labels, from the texts that state and deny each label."""
        own = {name: [torch.stack([embedded[text] for text in side]) for side in pair] for name, pair in pairs.items()}
        places = [LABELS.index(name) for name in pairs]
        return label_auroc(score_labels(vectors[0], own), labels[:, places], list(pairs), volumes=volumes, ci=CI)

    similarity = vectors[0] @ torch.stack([embedded[text] for text in reports]).T  # [N, N]
    results = {
        "matching": matching,
        "retrieval": retrieval(similarity.double().numpy(), reports, volumes, ci=CI),
        "zero_shot": zero_shot(prompts),
        "zero_shot_sentences": zero_shot(sentences) if sentences else None,
        "n": len(volumes),
        "scans": fingerprint(scans),
    }
    out = Path(out)
    write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    tables = [format_markdown(choice_table(side_by_side(own, beside or {}))) for own in matching.values()]
    write_whole(out / "table.md", "\n".join([*tables, format_retrieval(results)]))
    print("", (out / "table.md").read_text(), f"written to {out}", sep="\n")
    return results


def side_by_side(own: Mapping, beside: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """The scores of this model, and the scores of the other models that chose among the same kind of options."""
    kind = [own["model"][key] for key in ("options", "difficulty")]
    others = {
        name: other
        for name, other in beside.items()
        if [other["model"].get(k) for k in ("options", "difficulty")] == kind
    }
    return {"dual encoder": own, **others}


def format_retrieval(results: Mapping) -> str:
    """Retrieval and zero-shot labels as Markdown, from the results of [`evaluate_matcher`]."""
    of_retrieval, zero_shot = results["retrieval"], results["zero_shot"]
    by_sentences = results["zero_shot_sentences"] or {"per_label": {}, "auroc_macro": None}
    lines = [
        [f"retrieval among {of_retrieval['n']}", *(title for k in RECALLS for title in (f"Recall@{k}", "chance"))]
    ]
    for direction, title in (("image_to_text", "scan -> report"), ("text_to_image", "report -> scan")):
        scores = of_retrieval[direction]
        keys = [key for k in RECALLS for key in (f"recall_at_{k}", f"chance_at_{k}")]
        lines.append([title, *(format_number(scores, key) for key in keys)])
    labels = [["zero-shot label", "positives", "AUROC, prompts", "AUROC, sentences"]]
    for name, scores in zero_shot["per_label"].items():
        other = by_sentences["per_label"].get(name, {"auroc": None})
        labels.append([name, str(scores["support"]), *(format_number(row, "auroc") for row in (scores, other))])
    labels.append(["**mean**", "", *(format_number(scores, "auroc_macro") for scores in (zero_shot, by_sentences))])
    return f"{format_markdown(lines)}\n{format_markdown(labels)}"


def label_prompts(label: str) -> tuple[str, str]:
    """Two texts: the first states a label, the second denies it."""
    return f"{label} is present.", f"There is no {label.lower()}."


def sentence_prompts(reports: Sequence[str]) -> dict[str, list[list[str]]]:
    """
    Prompts in the reports' own words: sentences that state a label, and sentences that deny it.

    Args:
        reports (`Sequence[str]`):
            Reports of the training split. The rule labeler reads what their sentences state.

    Returns:
        `dict[str, list[list[str]]]`: maps a label to one or two lists of at most 16 sentences, the most frequent ones.
        The first list holds sentences that state this label and mention no other label; the second list holds
        sentences that deny this label alone. The second list is missing if few reports deny the label. The label is
        missing if few reports state it.
    """
    said = collect_statements(reports)
    prompts = {}
    for index, label in enumerate(LABELS):
        both = (Counter(said.get((index, present), ())).most_common(NUM_SENTENCES) for present in (True, False))
        stated, denied = ([text for text, _ in sentences] for sentences in both)
        if stated:
            prompts[label] = [stated, denied] if denied else [stated]
    return prompts
