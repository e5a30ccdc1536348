"""Report error detection: which statement of a flipped report does not fit the scan? By likelihood, or by answer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.looking.likelihood import on_device, option_losses, report_tokens, token_losses
from ct_rate_pairs.eval.looking.other_volumes import blank_slices, derange_by_patient, fit_slices, noise_slices
from ct_rate_pairs.eval.metrics.bootstrap import estimate, interval, known, patient_ids, resample
from ct_rate_pairs.eval.metrics.ranking import auroc
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.rows import check_volume, first_volumes, references_of, volume_names
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.reports.flips import FlippedReport, collect_statements, flip_report, labels_of
from ct_rate_pairs.rows import reader_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import evaluating

from .settings import TaskSettings
from .text_only import score_statements


NUM_OTHERS = 4  # volumes that stand for a scan that is not known


def tokens_of_statements(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor, report: FlippedReport
) -> np.ndarray:
    """Which statement of the report each of its tokens, `[T]`, is of, int `[T]`; -1 for those of none."""
    ends = [len(tokenizer.decode(tokens[: i + 1], clean_up_tokenization_spaces=False)) for i in range(len(tokens))]
    decoded = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    shift = decoded.find(report.text)
    if shift < 0:
        raise ValueError(
            f"The tokenizer does not give back the report {report.text[:60]!r}..., but {decoded[:60]!r}..."
        )
    places = np.full(len(tokens), -1)
    for token, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        first = start + len(decoded[start:end]) - len(decoded[start:end].lstrip()) - shift
        for place, (begin, stop) in enumerate(report.statements):
            if begin <= first < stop:
                places[token] = place
    return places


def flip_reports(
    volumes: Sequence[str], reports: Sequence[str], seed: int = 0
) -> tuple[list[int], list[FlippedReport]]:
    """
    Makes one statement of each report of a split wrong, the same as in its rows of `task="errors"` with that seed.

    Returns:
        `tuple`: the places of the reports that have two statements to choose from, and what was made of them.
    """
    statements = collect_statements(reports)
    flipped = [
        flip_report(report, statements, draw_rng(seed, 0, volume, Purpose.ERRORS))
        for volume, report in zip(volumes, reports, strict=True)
    ]
    kept = [place for place, report in enumerate(flipped) if report]
    return kept, [flipped[place] for place in kept]


@torch.no_grad()
def detect_by_likelihood(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    train_volumes: Sequence[str],
    train_reports: Sequence[str],
    *,
    num_scans: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
    ci: float | None = None,
    progress: bool = True,
) -> dict:
    r"""
    Looks for the wrong statement by the loss of its words, for a model that writes reports.

    The ways of scoring a statement (`rules`), the highest being the wrong one:

    - `gap_noise`: \\(-\log p(s \mid volume) + \log p(s \mid noise)\\), summed over the tokens of the statement `s` in
      the place where it stands: how much the scan speaks against it, beside what speaks against it anyway, such as
      its being rare. It is the headline.
    - `gap_blank`: the same against air in every voxel.
    - `gap_others`: the same against \\(\frac{1}{M} \sum_m p(s \mid v_m)\\), with the volumes \\(v_m\\) of
      `NUM_OTHERS` other patients: nothing that the model has never seen.
    - `loss`, `loss_mean`: the loss given the volume alone, summed and by token.
    - `noise`, `blank`, `others`: the loss given these alone, summed: the baselines, which never look.
    - `text_only`: TF-IDF and logistic regression, see [`~ct_rate_pairs.eval.tasks.text_only.score_statements`].

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            All rows of a held-out split of `task="report"`: wrong statements are made of their reports' sentences.
        train_volumes (`Sequence[str]`), train_reports (`Sequence[str]`):
            Names and reports of the training split, for `text_only`.
        num_scans (`int`, *optional*):
            How many scans are looked at, the first ones; all by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the errors and of the noise.
        batch_size (`int`, *optional*, defaults to `8`):
            Reports a forward pass.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: as of [`detection_scores`].

    Raises:
        `ValueError`: if no report has two statements to choose from.
        `TooFewScansError`: if one patient has more than half of those that have.
    """
    index = rows.with_format(None) if isinstance(rows, Dataset) else rows
    of_rows = [row["completion"][-1]["content"] for row in index]
    named = volume_names(rows)
    kept, reports = flip_reports(named, of_rows, seed)
    # Of a volume that cannot be read, `on_error="skip"` puts another one in its place.
    looked_at = [
        place for place in kept if place < (num_scans or len(named)) and rows[place]["volume"] == named[place]
    ]
    reports = [report for place, report in zip(kept, reports, strict=True) if place in looked_at]
    scans = rows.select(looked_at) if isinstance(rows, Dataset) else [rows[place] for place in looked_at]
    volumes = volume_names(scans)
    partners = [derange_by_patient(volumes, seed + draw) for draw in range(NUM_OTHERS)] if looked_at else []
    with evaluating(model):
        given: dict[str, list[np.ndarray]] = defaultdict(list)  # of each report, the loss of its statements in nats
        lengths = []  # and their numbers of tokens
        with tqdm(total=len(reports), desc="Detecting errors", unit="report", disable=not progress) as bar:
            for numbered in batched(enumerate(scans), batch_size):
                texts = [
                    check_volume(row, volumes[place])
                    | {"negative_images": [], "completion": [{"role": "assistant", "content": reports[place].text}]}
                    for place, row in numbered
                ]
                batch = collator(texts)
                del batch["volumes"]
                batch = on_device(batch, model)
                places = [
                    tokens_of_statements(collator.processor.tokenizer, ids[scored != -100], reports[place])
                    for ids, scored, (place, _) in zip(batch["input_ids"], batch["labels"], numbered, strict=True)
                ]
                lengths += [np.bincount(place[place >= 0]) for place in places]
                shown = {
                    "own": texts,
                    "noise": [row | {"images": noise_slices(row, seed)} for row in texts],
                    "blank": [row | {"images": blank_slices(row)} for row in texts],
                } | {
                    f"other{draw}": [
                        row | {"images": fit_slices(scans[of[place]], like=row)}
                        for row, (place, _) in zip(texts, numbered, strict=True)
                    ]
                    for draw, of in enumerate(partners)
                }
                for name, swapped in shown.items():
                    # Text, grid and positions are the same under all volumes of a report.
                    pixels = collator.prompts(swapped)[collator.pixels].to(model.device)
                    losses = token_losses(model, batch | {collator.pixels: pixels})
                    given[name] += [
                        np.bincount(place[place >= 0], of_tokens[place >= 0])
                        for place, of_tokens in zip(places, losses, strict=True)
                    ]
                bar.update(len(numbered))
    others = zip(*(given[f"other{draw}"] for draw in range(len(partners))), strict=True)
    # The mean is over probabilities, as in `marginal_losses`.
    given["others"] = [np.log(len(losses)) - np.logaddexp.reduce(-np.array(losses)) for losses in others]

    def per_report(change, *names: str) -> list[np.ndarray]:
        return [change(*losses) for losses in zip(*(given[name] for name in names), strict=True)]

    gaps = {f"gap_{name}": per_report(np.subtract, "own", name) for name in ("noise", "blank", "others")}
    means = [loss / length for loss, length in zip(given["own"], lengths, strict=True)]
    alone = {name: given[name] for name in ("noise", "blank", "others")}
    _, fitted = flip_reports(train_volumes, train_reports, seed)
    options, wrong, kinds = [report.options for report in reports], *_columns(reports)
    alone["text_only"] = score_statements([report.options for report in fitted], _columns(fitted)[0], options)
    scores = {**gaps, "loss": given["own"], "loss_mean": means, **alone}
    return detection_scores(scores, options, wrong, kinds, volumes, ci)


def _columns(reports: Sequence[FlippedReport]) -> tuple[list[int], list[str]]:
    return [report.wrong for report in reports], [report.kind for report in reports]


@torch.no_grad()
def detect_by_answer(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    *,
    ci: float | None = None,
    progress: bool = True,
) -> dict:
    """
    Asks which statement is wrong, for a model trained on it: how likely is each number as the answer?

    The rules are `answer`, given the volume; `blank`, given air in its place; `text_only`, as of
    [`detect_by_likelihood`]; and `most_common`, which takes each number for as likely as it is the answer in the
    training split.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="errors"` of a held-out split, and of the training split. Of `train` no volume is read.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: as of [`detection_scores`], of the reports whose volume could be read (of the others, `on_error="skip"`
        puts another volume in their place).
    """
    index, known = rows.with_format(None), train.with_format(None).select_columns(["statements", "wrong"])
    with evaluating(model):
        places, scores = [], {"answer": [], "blank": []}
        for place, row in enumerate(tqdm(rows, desc="Asking", unit="report", disable=not progress)):
            if row["volume"] != index[place]["volume"]:
                continue
            places.append(place)
            answers = [
                {"role": "assistant", "content": str(number)} for number in range(1, len(row["statements"]) + 1)
            ]
            tokens = report_tokens(collator, [row | {"completion": [answer]} for answer in answers])
            for rule, images in (("answer", row["images"]), ("blank", blank_slices(row))):
                prompt = on_device(collator.prompts([row | {"images": images}]), model)
                scores[rule].append(-option_losses(model, prompt, tokens).cpu().numpy())
    index = index.select(places)
    options = list(index["statements"])
    common = np.bincount(known["wrong"][:], minlength=max(map(len, options), default=0)).astype(float)
    scores["text_only"] = score_statements(known["statements"][:], known["wrong"][:], options)
    scores["most_common"] = [common[: len(said)] for said in options]
    return detection_scores(scores, options, index["wrong"][:], index["error"][:], index["volume"][:], ci)


def detection_scores(
    scores: dict[str, list[np.ndarray]],
    options: Sequence[Sequence[str]],
    wrong: Sequence[int],
    kinds: Sequence[str],
    volumes: Sequence[str],
    ci: float | None,
) -> dict:
    """
    How well each rule tells the wrong statements.

    Args:
        scores (`dict[str, list[np.ndarray]]`):
            For each rule the scores of each report's options, high for wrong; the first rule is the headline.
        options (`Sequence[Sequence[str]]`), wrong (`Sequence[int]`), kinds (`Sequence[str]`):
            The statements of the `N` reports, the place of the wrong one among them, and the kind of its error.
        volumes (`Sequence[str]`):
            Their VolumeNames, from which the intervals take the patients.
        ci (`float`, *optional*):
            Level of bootstrap intervals by patient; without it there are none.

    Returns:
        `dict`: `rules`, for each rule `auroc`, `auroc_all`, `top1` and with `ci` their intervals; `chance`, the same
        of guessing; `headline`, the first rule; `kinds`, for each kind of error its number `n` and the `top1` of each
        rule; `n`, the number of reports, and `statements`, that of their options. `auroc` is over pairs of a wrong and
        a right statement that both state, or both deny, the same label, among as many options: what is said cannot
        tell them apart. `auroc_all` is over all pairs. `top1` is the share of reports whose wrong statement has the
        highest score. Ready for `json.dump`.

    Raises:
        `ValueError`: if there is no report.
    """
    if not options:
        raise ValueError("No report has two statements to choose from: pass more scans.")
    patients = patient_ids(volumes, len(options))
    of_report = np.repeat(np.arange(len(options)), [len(said) for said in options])
    is_wrong = np.concatenate([np.arange(len(said)) == place for said, place in zip(options, wrong, strict=True)])
    # A wrong statement has fewer others beside it, so their number would tell too.
    kinds_of = [f"{labels_of(sentence)} of {len(said)}" for said in options for sentence in said]
    _, like = np.unique(kinds_of, return_inverse=True)
    rules, hits = {}, {}
    for rule, values in scores.items():
        hits[rule] = np.array([value.argmax() == place for value, place in zip(values, wrong, strict=True)])
        flat = np.concatenate(values)
        statistics = {"hits": hits[rule].astype(float), "reports": np.ones(len(options))}
        rules[rule] = {
            **like_auroc("auroc", flat, is_wrong, like, patients[of_report], ci),
            **like_auroc("auroc_all", flat, is_wrong, np.zeros_like(like), patients[of_report], ci),
            **estimate(statistics, lambda sums: {"top1": sums["hits"] / sums["reports"]}, volumes, ci),
        }
    by_kind = {}
    for kind in sorted(set(kinds)):
        chosen = np.array(kinds) == kind
        by_kind[kind] = {"n": int(chosen.sum()), "top1": {rule: float(of[chosen].mean()) for rule, of in hits.items()}}
    guess = float(np.mean([1 / len(said) for said in options]))
    return {
        "rules": rules,
        "headline": next(iter(scores)),
        "chance": {"auroc": 0.5, "auroc_all": 0.5, "top1": guess},
        "kinds": by_kind,
        "n": len(options),
        "statements": len(like),
    }


def like_auroc(
    name: str, scores: np.ndarray, wrong: np.ndarray, like: np.ndarray, patients: np.ndarray, ci: float | None
) -> dict[str, float | list[float] | None]:
    """
    AUROC over pairs of a wrong and a right statement with the same number in `like`, as `NAME`, and with `ci` its
    bootstrap interval by patient, as `NAME_ci`; `None` where there is no such pair. All arrays have the shape `[S]`.
    """
    area = known(auroc(scores, wrong, groups=like))
    if ci is None:
        return {name: area}
    lone = patients.max() == 0
    draws = resample({"drawn": np.eye(patients.max() + 1)}, np.arange(patients.max() + 1))["drawn"]  # [R, P]
    drawn = auroc(scores, wrong, draws[:, patients], like)
    return {name: area, f"{name}_ci": None if lone or area is None else interval(drawn, ci)}


def evaluate_errors(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    train: Dataset,
    out: str | Path,
    settings: TaskSettings,
) -> dict:
    """
    Measures how well a model finds wrong statements, and writes `results.json` and `table.md`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and what feeds it.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            A held-out split and the training split, of which no volume is read: rows of `task="errors"` where the
            model is asked ([`detect_by_answer`]), of `task="report"` where `settings.answers` is `"texts"`
            ([`detect_by_likelihood`]).
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured, and how.

    Returns:
        `dict`: as of [`detection_scores`].
    """
    if settings.answers == "texts":
        volumes, reports, _ = references_of(train)
        sizes = {"num_scans": settings.max_samples or None, "batch_size": settings.batch_size}
        seed = reader_of(rows).config.seed
        result = detect_by_likelihood(model, collator, rows, volumes, reports, seed=seed, ci=settings.ci, **sizes)
    else:
        rows = first_volumes(rows, settings.max_samples) if settings.max_samples else rows
        result = detect_by_answer(model, collator, rows, train, ci=settings.ci)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_table(result | {"scans": fingerprint(rows)} | settings.told, detection_table(result), out)
    return result


def detection_table(result: Mapping) -> list[list[str]]:
    """A line a rule, and chance, for [`~ct_rate_pairs.eval.tables.write_markdown`]."""
    kinds = result["kinds"]
    told = f"{result['n']} reports, {result['statements']} statements"
    titles = [f"Top-1, {kind} (n = {of['n']})" for kind, of in kinds.items()]
    lines = [[told, "AUROC", "AUROC, all", "Top-1", *titles]]
    for rule, numbers in (result["rules"] | {"chance": result["chance"]}).items():
        by_kind = [f"{of['top1'][rule]:.3f}" if rule in of["top1"] else "" for of in kinds.values()]
        lines.append([rule, *(format_number(numbers, key) for key in ("auroc", "auroc_all", "top1")), *by_kind])
    return lines
