"""The task `errors`: which statement of a report is wrong? A model tells by likelihood, or by its answer."""

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
from ct_rate_pairs.eval.rows import first_volumes, references_of, volume_names, without_slices
from ct_rate_pairs.eval.tables import format_number, write_table
from ct_rate_pairs.random_streams import Purpose, draw_rng
from ct_rate_pairs.readable_rows import is_readable
from ct_rate_pairs.readers import reader_of
from ct_rate_pairs.reports.flips import FlippedReport, collect_statements, flip_report, labels_of
from ct_rate_pairs.reports.texts import text_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import evaluating

from .settings import TaskSettings
from .text_only import score_statements


NUM_OTHERS = 4  # other volumes that are averaged over in the place of an unknown scan


def tokens_of_statements(
    tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor, report: FlippedReport
) -> np.ndarray:
    """Place of the statement that each token of the report, `[T]`, belongs to, int `[T]`; -1 outside statements."""
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
    Makes one statement of each report of a split wrong, as the rows of `task="errors"` have it with the same seed.

    Returns:
        `tuple`: the indices of the reports that have at least two statements, and these reports with one wrong
        statement each.
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
    Finds the wrong statement by the loss of its words, for a model that writes reports.

    Each rule scores every statement, and the statement with the highest score is chosen as wrong. The rules are:

    - `gap_noise`: \\(-\log p(s \mid volume) + \log p(s \mid noise)\\), summed over the tokens of statement `s` in
      its place in the report. The difference tells how much the scan contradicts the statement: a rare statement
      has a high loss under both volumes. This rule is the headline.
    - `gap_blank`: the same with air in every voxel instead of noise.
    - `gap_others`: the same with \\(\frac{1}{M} \sum_m p(s \mid v_m)\\) over the volumes \\(v_m\\) of `NUM_OTHERS`
      other patients. Unlike noise and air, these are images such as the model was trained on.
    - `loss`, `loss_mean`: the loss given the volume, summed over the tokens, and its mean per token.
    - `noise`, `blank`, `others`: the summed loss given only noise, air or other volumes. These rules are baselines
      that never look at the scan.
    - `text_only`: TF-IDF and logistic regression, see [`~ct_rate_pairs.eval.tasks.text_only.score_statements`].

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is in evaluation mode during the call; its former mode is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            All rows of a held-out split of `task="report"`. Wrong statements come from sentences of these reports.
        train_volumes (`Sequence[str]`), train_reports (`Sequence[str]`):
            Names and reports of the training split, for `text_only`.
        num_scans (`int`, *optional*):
            Number of scans to measure on, from the first on; all by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the errors and of the noise.
        batch_size (`int`, *optional*, defaults to `8`):
            Reports per forward pass.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. By default no intervals are computed.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: see [`detection_scores`].

    Raises:
        `ValueError`: if no report has two statements to choose from.
        `TooFewScansError`: if one patient has more than half of the reports with two statements.
    """
    of_rows = [text_of(row["completion"][-1]) for row in without_slices(rows)]
    named = volume_names(rows)
    kept, reports = flip_reports(named, of_rows, seed)
    # With `on_error="skip"`, rows that cannot be read are left out.
    looked_at = [place for place in kept if place < (num_scans or len(named)) and is_readable(rows[place])]
    reports = [report for place, report in zip(kept, reports, strict=True) if place in looked_at]
    scans = rows.select(looked_at) if isinstance(rows, Dataset) else [rows[place] for place in looked_at]
    volumes = volume_names(scans)
    partners = [derange_by_patient(volumes, seed + draw) for draw in range(NUM_OTHERS)] if looked_at else []
    with evaluating(model):
        given: dict[str, list[np.ndarray]] = defaultdict(list)  # losses of the statements of each report, in nats
        lengths = []  # numbers of tokens of these statements
        with tqdm(total=len(reports), desc="Detecting errors", unit="report", disable=not progress) as bar:
            for numbered in batched(enumerate(scans), batch_size):
                texts = [
                    row
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
        """Applies `change` to the losses under the named volumes, report by report."""
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
    """The place of the wrong statement in each report, and the kind of its error."""
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
    Finds the wrong statement by the likelihood of each number as the answer, for a model trained on `task="errors"`.

    The rules are `answer`, the likelihood given the volume; `blank`, the likelihood given air instead of the volume;
    `text_only`, see [`detect_by_likelihood`]; and `most_common`, the frequency of each number as the answer in the
    training split.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is in evaluation mode during the call; its former mode is restored afterwards.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            Rows of `task="errors"`: a held-out split, and the training split. No volume of `train` is read.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. By default no intervals are computed.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Returns:
        `dict`: see [`detection_scores`]. Reports whose volume cannot be read are left out.
    """
    known = train.with_format(None).select_columns(["statements", "wrong"])
    with evaluating(model):
        places, scores = [], {"answer": [], "blank": []}
        for place, row in enumerate(tqdm(rows, desc="Asking", unit="report", disable=not progress)):
            if not is_readable(row):
                continue
            places.append(place)
            answers = [
                {"role": "assistant", "content": str(number)} for number in range(1, len(row["statements"]) + 1)
            ]
            tokens = report_tokens(collator, [row | {"completion": [answer]} for answer in answers])
            for rule, images in (("answer", row["images"]), ("blank", blank_slices(row))):
                prompt = on_device(collator.prompts([row | {"images": images}]), model)
                scores[rule].append(-option_losses(model, prompt, tokens).cpu().numpy())
    index = without_slices(rows).select(places)
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
    Measures how well each rule finds the wrong statements.

    Args:
        scores (`dict[str, list[np.ndarray]]`):
            Maps each rule to the scores of each report's statements. A high score means wrong. The first rule is the
            headline.
        options (`Sequence[Sequence[str]]`), wrong (`Sequence[int]`), kinds (`Sequence[str]`):
            For each of `N` reports, its statements, the place of the wrong statement among them, and the kind of
            error.
        volumes (`Sequence[str]`):
            VolumeNames of the reports; they name the patients to resample.
        ci (`float`, *optional*):
            Level of the bootstrap intervals by patient. `None` for no intervals.

    Returns:
        `dict`: ready for `json.dump`, with these keys:

        - `rules`: maps each rule to its scores, and with `ci` to their intervals. `auroc` counts only pairs of a wrong
          and a right statement that both state, or both deny, the same label, in reports with equal numbers of
          statements; so the text alone cannot tell the two apart. `auroc_all` counts all pairs. `top1` is the share of
          reports whose wrong statement has the highest score.
        - `chance`: the same scores for guessing.
        - `headline`: the first rule.
        - `kinds`: maps each kind of error to its number `n` and the `top1` of each rule.
        - `n`, `statements`: the numbers of reports and of statements.

    Raises:
        `ValueError`: if there is no report.
    """
    if not options:
        raise ValueError("No report has two statements to choose from: pass more scans.")
    patients = patient_ids(volumes, len(options))
    of_report = np.repeat(np.arange(len(options)), [len(said) for said in options])
    is_wrong = np.concatenate([np.arange(len(said)) == place for said, place in zip(options, wrong, strict=True)])
    # Wrong statements are more frequent in reports with few statements, so the number of statements matters too.
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
    AUROC over pairs of a wrong and a right statement with the same number in `like`; `None` if there is no such pair.

    The key of the area is `name`. With `ci`, the key `{name}_ci` holds its bootstrap interval by patient. All arrays
    have the shape `[S]`.
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
            The model and its collator.
        rows ([`~datasets.Dataset`]), train ([`~datasets.Dataset`]):
            A held-out split, and the training split. If `settings.answers` is `"texts"`, these are rows of
            `task="report"`, for [`detect_by_likelihood`]; otherwise rows of `task="errors"`, for
            [`detect_by_answer`]. No volume of `train` is read.
        out (`str` or `Path`):
            Folder to write to.
        settings ([`~ct_rate_pairs.eval.tasks.settings.TaskSettings`]):
            How much is measured, and how.

    Returns:
        `dict`: see [`detection_scores`].
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
    """One line per rule and a line for chance, for [`~ct_rate_pairs.eval.tables.write_markdown`]."""
    kinds = result["kinds"]
    told = f"{result['n']} reports, {result['statements']} statements"
    titles = [f"Top-1, {kind} (n = {of['n']})" for kind, of in kinds.items()]
    lines = [[told, "AUROC", "AUROC, all", "Top-1", *titles]]
    for rule, numbers in (result["rules"] | {"chance": result["chance"]}).items():
        by_kind = [f"{of['top1'][rule]:.3f}" if rule in of["top1"] else "" for of in kinds.values()]
        lines.append([rule, *(format_number(numbers, key) for key in ("auroc", "auroc_all", "top1")), *by_kind])
    return lines
