"""
A dual encoder on a held-out split -> `results.json` and one Markdown table: the report matching that a vision-language
model is measured by, retrieval, and zero-shot labels.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from ct_rate_pairs.csv_tables import patient_of
from ct_rate_pairs.eval.evaluation import matching_summary
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.loss_gap import TooFewScansError, blank_slices, check_volume, volume_names
from ct_rate_pairs.eval.predictions import references_of
from ct_rate_pairs.eval.provenance import fingerprint
from ct_rate_pairs.eval.report_matching import draw_options, rank_scores, ranks_of_correct
from ct_rate_pairs.eval.retrieval import RECALLS, label_auroc, label_prompts, retrieval
from ct_rate_pairs.eval.tables import format_number, write_markdown
from ct_rate_pairs.labels import LABELS
from ct_rate_pairs.trainer.matcher import MatcherModel
from ct_rate_pairs.trainer.matcher_collator import MatcherCollator


class Similarities(NamedTuple):
    """What a dual encoder says of `N` scans: cosines over the temperature."""

    reports: np.ndarray  # of each scan and each scan's report, [N, N]
    blank: np.ndarray  # the same with the scan's slices blank, [N, N]
    prompts: np.ndarray  # of each scan and "there", "not there" of each label, [N, 18, 2]


@torch.no_grad()
def measure_similarities(
    model: MatcherModel,
    collator: MatcherCollator,
    rows: Dataset | Sequence[dict],
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> Similarities:
    """
    Reads each scan and each report once.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            Turns scans and texts into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split, a map-style dataset or a list.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans, or texts, at a time.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `Similarities`: of the rows, in their order.

    Raises:
        `ValueError`: if there is no row, rows cannot be read by index, or one is not of the volume that is due.
    """
    volumes = volume_names(rows)
    if not volumes:
        raise ValueError("There are no rows to match reports on.")
    was_training = model.training
    model.eval()

    def embed_texts(texts: Sequence[str]) -> torch.Tensor:  # [number of texts, D]
        batches = (collator.texts(batch) for batch in batched(texts, batch_size))
        return torch.cat([model.embed_texts(**on_device(batch, model)) for batch in batches])

    def embed_images(rows: Sequence[dict]) -> torch.Tensor:  # [B, D]
        return model.embed_images(**on_device(collator.images(rows), model))

    seen, unseen = [], []
    numbered = tqdm(zip(rows, volumes, strict=True), "Reading scans", len(volumes), unit="scan", disable=not progress)
    for batch in batched((check_volume(row, volume) for row, volume in numbered), batch_size):
        seen.append(embed_images(batch))
        unseen.append(embed_images([row | {"images": blank_slices(row)} for row in batch]))
    index = rows.with_format(None) if isinstance(rows, Dataset) else rows  # texts, no slices
    reports = embed_texts([row["completion"][-1]["content"] for row in index])
    prompts = embed_texts([prompt for label in LABELS for prompt in label_prompts(label)]).unflatten(0, (-1, 2))
    model.train(was_training)

    scans, blank, scale = torch.cat(seen), torch.cat(unseen), model.logit_scale.exp()
    similarities = (scans @ reports.T, blank @ reports.T, torch.einsum("nd,lpd->nlp", scans, prompts))
    return Similarities(*((scale * similarity).double().cpu().numpy() for similarity in similarities))


def on_device(batch: dict[str, torch.Tensor], model: MatcherModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def matcher_matching(
    similarities: Similarities,
    labels: np.ndarray,
    texts: Sequence[str],
    volumes: Sequence[str],
    *,
    num_false: int = 3,
    difficulty: str = "random",
    seed: int = 0,
    ci: float | None = None,
) -> dict:
    r"""
    The benchmark of [`~ct_rate_pairs.eval.report_matching.report_matching`], with the same options, by cosine.

    The ways of choosing (`rules`), named as there:

    - `cosine`, the headline: the most similar report.
    - `pmi`: \\(s(v, t) - \log \frac{1}{M} \sum_m \exp s(v_m, t)\\) over the scans of all other patients of the split,
      which takes off what makes a report similar to every scan. After contrastive training \\(s\\) is the log-ratio of
      report and scan up to a constant of the scan, so this is their pointwise mutual information.
    - `text_only_mean`: the report most similar to blank slices, with the scan's age and sex: the baseline.

    Args:
        similarities ([`Similarities`]):
            Of the `N` scans.
        labels (`np.ndarray` of shape `[N, 18]`), texts (`Sequence[str]`), volumes (`Sequence[str]`):
            True labels, reports and VolumeNames of these scans.
        num_false (`int`, *optional*, defaults to `3`), difficulty (`str`, *optional*, defaults to `"random"`), \
        seed (`int`, *optional*, defaults to `0`):
            Of the options, see [`~ct_rate_pairs.eval.report_matching.draw_options`].
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.

    Returns:
        `dict`: as [`~ct_rate_pairs.eval.report_matching.report_matching`] gives it. Ready for `json.dump`.

    Raises:
        `TooFewScansError`: if there are too few false reports for a volume.
    """
    options = draw_options(labels, texts, volumes, num_false=num_false, difficulty=difficulty, seed=seed)
    patients = np.array([patient_of(volume) for volume in volumes])
    others = patients[:, None] != patients  # of each text (row) the scans (column) of other patients, [N, N]
    scores = np.where(others, similarities.reports.T, -np.inf)
    common = np.logaddexp.reduce(scores, axis=1) - np.log(others.sum(axis=1))  # [N]
    by_rule = {
        "cosine": np.take_along_axis(similarities.reports, options.reports, axis=1),  # [N, O]
        "pmi": np.take_along_axis(similarities.reports - common, options.reports, axis=1),
        "text_only_mean": np.take_along_axis(similarities.blank, options.reports, axis=1),
    }
    ranks = {rule: ranks_of_correct(-values, options.correct) for rule, values in by_rule.items()}
    num_options = num_false + 1
    rules = {rule: rank_scores(of_rule, num_options, volumes, ci) for rule, of_rule in ranks.items()}
    return {
        **rules["cosine"],
        "headline": "cosine",
        "rules": rules,
        "chance": rank_scores(np.arange(1, num_options + 1), num_options),
        "ranks": {rule: of_rule.tolist() for rule, of_rule in ranks.items()},
        "confidence": torch.from_numpy(by_rule["pmi"]).softmax(dim=1).amax(dim=1).tolist(),
        "volumes": list(volumes),
        "n": len(volumes),
        "num_options": num_options,
        "difficulty": difficulty,
        "seed": seed,
    }


def evaluate_matcher(
    model: MatcherModel,
    collator: MatcherCollator,
    scans: Dataset,
    out: str | Path,
    *,
    beside: Mapping[str, Mapping] | None = None,
    batch_size: int = 32,
    ci: float = 0.95,
    seed: int = 0,
) -> dict[str, dict]:
    """
    Measures a dual encoder and writes `results.json`, `looking.json` and `table.md`.

    Args:
        model ([`~ct_rate_pairs.trainer.matcher.MatcherModel`]), \
        collator ([`~ct_rate_pairs.trainer.matcher_collator.MatcherCollator`]):
            The model and what feeds it.
        scans ([`~datasets.Dataset`]):
            Rows of a held-out split.
        out (`str` or `Path`):
            Folder to write to.
        beside (`Mapping[str, Mapping]`, *optional*):
            Name of another run to the contents of its `results.json`, for the table.
        batch_size (`int`, *optional*, defaults to `32`):
            Scans, or texts, at a time.
        ci (`float`, *optional*, defaults to `0.95`):
            Level of the bootstrap intervals by patient.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the options.

    Returns:
        `dict[str, dict]`: the contents of `results.json`: under `model` `matching` as for a vision-language model
        (with `mrr_ci`), `retrieval`, `zero_shot`, `n` and `scans`, the fingerprint of scans and reports.
    """
    volumes, texts, labels = references_of(scans)
    labels = np.array(labels)
    similarities = measure_similarities(model, collator, scans, batch_size=batch_size)
    matching = {}
    for difficulty in ("random", "hard"):
        options = {"difficulty": difficulty, "seed": seed, "ci": ci}
        try:
            matching[difficulty] = matcher_matching(similarities, labels, texts, volumes, **options)
        except TooFewScansError as error:
            print(f"No {difficulty} report matching: {error}")
    present, absent = similarities.prompts[..., 0], similarities.prompts[..., 1]  # [N, 18] each
    summaries = {name: matching_summary(result) | {"mrr_ci": result["mrr_ci"]} for name, result in matching.items()}
    measured = {
        "matching": summaries,
        "retrieval": retrieval(similarities.reports, texts, volumes, ci=ci),
        "zero_shot": label_auroc(present - absent, labels, volumes=volumes, ci=ci),
        "n": len(volumes),
        "scans": fingerprint(scans),
    }
    results = {"model": measured}
    out = Path(out)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (out / "looking.json").write_text(json.dumps({"matching": matching}) + "\n")
    lines = matching_table({"dual encoder": results, **(beside or {})})
    write_markdown(lines, out / "table.md")
    with (out / "table.md").open("a") as table:
        table.write("\n" + format_retrieval(measured))
    print((out / "table.md").read_text(), f"written to {out}", sep="\n")
    return results


def matching_table(runs: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """
    Sets the report matching of several models side by side, for [`~ct_rate_pairs.eval.tables.write_markdown`].

    Args:
        runs (`Mapping[str, Mapping[str, Mapping]]`):
            Name of a run to the contents of its `results.json`, of a dual encoder or a vision-language model.

    Returns:
        `list[list[str]]`: the heading, and for each difficulty a line a run, then that of guessing.

    Raises:
        `ValueError`: if the runs were not measured on the same scans and reports.
    """
    models = {name: results["model"] for name, results in runs.items()}
    measured = {name: model.get("scans") for name, model in models.items()}
    if len(set(measured.values())) > 1:
        told = ", ".join(f"{name}: {scans}" for name, scans in measured.items())
        raise ValueError(
            f"The runs were measured on other scans or reports ({told}), so their numbers do not compare. Measure "
            "them on the same split, with the same `target`."
        )
    lines = [["", "options", "Top-1", "MRR", "Top-1 by PMI", "Top-1, text alone"]]
    for difficulty in ("random", "hard"):
        matchings = {
            name: model["matching"][difficulty] for name, model in models.items() if difficulty in model["matching"]
        }
        for name, scores in matchings.items():
            cells = [format_number(scores, key) for key in ("top1", "mrr", "top1_pmi", "top1_text_only")]
            lines.append([name, f"{difficulty}, 1 of {scores['num_options']}", *cells])
        for scores in list(matchings.values())[:1]:
            chance = [f"{scores[f'{key}_chance']:.3f}" for key in ("top1", "mrr", "top1", "top1")]
            lines.append(["chance", f"{difficulty}, 1 of {scores['num_options']}", *chance])
    return lines


def format_retrieval(model: Mapping) -> str:
    """Retrieval and zero-shot labels of the row `model` of `results.json`, as Markdown."""
    of_retrieval, zero_shot = model["retrieval"], model["zero_shot"]
    lines = [f"| retrieval among {of_retrieval['n']} |" + "".join(f" Recall@{k} | chance |" for k in RECALLS)]
    lines.append("| --- |" + " ---: | ---: |" * len(RECALLS))
    for direction, title in (("image_to_text", "scan -> report"), ("text_to_image", "report -> scan")):
        scores = of_retrieval[direction]
        cells = "".join(
            f" {format_number(scores, f'recall_at_{k}')} | {scores[f'chance_at_{k}']:.3f} |" for k in RECALLS
        )
        lines.append(f"| {title} |{cells}")
    lines += ["", "| zero-shot label | positives | AUROC |", "| --- | ---: | ---: |"]
    for name, scores in zero_shot["per_label"].items():
        lines.append(f"| {name} | {scores['support']} | {format_number(scores, 'auroc')} |")
    lines.append(f"| **mean** | | {format_number(zero_shot, 'auroc_macro')} |")
    return "\n".join(lines) + "\n"
