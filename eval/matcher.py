"""
A dual encoder on a held-out split -> `results.json` and Markdown tables: the benchmark `matching`, which a
vision-language model is measured by, too; retrieval; and zero-shot labels.
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

from ct_rate_pairs.eval.looking.other_volumes import blank_slices
from ct_rate_pairs.eval.metrics.ranking import RECALLS, label_auroc, retrieval
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.tasks.matching import choice_table, score_choices
from ct_rate_pairs.reports.flips import collect_statements
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer.generation import evaluating
from ct_rate_pairs.trainer.matcher import MatcherModel
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator

from .generate import batched
from .rows import references_of, volume_names
from .tables import format_markdown, format_number


NUM_SENTENCES = 16
CI = 0.95  # level of the bootstrap intervals by patient


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
    Reads each scan once.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]):
            Model in evaluation mode.
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            Turns scans into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans at a time.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `tuple`: the places in `rows` of the `N` scans that could be read (of the others, `on_error="skip"` puts
        another volume in their place), and vectors of length 1, float32 `[2, N, D]`: of the scans, and of the same
        with blank slices.

    Raises:
        `ValueError`: if there is no row, or rows cannot be read by index.
    """
    volumes = volume_names(rows)
    if not volumes:
        raise ValueError("There are no rows to match reports on.")
    places, seen, blank = [], [], []
    bar = tqdm(rows, "Reading scans", len(volumes), unit="scan", disable=not progress)
    own = ((place, row) for place, row in enumerate(bar) if row["volume"] == volumes[place])
    for numbered in batched(own, batch_size):
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
    """Vectors of `N` texts, of length 1, float32 `[N, D]`; arguments as of [`embed_scans`]."""
    batches = (on_device(collator.texts(batch), model) for batch in batched(texts, batch_size))
    return torch.cat([model.embed_texts(**batch).float().cpu() for batch in batches])


def on_device(batch: dict[str, torch.Tensor], model: MatcherModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def about(asked: Dataset, volumes: Sequence[str]) -> Dataset:
    """The questions about these volumes."""
    known = set(volumes)
    return asked.select([place for place, volume in enumerate(asked["volume"]) if volume in known])


def choose(
    scans: torch.Tensor, volumes: Sequence[str], texts: Mapping[str, torch.Tensor], asked: Dataset
) -> np.ndarray:
    """
    How little each option is like its volume: the negative cosines.

    Args:
        scans (`torch.Tensor` of shape `[2, N, D]`), volumes (`Sequence[str]`):
            The scans, see [`embed_scans`], and their names.
        texts (`Mapping[str, torch.Tensor]`):
            Text to its vector.
        asked ([`~datasets.Dataset`]):
            Questions of `task="matching"` about these volumes, without slices.

    Returns:
        `np.ndarray`: for each of `Q` questions, given the volume and given a blank one, `[2, Q, O]`.
    """
    place = {volume: i for i, volume in enumerate(volumes)}
    options = torch.stack([torch.stack([texts[text] for text in said]) for said in asked["options"]])  # [Q, O, D]
    shown = scans[:, [place[volume] for volume in asked["volume"]]]  # [2, Q, D]
    return -torch.einsum("kqd,qod->kqo", shown, options).numpy()


def score_labels(scans: torch.Tensor, prompts: Mapping[str, Sequence[torch.Tensor]]) -> np.ndarray:
    """
    How much more a scan is like what states a label than like what denies it.

    Args:
        scans (`torch.Tensor` of shape `[N, D]`):
            The scans.
        prompts (`Mapping[str, Sequence[torch.Tensor]]`):
            Label to the vectors of the texts that state it, and of those that deny it, if any do; `[P, D]` each.

    Returns:
        `np.ndarray`: cosine with the mean of the first, less that with the mean of the others, `[N, L]`.
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
            The model and what feeds it.
        scans ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of a held-out split of `task="report"`, all of its scans, and of the training split. Of `train` no
            volume is read.
        choices (`Sequence[tuple[Dataset, Dataset]]`):
            The same two splits of `task="matching"`, for each kind of options that are to be chosen among.
        out (`str` or `Path`):
            Folder to write to.
        beside (`Mapping[str, Mapping]`, *optional*):
            Name of another model to its [`~ct_rate_pairs.eval.tasks.matching.score_choices`], for the table of those options
            that it was asked.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans, or texts, at a time.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: `matching`, for each kind of options the
        [`~ct_rate_pairs.eval.tasks.matching.score_choices`]; `retrieval`; `zero_shot`, of the prompts [`label_prompts`], and
        `zero_shot_sentences`, of [`sentence_prompts`], which some labels may lack; `n` and `scans`, the fingerprint
        of scans and reports.
    """
    with evaluating(model):
        places, vectors = embed_scans(model, collator, scans, batch_size=batch_size)  # [2, N, D]
        scans = scans.select(places)
        volumes, reports, labels = references_of(scans)
        labels = np.array(labels)
        prompts = {label: [[text] for text in label_prompts(label)] for label in LABELS}
        sentences = sentence_prompts(references_of(train)[1])
        asked = [about(rows.with_format(None), volumes) for rows, _ in choices]
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
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    tables = [format_markdown(choice_table(side_by_side(own, beside or {}))) for own in matching.values()]
    (out / "table.md").write_text("\n".join([*tables, format_retrieval(results)]))
    print("", (out / "table.md").read_text(), f"written to {out}", sep="\n")
    return results


def side_by_side(own: Mapping, beside: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """The choices of this model and of those others that had the same kind of options."""
    kind = [own["model"][key] for key in ("options", "difficulty")]
    others = {
        name: other
        for name, other in beside.items()
        if [other["model"].get(k) for k in ("options", "difficulty")] == kind
    }
    return {"dual encoder": own, **others}


def format_retrieval(results: Mapping) -> str:
    """Retrieval and zero-shot labels of [`evaluate_matcher`], as Markdown."""
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
    """What says that a label is there, and what says that it is not."""
    return f"{label} is present.", f"There is no {label.lower()}."


def sentence_prompts(reports: Sequence[str]) -> dict[str, list[list[str]]]:
    """
    Prompts in the reports' own words: sentences that state a label, and sentences that deny it.

    Args:
        reports (`Sequence[str]`):
            Reports of the training split. What their sentences say is read by the rule labeler.

    Returns:
        `dict[str, list[list[str]]]`: label to the 16 commonest sentences that state it, and no other label; then, if
        the reports deny it, to the commonest that do. A label that hardly any report states is left out.
    """
    said = collect_statements(reports)
    prompts = {}
    for index, label in enumerate(LABELS):
        both = (Counter(said.get((index, present), ())).most_common(NUM_SENTENCES) for present in (True, False))
        stated, denied = ([text for text, _ in sentences] for sentences in both)
        if stated:
            prompts[label] = [stated, denied] if denied else [stated]
    return prompts
