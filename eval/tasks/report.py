"""
Measures generated reports of held-out scans, and writes `results.json`, a table and figures. With the model, measures
also whether it looks at the scan.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ct_rate_pairs.eval.figures.evaluation import plot_calibration, plot_gaps, plot_labels, plot_operating_curve
from ct_rate_pairs.eval.figures.report_sheet import plot_reports
from ct_rate_pairs.eval.generate import batched, write_reports
from ct_rate_pairs.eval.looking.label_head import label_head_scores
from ct_rate_pairs.eval.looking.loss_gap import loss_gap
from ct_rate_pairs.eval.looking.other_volumes import VOLUMES, TooFewScansError, shuffle_volumes, suffix_of
from ct_rate_pairs.eval.looking.report_matching import report_matching
from ct_rate_pairs.eval.metrics.calibration import calibration_error
from ct_rate_pairs.eval.metrics.diversity import report_diversity
from ct_rate_pairs.eval.predictions.predict import predict
from ct_rate_pairs.eval.predictions.provenance import fingerprint
from ct_rate_pairs.eval.predictions.store import count_cut, write_challenge_file
from ct_rate_pairs.eval.rows import references_of, select_volumes
from ct_rate_pairs.eval.scoring.baselines import trivial_reports
from ct_rate_pairs.eval.scoring.comparison import compare_reports
from ct_rate_pairs.eval.scoring.findings_lines import (
    score_following,
    score_line_sides,
    score_lines,
    score_probabilities,
)
from ct_rate_pairs.eval.scoring.labelers import label_predictions
from ct_rate_pairs.eval.scoring.lesion_size import nodule_coverage_by_size
from ct_rate_pairs.eval.scoring.operating_points import LineCalibration, OperatingPoint
from ct_rate_pairs.eval.scoring.places import read_places, score_common_places
from ct_rate_pairs.eval.scoring.scores import score_reports
from ct_rate_pairs.eval.tables import (
    format_intervals,
    format_label_head,
    format_lines,
    format_looking,
    format_places,
    format_prompt_only,
    format_table,
)
from ct_rate_pairs.readers import has_reader, reader_of
from ct_rate_pairs.trainer import PairCollator
from ct_rate_pairs.trainer.generation import Written, cut_warning, evaluating
from ct_rate_pairs.trainer.label_head import LabelHead
from ct_rate_pairs.trainer.row_settings import has_findings_line
from ct_rate_pairs.whole_files import write_whole

from .prompt_only import score_prompts


def score_predictions(
    predictions: dict[str, str],
    scans: Dataset,
    train_reports: Sequence[str],
    train_labels: np.ndarray,
    *,
    lines: Mapping[str, str] | None = None,
    line_logits: Mapping[str, Sequence[float]] | None = None,
    line_calibration: LineCalibration | None = None,
    operating_point: str | None = None,
    **options,
) -> dict[str, dict]:
    """
    Scores generated reports and, for comparison, trivial reports (paper, section 7.4). No volume is read.

    Args:
        predictions (`dict[str, str]`):
            Maps each VolumeName to its generated report.
        scans ([`~datasets.Dataset`]):
            Rows of the split that holds these volumes, with reference reports and labels.
        train_reports (`Sequence[str]`), train_labels (`np.ndarray` of shape `[N, 18]`):
            Reports and labels of the training split, from which the trivial reports are composed.
        lines (`Mapping[str, str]`, *optional*):
            Maps a VolumeName to the findings line that the model wrote before its report, see
            [`~ct_rate_pairs.eval.predictions.store.read_lines`].
        line_logits (`Mapping[str, Sequence[float]]`, *optional*), line_calibration (`LineCalibration`, *optional*):
            Log-odds of the labels in these lines, and their calibration, see
            [`~ct_rate_pairs.eval.scoring.findings_lines.score_probabilities`].
        operating_point (`str`, *optional*):
            What has set the lines, if the model has not chosen them.
        options:
            `ci`, `labeler`, `recipe`, `meteor` and `bertscore_model` of [`~ct_rate_pairs.eval.score_reports`].

    Returns:
        `dict[str, dict]`: metrics under `model`, `all_negative`, `most_common` and `all_positive`; and if the prompts
        tell something of the patient, under `prompt_only` the numbers of
        [`~ct_rate_pairs.eval.tasks.prompt_only.score_prompts`]. Each entry holds `scans`, the [`fingerprint`] of scans
        and references: only numbers with the same fingerprint can be compared. If the true labels are those that the
        rule labeler reads from the references, it holds `labels: "rules"`. `model` also holds `unique_report_ratio`,
        `most_common_report_share`, both numbers for the references (`reference_...`), `nodule_coverage_by_size`, the
        numbers of [`~ct_rate_pairs.eval.scoring.places.score_common_places`], and where there are findings lines, or
        the rows have some, the numbers of [`~ct_rate_pairs.eval.scoring.findings_lines.score_lines`], for sides of
        [`~ct_rate_pairs.eval.scoring.findings_lines.score_line_sides`], and for their log-odds of
        [`~ct_rate_pairs.eval.scoring.findings_lines.score_probabilities`]. If the lines were set, also
        `operating_point` and the numbers of [`~ct_rate_pairs.eval.scoring.findings_lines.score_following`].

    Raises:
        `KeyError`: if a volume is not in the split.
    """
    # In the order of the split, so that equal sets of scans have equal fingerprints.
    scans = select_volumes(scans, predictions)
    volumes, references, labels = references_of(scans)
    generated = [predictions[volume] for volume in volumes]
    measured = fingerprint(scans)

    origin = {"labels": "rules"} if has_reader(scans) and reader_of(scans).source.labels_from == "rules" else {}

    def score(reports: Sequence[str]) -> dict:
        """Scores of one report per scan, and the fingerprint of the scans."""
        return score_reports(reports, references, labels, volumes=volumes, **options) | {"scans": measured} | origin

    model = score(generated) | report_diversity(generated)
    model |= {f"reference_{name}": value for name, value in report_diversity(references).items() if name != "n"}
    stated, _ = label_predictions(generated, options.get("labeler", "rules"))
    model["nodule_coverage_by_size"] = nodule_coverage_by_size(stated, labels, references)
    places = list(map(read_places, (generated, references, train_reports)))
    model |= score_common_places(*places)
    if lines or has_findings_line(scans):
        model |= score_lines(lines or {}, volumes, stated, labels, ci=options.get("ci"))
        model |= score_line_sides(lines or {}, volumes, *places, ci=options.get("ci"))
        if line_logits:
            model |= score_probabilities(line_logits, volumes, labels, np.asarray(train_labels), line_calibration)
    if operating_point is not None:
        model |= {"operating_point": operating_point, **score_following(lines or {}, volumes, stated)}
    rows = {"model": model}
    if has_reader(scans) and (prompts := score_prompts(scans, options.get("ci"))):
        rows["prompt_only"] = prompts | {"scans": measured} | origin
    return rows | {
        name: score([report] * len(volumes)) for name, report in trivial_reports(train_reports, train_labels).items()
    }


def measure_looking(
    model: PreTrainedModel,
    collator: PairCollator,
    scans: Dataset,
    *,
    batch_size: int = 8,
    max_new_tokens: int = 1200,
    ci: float | None = None,
    seed: int = 0,
    operating_point: OperatingPoint | None = None,
) -> tuple[dict, dict[str, Written]]:
    """
    Measures whether reports depend on the scan: loss gaps, report matching, and reports for shuffled volumes.

    The first result is `{"gaps": ..., "matching": {"random": ..., "hard": ...}}`, from [`loss_gap`] and
    [`report_matching`]. The second maps each VolumeName to the report that the model writes for the volume of another
    patient, at `operating_point`. A measurement for which there are too few scans is left out, with a printed notice.
    """
    kinds = ["negative"] * bool(scans[0]["negative_images"]) + ["noise", "shuffled", "blank"]
    looking, swapped = {}, {}
    try:
        looking["gaps"] = loss_gap(model, collator, scans, volumes=kinds, batch_size=batch_size, ci=ci, seed=seed)
        others = shuffle_volumes(scans, seed)
        options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "with_line": has_findings_line(scans)}
        reports = write_at(model, collator, others, operating_point, **options)
        swapped = dict(zip(scans.with_format(None)["volume"], reports, strict=True))
    except TooFewScansError as error:
        print(f"Neither loss gaps nor a row `shuffled`: {error}")
    for difficulty in ("random", "hard"):
        try:
            matching = report_matching(model, collator, scans, difficulty=difficulty, ci=ci, seed=seed)
        except TooFewScansError as error:
            print(f"No {difficulty} report matching: {error}")
        else:
            looking.setdefault("matching", {})[difficulty] = matching
    return looking, swapped


def write_at(
    model: PreTrainedModel,
    collator: PairCollator,
    rows: Iterable[dict],
    operating_point: OperatingPoint | None,
    *,
    batch_size: int,
    max_new_tokens: int,
    with_line: bool,
) -> list[Written]:
    """Reports of rows, as [`write_reports`] writes them, below the findings lines that an operating point sets."""
    options = {"max_new_tokens": max_new_tokens, "with_line": with_line}
    if operating_point is None:
        return write_reports(model, collator, rows, batch_size=batch_size, **options)
    written: list[Written] = []
    with evaluating(model), tqdm(desc="Writing reports", unit="scan") as bar:
        for batch in batched(rows, batch_size):
            predictions = predict(model, collator, batch, operating_point=operating_point, **options)
            written += [prediction.written for prediction in predictions]
            bar.update(len(batch))
    return written


def evaluate_model(
    model: PreTrainedModel,
    collator: PairCollator,
    predictions: dict[str, str],
    scans: Dataset,
    out: str | Path,
    *,
    looking_scans: int = 200,
    batch_size: int = 8,
    max_new_tokens: int = 1200,
    seed: int = 0,
    cut: Mapping[str, bool] | None = None,
    operating_point: OperatingPoint | None = None,
    label_head: LabelHead | None = None,
    **score,
) -> dict[str, dict]:
    """
    Measures the reports that a model has written, and whether the model looks at the scan. Writes results to `out`.

    Args:
        model ([`~transformers.PreTrainedModel`]), collator ([`~ct_rate_pairs.trainer.PairCollator`]):
            The model and its collator.
        predictions (`dict[str, str]`):
            Maps each VolumeName to the model's report.
        scans ([`~datasets.Dataset`]):
            Rows of the split that holds these volumes.
        out (`str` or `Path`):
            Folder to write to, see [`write_results`].
        looking_scans (`int`, *optional*, defaults to `200`):
            How many of the scans, from the first on, [`measure_looking`] gets; 0 to skip this measurement.
        batch_size (`int`, *optional*, defaults to `8`):
            Scans per batch.
        max_new_tokens (`int`, *optional*, defaults to `1200`):
            Maximum length of a report in tokens.
        seed (`int`, *optional*, defaults to `0`):
            Seed of [`measure_looking`].
        cut (`Mapping[str, bool]`, *optional*):
            Whether the report of a volume is cut, see [`~ct_rate_pairs.eval.predictions.store.read_cut`].
        operating_point ([`~ct_rate_pairs.eval.scoring.operating_points.OperatingPoint`], *optional*):
            What has set the findings lines of the reports. It sets those of the row `shuffled`, too.
        label_head ([`~ct_rate_pairs.trainer.label_head.LabelHead`], *optional*):
            The head that the model was trained with, whose probabilities are measured, too.
        score:
            `train_reports`, `train_labels`, `lines`, `line_logits`, `line_calibration` and the options of
            [`score_predictions`].

    Returns:
        `dict[str, dict]`: the contents of `results.json`: the entries of [`score_predictions`]; `shuffled`, the scores
        of reports that the model writes for the volumes of other patients, on the first `looking_scans` scans; and if
        these are not all scans, `unshuffled`, the scores of the model's own reports on the same scans.
    """
    score["operating_point"] = operating_point and operating_point.name
    results = score_predictions(predictions, scans, **score)
    if cut is not None and (unknown := [volume for volume in predictions if volume not in cut]):
        print(
            f"Of {len(unknown)} reports, which an earlier release has written, it is not known whether they are cut."
        )
    cut = cut or {}
    results["model"] |= count_cut(cut, predictions) | {"max_new_tokens": max_new_tokens}
    # A volume that cannot be read has no prediction, so it is left out here too.
    readable = select_volumes(scans, predictions)
    if label_head is not None:
        prevalence = {"train_labels": score["train_labels"], "batch_size": batch_size}
        results["model"] |= label_head_scores(model, label_head, collator, readable, **prevalence)
    looking = {}
    if looking_scans:
        few = readable.select(range(min(looking_scans, len(readable))))
        looking, swapped = measure_looking(
            model,
            collator,
            few,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            ci=score.get("ci"),
            seed=seed,
            operating_point=operating_point,
        )
        if swapped:
            own = {volume: predictions[volume] for volume in swapped}
            rows = {"model": results["model"]}
            if len(own) < len(predictions):
                rows["unshuffled"] = score_predictions(own, few, **score)["model"] | count_cut(cut, own)
            texts = {volume: written.report for volume, written in swapped.items()}
            counts = count_cut({volume: report.cut for volume, report in swapped.items()}, swapped)
            lines = {volume: written.line for volume, written in swapped.items() if written.line}
            of_others = {"lines": lines, "line_logits": None}
            rows["shuffled"] = score_predictions(texts, few, **score | of_others)["model"] | counts
            results = rows | results
            looking["coverage_change"] = coverage_change(
                own, texts, few, labeler=score.get("labeler", "rules"), ci=score.get("ci") or 0.95
            )
    write_results(results, out, predictions=predictions, looking=looking)
    written = (predictions[volume] for volume in readable.with_format(None)["volume"])
    plot_reports(readable, written, Path(out) / "figures" / "reports.png")
    return results


def coverage_change(own: dict[str, str], swapped: dict[str, str], scans: Dataset, *, labeler: str, ci: float) -> dict:
    """The change of Coverage when the same model gets volumes of other patients, see [`compare_reports`]."""
    volumes, references, labels = references_of(select_volumes(scans, own))
    reports = ([run[volume] for volume in volumes] for run in (own, swapped))
    return compare_reports(*reports, references, labels, volumes, labeler=labeler, ci=ci)["coverage"]


def write_results(results: dict[str, dict], out: str | Path, *, predictions: dict[str, str], looking: dict) -> None:
    """
    Writes `results.json`, `looking.json`, `generated_reports.json` and `figures/`, and prints the table.

    Args:
        results (`dict[str, dict]`):
            Metrics as from [`score_predictions`]. The means of `looking` are added to the entry `model`.
        out (`str` or `Path`):
            Folder to write to.
        predictions (`dict[str, str]`):
            Maps each VolumeName to its report.
        looking (`dict`):
            What [`measure_looking`] gives; empty if only a file of predictions was measured.
    """
    out, figures = Path(out), Path(out) / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    write_challenge_file(predictions, out / "generated_reports.json")
    model = results["model"]
    plot_labels(model["per_label"], model["n"], figures / "labels.png")
    if gaps := looking.get("gaps"):
        model |= {name: value for name, value in gaps.items() if not name.startswith("pair_gaps")}
        pairs = {kind: gaps[key] for kind in VOLUMES if (key := f"pair_gaps{suffix_of(kind)}") in gaps}
        means = {kind: gaps[f"loss_gap{suffix_of(kind)}"] for kind in pairs}
        plot_gaps(pairs, figures / "gaps.png", means)
    if curve := model.get("operating_curve"):
        plot_operating_curve(model, curve, figures / "operating_curve.png")
    if change := looking.get("coverage_change"):
        model["coverage_change_shuffled"] = change
    if matching := looking.get("matching"):
        model["matching"] = {difficulty: matching_summary(result) for difficulty, result in matching.items()}
        result = matching.get("random") or matching["hard"]
        plot_calibration(
            result["confidence"], np.array(result["ranks"]["pmi"]) == 1, out / "figures" / "calibration.png"
        )
    write_whole(out / "results.json", json.dumps(results, indent=2) + "\n")
    if looking:
        write_whole(out / "looking.json", json.dumps(looking) + "\n")
    known = model["n"] - model.get("cut_unknown", 0)
    warning = cut_warning(model.get("cut", 0), known, model.get("max_new_tokens"))
    lines = (
        write(model) for write in (format_intervals, format_places, format_lines, format_label_head, format_looking)
    )
    told = [format_table(results), format_prompt_only(results), *lines, warning]
    print("", *filter(None, told), f"written to {out}", sep="\n")


def matching_summary(matching: dict) -> dict:
    """The part of [`report_matching`] that `results.json` holds. The complete result is in `looking.json`."""
    certain = calibration_error(matching["confidence"], np.array(matching["ranks"]["pmi"]) == 1)
    others = {"pmi": matching["rules"]["pmi"], "text_only": matching["rules"]["text_only_mean"]}
    scores = {name: matching[name] for name in matching["chance"]}
    for rule, of_rule in (others | {"chance": matching["chance"]}).items():
        scores |= {f"{name}_{rule}": of_rule[name] for name in matching["chance"]}
    if "ci_level" in matching:
        scores |= {"top1_ci": matching["top1_ci"], "top1_pmi_ci": others["pmi"]["top1_ci"]}
    kept = {name: matching[name] for name in ("n", "num_options", "headline")}
    return scores | kept | {"calibration_error_pmi": certain}
