"""Report error detection: which statement of a flipped report does not fit the scan? By likelihood, or by answer."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ct_rate_pairs.eval.bootstrap import divide, estimate, interval, patient_ids, resample
from ct_rate_pairs.eval.generate import batched
from ct_rate_pairs.eval.loss_gap import (
    blank_slices,
    check_volume,
    derange_by_patient,
    fit_slices,
    noise_slices,
    volume_names,
)
from ct_rate_pairs.eval.report_flips import (
    FlippedReport,
    Statements,
    flip_reports,
    labels_of,
    option_order,
    with_errors,
)
from ct_rate_pairs.eval.report_matching import on_device, option_losses, report_tokens
from ct_rate_pairs.trainer import PairCollator


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


def token_losses(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Cross-entropy of each token of each answer of a collated batch, in nats; `B` arrays of `[T]`."""
    inputs = dict(batch)
    labels = inputs.pop("labels")
    # As in `report_losses`: only the logits that predict an answer.
    first = int((labels != -100).any(dim=0).nonzero()[0])
    labels = labels[:, first:]  # [B, K]
    logits = model(**inputs, logits_to_keep=labels.shape[1] + 1).logits[:, :-1]  # [B, K, V]
    losses = F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")  # [B, K]
    return [row[scored != -100].cpu().numpy() for row, scored in zip(losses, labels, strict=True)]


@torch.no_grad()
def detect_by_likelihood(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset | Sequence[dict],
    statements: Statements,
    *,
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

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to measure. It is put into evaluation mode and back.
        collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            Turns rows into batches.
        rows ([`~datasets.Dataset`] or `Sequence[dict]`):
            Rows of a held-out split.
        statements (`dict`):
            Of the training split, see [`collect_statements`].
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
    kept, reports = flip_reports(rows, statements, seed)
    scans = rows.select(kept) if isinstance(rows, Dataset) else [rows[place] for place in kept]
    volumes = volume_names(scans)
    partners = [derange_by_patient(volumes, seed + draw) for draw in range(NUM_OTHERS)] if kept else []
    was_training = model.training
    model.eval()
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
    model.train(was_training)
    others = zip(*(given[f"other{draw}"] for draw in range(len(partners))), strict=True)
    # The mean is over probabilities, as in `marginal_losses`.
    given["others"] = [np.log(len(losses)) - np.logaddexp.reduce(-np.array(losses)) for losses in others]

    def per_report(change, *names: str) -> list[np.ndarray]:
        return [change(*losses) for losses in zip(*(given[name] for name in names), strict=True)]

    gaps = {f"gap_{name}": per_report(np.subtract, "own", name) for name in ("noise", "blank", "others")}
    means = [loss / length for loss, length in zip(given["own"], lengths, strict=True)]
    alone = {name: given[name] for name in ("noise", "blank", "others")}
    return detection_scores({**gaps, "loss": given["own"], "loss_mean": means, **alone}, reports, volumes, ci)


@torch.no_grad()
def detect_by_answer(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Dataset,
    statements: Statements,
    *,
    seed: int = 0,
    language: str = "en",
    ci: float | None = None,
    progress: bool = True,
) -> dict:
    """
    Asks which statement is wrong, for a model trained on [`with_errors`]: how likely is each number as the answer?

    The rules are `answer`, given the volume, and `blank`, the baseline, given air in its place. Arguments, returns and
    errors as of [`detect_by_likelihood`]; `rows` must be map-style, `language` is that of the question.
    """
    _, reports = flip_reports(rows, statements, seed)
    asked = with_errors(rows, statements, seed=seed, language=language)
    volumes = volume_names(asked)
    was_training = model.training
    model.eval()
    scores = {"answer": [], "blank": []}
    for row, report, volume in zip(tqdm(asked, desc="Asking", disable=not progress), reports, volumes, strict=True):
        check_volume(row, volume)
        order = option_order(report, volume, seed)
        answers = [{"role": "assistant", "content": str(number)} for number in range(1, len(order) + 1)]
        tokens = report_tokens(collator, [row | {"completion": [answer]} for answer in answers])
        for rule, images in (("answer", row["images"]), ("blank", blank_slices(row))):
            prompt = on_device(collator.prompts([row | {"images": images}]), model)
            likely = -option_losses(model, prompt, tokens).cpu().numpy()
            scores[rule].append(likely[np.argsort(order)])  # back into the report's order
    model.train(was_training)
    return detection_scores(scores, reports, volumes, ci)


def detection_scores(
    scores: dict[str, list[np.ndarray]], reports: Sequence[FlippedReport], volumes: Sequence[str], ci: float | None
) -> dict:
    """
    How well each rule tells the wrong statements.

    Args:
        scores (`dict[str, list[np.ndarray]]`):
            For each rule the scores of each report's options, high for wrong; the first rule is the headline.
        reports (`Sequence[FlippedReport]`):
            The `N` reports.
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
    if not reports:
        raise ValueError("No report has two statements to choose from: pass more scans.")
    patients = patient_ids(volumes, len(reports))
    of_report = np.repeat(np.arange(len(reports)), [len(report.statements) for report in reports])
    wrong = np.concatenate([np.arange(len(report.statements)) == report.wrong for report in reports])
    options = [[report.text[start:end] for start, end in report.statements] for report in reports]
    # A wrong statement has fewer others beside it, so their number would tell too.
    kinds_of = [f"{labels_of(sentence)} of {len(said)}" for said in options for sentence in said]
    _, like = np.unique(kinds_of, return_inverse=True)
    rules, hits = {}, {}
    for rule, values in scores.items():
        hits[rule] = np.array([value.argmax() == report.wrong for value, report in zip(values, reports, strict=True)])
        flat = np.concatenate(values)
        statistics = {"hits": hits[rule].astype(float), "reports": np.ones(len(reports))}
        rules[rule] = {
            **auroc("auroc", flat, wrong, like, patients[of_report], ci),
            **auroc("auroc_all", flat, wrong, np.zeros_like(like), patients[of_report], ci),
            **estimate(statistics, lambda sums: {"top1": sums["hits"] / sums["reports"]}, volumes, ci),
        }
    kinds = {}
    for kind in sorted({report.kind for report in reports}):
        chosen = np.array([report.kind == kind for report in reports])
        kinds[kind] = {"n": int(chosen.sum()), "top1": {rule: float(of[chosen].mean()) for rule, of in hits.items()}}
    guess = float(np.mean([1 / len(report.statements) for report in reports]))
    return {
        "rules": rules,
        "headline": next(iter(scores)),
        "chance": {"auroc": 0.5, "auroc_all": 0.5, "top1": guess},
        "kinds": kinds,
        "n": len(reports),
        "statements": len(like),
    }


def auroc(
    name: str, scores: np.ndarray, wrong: np.ndarray, like: np.ndarray, patients: np.ndarray, ci: float | None
) -> dict[str, float | list[float] | None]:
    """
    Area under the ROC curve: the share of pairs of a wrong and a right statement in which the wrong one scores higher,
    a tie counting half. Only pairs with the same number in `like` count.

    Args:
        name (`str`):
            Key of the number; its interval is `NAME_ci`.
        scores (`np.ndarray` of shape `[S]`), wrong (bool `[S]`), like (int `[S]`), patients (int `[S]`):
            The statements: score, whether wrong, group, and number of the patient.
        ci (`float`, *optional*):
            Level of the bootstrap interval by patient.

    Returns:
        `dict`: the number and its interval; `None` where there is no such pair.
    """
    size = patients.max() + 1
    # By the patients of the two statements: pairs, and those in which the wrong one scores higher, [P, P] each.
    pairs, won = np.zeros((size, size)), np.zeros((size, size))
    for place in np.flatnonzero(wrong):
        right = ~wrong & (like == like[place])
        higher = (scores[place] > scores[right]) + (scores[place] == scores[right]) / 2
        pairs[patients[place]] += np.bincount(patients[right], minlength=size)
        won[patients[place]] += np.bincount(patients[right], higher, minlength=size)
    value = {name: float(won.sum() / pairs.sum()) if pairs.any() else None}
    if ci is None:
        return value
    draws = resample({"draws": np.eye(size)}, np.arange(size))["draws"]  # how often each patient is drawn, [R, P]
    counted, above = (((draws @ table) * draws).sum(axis=1) for table in (pairs, won))
    return value | {f"{name}_ci": interval(divide(above, counted), ci) if size > 1 and pairs.any() else None}


def format_detection(result: dict) -> str:
    """The terminal table of a [`detection_scores`]: a line a rule, and chance."""
    columns = {"AUROC": "auroc", "AUROC, all": "auroc_all", "Top-1": "top1"}
    kinds = result["kinds"]
    lines = [f"{'':<12}" + "".join(f"{title:>22}" for title in columns) + "".join(f"{kind:>9}" for kind in kinds)]
    for rule, numbers in (result["rules"] | {"chance": result["chance"]}).items():
        cells = []
        for key in columns.values():
            bounds = numbers.get(f"{key}_ci")
            told = "-" if numbers[key] is None else f"{numbers[key]:.3f}"
            cells.append(told + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""))
        by_kind = [f"{of['top1'][rule]:.3f}" if rule in of["top1"] else "" for of in kinds.values()]
        lines.append(
            f"{rule:<12}" + "".join(f"{cell:>22}" for cell in cells) + "".join(f"{cell:>9}" for cell in by_kind)
        )
    told = ", ".join(f"{kind} {of['n']}" for kind, of in kinds.items())
    lines.append(f"{result['n']} reports, {result['statements']} statements; errors: {told}")
    return "\n".join(lines)
