"""
Scores of a dual encoder from its vectors of scans and texts, whichever program has made them: the benchmark
`matching`, retrieval, and zero-shot labels.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from ct_rate_pairs.eval.metrics.ranking import RECALLS, label_auroc, retrieval
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.tasks.matching import choice_table, score_choices
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.flips import collect_statements
from ct_rate_pairs.reports.labels import LABELS
from ct_rate_pairs.whole_files import write_whole

from .rows import references_of, without_slices
from .tables import format_markdown, format_number


NUM_SENTENCES = 16
CI = 0.95  # level of the bootstrap intervals, which resample patients


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
            Vectors of the scans, see [`score_vectors`], and the names of their volumes.
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


def texts_to_embed(scans: Dataset, train: Dataset, choices: Sequence[tuple[Dataset, Dataset]]) -> list[str]:
    """
    The texts whose vectors [`score_vectors`] needs, sorted: the reports of the scans, the options of the questions
    about them, and the prompts of the labels. No volume is read. The arguments are those of
    [`~ct_rate_pairs.eval.matcher.evaluate_matcher`].
    """
    volumes, reports, _ = references_of(scans)
    options = {
        text for rows, _ in choices for said in about(without_slices(rows), volumes)["options"] for text in said
    }
    sides = [side for pairs in _prompts(train) for pair in pairs.values() for side in pair]
    return sorted({*reports, *options, *(text for side in sides for text in side)})


def _prompts(train: Dataset) -> tuple[dict, dict]:
    """The texts that state and deny each label: fixed ones, and sentences of the reports of the training split."""
    fixed = {label: [[text] for text in label_prompts(label)] for label in LABELS}
    return fixed, sentence_prompts(references_of(train)[1])


def score_vectors(
    vectors: torch.Tensor,
    scans: Dataset,
    texts: Mapping[str, torch.Tensor],
    train: Dataset,
    choices: Sequence[tuple[Dataset, Dataset]],
    *,
    label_scores: np.ndarray | None = None,
) -> dict[str, dict]:
    """
    Scores the vectors of a dual encoder. What needs a text without a vector is left out, with a printed notice.

    Args:
        vectors (`torch.Tensor` of shape `[2, N, D]`):
            Unit vectors of the scans, and of blank volumes in their place. Of the latter, NaN stands for unknown.
        scans ([`~datasets.Dataset`]):
            The `N` rows of `task="report"` of these scans. No volume is read.
        texts (`Mapping[str, torch.Tensor]`):
            Maps a text to its unit vector, see [`texts_to_embed`].
        train ([`~datasets.Dataset`]), choices (`Sequence[tuple[Dataset, Dataset]]`):
            As for [`~ct_rate_pairs.eval.matcher.evaluate_matcher`].
        label_scores (`np.ndarray` of shape `[N, 18]`, *optional*):
            Scores of the labels that the model itself has given. By default, they come from the prompts.

    Returns:
        `dict[str, dict]`: what [`~ct_rate_pairs.eval.matcher.evaluate_matcher`] returns, with `None` for what could
        not be measured.
    """
    volumes, reports, labels = references_of(scans)
    labels = np.array(labels)
    matching = {}
    for rows, of_train in choices:
        config, index = reader_of(rows).config, about(without_slices(rows), volumes)
        kind = f"{config.options}, {config.difficulty}"
        if vectors[1].isnan().any():
            print(f"Matching ({kind}) is not measured: there is no vector of a blank volume.")
        elif _all_known(f"Matching ({kind})", [text for said in index["options"] for text in said], texts):
            losses = choose(vectors, volumes, texts, index)
            matching[kind] = score_choices(losses, index, of_train, config, CI)

    def zero_shot(title: str, pairs: Mapping[str, Sequence[Sequence[str]]]) -> dict | None:
        """AUROC of the labels, from the texts that state and deny each label."""
        said = [text for pair in pairs.values() for side in pair for text in side]
        if not pairs or not _all_known(title, said, texts):
            return None
        own = {name: [torch.stack([texts[text] for text in side]) for side in pair] for name, pair in pairs.items()}
        places = [LABELS.index(name) for name in pairs]
        return label_auroc(score_labels(vectors[0], own), labels[:, places], list(pairs), volumes=volumes, ci=CI)

    found = None
    if _all_known("Retrieval", reports, texts):
        similarity = vectors[0] @ torch.stack([texts[text] for text in reports]).T  # [N, N]
        found = retrieval(similarity.double().numpy(), reports, volumes, ci=CI)
    fixed, sentences = _prompts(train)
    return {
        "matching": matching,
        "retrieval": found,
        "zero_shot": zero_shot("Zero-shot labels by prompts", fixed)
        if label_scores is None
        else label_auroc(label_scores, labels, volumes=volumes, ci=CI),
        "zero_shot_sentences": zero_shot("Zero-shot labels by sentences", sentences),
        "n": len(volumes),
        "scans": fingerprint(scans),
    }


def _all_known(title: str, needed: Sequence[str], texts: Mapping[str, torch.Tensor]) -> bool:
    """Whether all texts have a vector. If not, prints what is not measured."""
    unknown = [text for text in needed if text not in texts]
    if unknown:
        told = f"{len(unknown)} of {len(needed)} texts have no vector, such as {unknown[0]!r:.60}"
        print(f"{title} is not measured: {told}.")
    return not unknown


def write_matcher_results(
    results: Mapping, out: str | Path, *, beside: Mapping[str, Mapping] | None = None, name: str = "dual encoder"
) -> None:
    """Writes `results.json` and `table.md`, and prints the table. `name` is that of the model in the table."""
    out = Path(out)
    write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    of_matching = results["matching"].values()
    tables = [format_markdown(choice_table(side_by_side(own, beside or {}, name))) for own in of_matching]
    write_whole(out / "table.md", "\n".join([*tables, format_retrieval(results)]))
    print("", (out / "table.md").read_text(), f"written to {out}", sep="\n")


def side_by_side(own: Mapping, beside: Mapping[str, Mapping], name: str = "dual encoder") -> dict[str, Mapping]:
    """The scores of this model, and the scores of the other models that chose among the same kind of options."""
    kind = [own["model"][key] for key in ("options", "difficulty")]
    others = {
        name: other
        for name, other in beside.items()
        if [other["model"].get(k) for k in ("options", "difficulty")] == kind
    }
    return {name: own, **others}


def format_retrieval(results: Mapping) -> str:
    """Retrieval and zero-shot labels as Markdown, from the results of [`score_vectors`]."""
    nothing = {"per_label": {}, "auroc_macro": None}
    of_retrieval, zero_shot = results["retrieval"], results["zero_shot"] or nothing
    by_sentences = results["zero_shot_sentences"] or nothing
    lines = [[f"retrieval among {results['n']}", *(title for k in RECALLS for title in (f"Recall@{k}", "chance"))]]
    for direction, title in (("image_to_text", "scan -> report"), ("text_to_image", "report -> scan")):
        keys = [key for k in RECALLS for key in (f"recall_at_{k}", f"chance_at_{k}")]
        scores = of_retrieval[direction] if of_retrieval else dict.fromkeys(keys)
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
